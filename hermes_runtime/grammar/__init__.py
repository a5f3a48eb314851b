"""One grammar for a turn: text, calls and the final answer, written in the language that an engine reads."""

from hermes_runtime.grammar.build import DEFAULT_MAX_CALLS, Grammar, build_grammar

__all__ = ["DEFAULT_MAX_CALLS", "Grammar", "build_grammar"]
