"""What a turn may consist of, decided once and written down by each grammar language's writer."""

from __future__ import annotations

from dataclasses import dataclass

from hermes_runtime.dialects import CallShape
from hermes_runtime.grammar.schema_rule import SchemaRule
from hermes_runtime.tags import CALLS, TOOL_CALL, Tag

NEWLINE = "\n"
"""Stands between two calls, and between reasoning and the first."""


@dataclass(frozen=True, slots=True)
class Choices:
    """An answer that is one of these strings."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pattern:
    """An answer that matches a regular expression as a whole."""

    regex: str


@dataclass(frozen=True, slots=True)
class CallForm:
    """Tools that share one schema, so that only their names tell them apart.

    Attributes:
        names: The tools' names.
        rule: What their arguments are.
        shape: How a call is written around them.
    """

    names: tuple[str, ...]
    rule: SchemaRule
    shape: CallShape

    @property
    def pieces(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What stands between the opening tag and the arguments, and after them: one of several texts each."""
        return self.shape.around_arguments(self.names)


@dataclass(frozen=True, slots=True)
class TurnForm:
    """What a turn may be: free text that calls may follow, or calls alone, or an answer of a given form.

    Attributes:
        has_text: The turn is free text; calls, where there are some, may follow it. No final form is given then.
        calls: What may be called; empty for a turn without calls.
        most_calls: Upper bound on the calls of the turn.
        tag: Stands around each call.
        reasoning: The tag of what may precede calls that no text precedes; None where nothing may.
        final: An answer that stands alone.
    """

    has_text: bool = False
    calls: tuple[CallForm, ...] = ()
    most_calls: int = 1
    tag: Tag = TOOL_CALL
    reasoning: Tag | None = None
    final: SchemaRule | Choices | Pattern | None = None

    @property
    def call_tags(self) -> tuple[Tag, ...]:
        """The tags that the parser may take for the beginning of a call; text must hold none of them."""
        return tuple(dict.fromkeys((*CALLS, self.tag)))
