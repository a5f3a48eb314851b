"""JSON values and Python literals, in any mixture of the two spellings, from text that may arrive in pieces."""

from hermes_runtime.literals.scanner import MAX_NESTING, LiteralError, LiteralScanner, parse_value, scan_value

__all__ = ["MAX_NESTING", "LiteralError", "LiteralScanner", "parse_value", "scan_value"]
