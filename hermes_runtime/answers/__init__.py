"""Answers that must be values: which one is asked for, how it is found, and what Python value it stands for."""
