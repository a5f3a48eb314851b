"""What can be known of a checkpoint before a weight is read; imports no torch."""
