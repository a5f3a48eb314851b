"""What prompts and grammars ask of a dialect."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hermes_runtime.messages import ToolCall, ToolSpec
from hermes_runtime.tags import TOOL_CALL, Tag


@dataclass(frozen=True, slots=True)
class CallShape:
    """How a call is written: an object with its name and its arguments, within a tag.

    Attributes:
        arguments_first: The object has `arguments` before `name`.
        tag: Stands around it. The parser reads those of `tags.CALLS`, and others around a known tool's name.
    """

    arguments_first: bool
    tag: Tag = TOOL_CALL

    @property
    def name_first(self) -> CallShape:
        """The same with the name first."""
        return replace(self, arguments_first=False)

    def block(self, body: str) -> str:
        """Wrap the text of a call in its tag."""
        return f"{self.tag.opening}\n{body}\n{self.tag.closing}"

    def value(self, call: ToolCall) -> dict[str, Any]:
        """Return the object of a call."""
        arguments, name = ("arguments", call.arguments), ("name", call.name)
        return dict((arguments, name) if self.arguments_first else (name, arguments))

    def around_arguments(self, names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what stands between the opening tag and the arguments, and after them: one of several texts each.

        Args:
            names: Of the tools that take the same arguments.
        """
        written = [json.dumps(name, ensure_ascii=False) for name in names]
        end = f"}}\n{self.tag.closing}"
        if self.arguments_first:
            return ('\n{"arguments": ',), tuple(f', "name": {name}{end}' for name in written)
        return tuple(f'\n{{"name": {name}, "arguments": ' for name in written), (end,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect(ABC):
    """How one family of models is told of tools, and how it writes calls.

    Attributes:
        name: Key in `DIALECTS`.
        shape: How a call is written.
        reasoning: The tag in which the model reasons before it calls; None where it was not trained to.
    """

    name: str
    shape: CallShape
    reasoning: Tag | None

    @abstractmethod
    def tools_prompt(self, tools: Sequence[ToolSpec]) -> str:
        """Return the system prompt that offers these tools."""

    @abstractmethod
    def schema_prompt(self, schema: Mapping[str, Any]) -> str:
        """Return the system prompt of JSON mode; an empty schema asks for any JSON."""

    @abstractmethod
    def system_text(
        self, tools: Sequence[ToolSpec], schema: Mapping[str, Any] | None, instructions: Sequence[str]
    ) -> str:
        """Return the text of the first turn, empty where there is none.

        Args:
            tools: Those that are offered; may be none.
            schema: Of the answer; None where it has no form.
            instructions: What the system messages at the beginning say; may be none.
        """

    @abstractmethod
    def call(self, call: ToolCall) -> str:
        """Return the text of one call in an earlier answer, its tag included."""

    @abstractmethod
    def results(self, results: Sequence[tuple[str | None, Any]]) -> tuple[str, str]:
        """Return role and text of the turn that tells the results of calls.

        Args:
            results: For each call, in their order: its tool's name, where that is known, and what the tool gave.
        """
