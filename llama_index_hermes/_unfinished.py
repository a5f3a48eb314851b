"""Unfinished calls in LlamaIndex's messages: blocks whose arguments are JSON text that no reader accepts yet."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.llms.types import ToolCallBlock

from hermes_runtime.literals.partial_value import PartialValue


def unfinished(arguments: str) -> str:
    """Return the text without its last closing braces: it grows with the text, and is never a whole object."""
    return arguments.rstrip("} \t\r\n") or "{"


def is_unfinished(block: Any) -> bool:
    """Whether a block of a message is a call that is still being written."""
    return isinstance(block, ToolCallBlock) and isinstance(block.tool_kwargs, str)


def arguments_so_far(block: ToolCallBlock) -> Any:
    """Return the arguments of a call, of one that is still being written what is certain."""
    if not isinstance(block.tool_kwargs, str):
        return block.tool_kwargs
    written = PartialValue()
    written.feed(block.tool_kwargs)
    return written.value
