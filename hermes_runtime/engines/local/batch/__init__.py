"""The running batch: its sequences, their drafts, and what each forward pass computes."""
