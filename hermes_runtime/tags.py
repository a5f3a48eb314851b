"""The tags and markers of the format, each written down once.

What writes one (prompts, grammars, complaints) and what reads one (the parser, the choice of control tokens) is derived
from here. A family of models that puts calls into a tag of its own adds it to `CALLS`. The wording that a family was
trained on quotes its tags and is a family's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag that stands around something.

    Attributes:
        name: The word in it, as the training data spells it.
    """

    name: str

    @property
    def opening(self) -> str:
        """What is written before."""
        return f"<{self.name}>"

    @property
    def closing(self) -> str:
        """What is written after."""
        return f"</{self.name}>"


TOOL_CALL = Tag("tool_call")
TOOL_RESPONSE = Tag("tool_response")
TOOLS = Tag("tools")
SCHEMA = Tag("schema")
SCRATCH_PAD = Tag("scratch_pad")

CALLS = (TOOL_CALL,)
"""Tags that make a call of what stands in them, whatever it is."""

CALL_ALIASES = ("function_call", "tools", "tool", "response", "json", "JSON", "xml")
"""Names of tags that other models and prompts use; they make a call only of what names a known tool."""

REASONING = ("think", "thinking", SCRATCH_PAD.name, "scratchpad")
"""Names of the tags in which models reason."""

TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
PADDING = "</s>"

# How the parser lets models spell a tag, and what a grammar must therefore not let them write as text.
GAP = 2
"""Blanks at each seam of a tag: after its bracket, after its slash (or where that would be) and before its end."""

PLURAL = "s"
"""May follow the word of a call's tag."""

BROKEN_GAP = 4
"""White space between the word of a call's tag that lost its second bracket and the value that follows."""

VALUE = r"[{\[]"
"""What that value begins with, as a regular expression."""


def call_words(tags: Iterable[Tag] = CALLS, *, plural: bool = True) -> str:
    """Return a regular expression for the word of an opening or closing tag of a call; the case is the caller's."""
    return "|".join(f"{tag.name}{PLURAL}?" if plural else tag.name for tag in tags)
