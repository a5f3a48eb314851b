"""What a turn may consist of, decided once and written down by each grammar language's writer."""

from __future__ import annotations

import json
from dataclasses import dataclass

from hermes_runtime.grammar.schema_rule import SchemaRule

OPEN, CLOSE, NEWLINE = "<tool_call>", "</tool_call>", "\n"
PAD_OPEN, PAD_CLOSE = "<scratch_pad>", "</scratch_pad>"


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
        arguments_first: A call's JSON has `arguments` before `name`.
    """

    names: tuple[str, ...]
    rule: SchemaRule
    arguments_first: bool

    @property
    def pieces(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What stands between the opening tag and the arguments, and after them: one of several texts each."""
        names = [json.dumps(name, ensure_ascii=False) for name in self.names]
        if self.arguments_first:
            return ('\n{"arguments": ',), tuple(f', "name": {name}}}\n{CLOSE}' for name in names)
        return tuple(f'\n{{"name": {name}, "arguments": ' for name in names), (f"}}\n{CLOSE}",)


@dataclass(frozen=True, slots=True)
class TurnForm:
    """What a turn may be: free text that calls may follow, or calls alone, or an answer of a given form.

    Attributes:
        has_text: The turn is free text; calls, where there are some, may follow it. No final form is given then.
        calls: What may be called; empty for a turn without calls.
        most_calls: Upper bound on the calls of the turn.
        may_reason: A scratch pad may precede calls that no text precedes.
        final: An answer that stands alone.
    """

    has_text: bool = False
    calls: tuple[CallForm, ...] = ()
    most_calls: int = 1
    may_reason: bool = False
    final: SchemaRule | Choices | Pattern | None = None
