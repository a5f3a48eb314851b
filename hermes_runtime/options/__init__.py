"""Options: which of hosted models' names they answer to, their values, and fields of a framework's class."""
