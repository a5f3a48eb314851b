"""Linear layers over 4-bit weights, one kernel a file."""
