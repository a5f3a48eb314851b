"""How a grammar in Lark is told apart from others, by engines that hand it on to llguidance."""

from __future__ import annotations


def for_llguidance(lark: str) -> str:
    """Mark a grammar as llguidance's: llama.cpp asks for it, and vLLM would read some as xgrammar's Lark."""
    return "%llguidance {}\n" + lark
