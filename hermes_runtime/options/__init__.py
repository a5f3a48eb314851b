"""Options of a generation: what they are, which of hosted models' they answer to, and as fields of a framework's class."""
