"""The KV cache: its slots, attention over them, and passes over them as CUDA graphs."""
