"""The agents of the demo, one framework a file."""
