"""What a turn demands of its answer, checked on the answer itself: for engines that take no grammar, or not all of it.

A grammar keeps these by construction. Without one, an answer that misses a demand is shown to the model with what is
missing, as often as `max_repairs` allows; the turn then fails. A turn that may not repair is refused before it begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hermes_runtime.errors import EngineError, InvalidRequestError, ToolChoiceError
from hermes_runtime.json_answer import parse_json
from hermes_runtime.messages import ToolCall, ToolChoice


class UnmetDemandError(EngineError):
    """The model did not do what was demanded, with all repairs used up."""


@dataclass(frozen=True, slots=True)
class Demands:
    """What is demanded of one answer.

    Attributes:
        choice: Which calls may or must be made.
        schema: JSON Schema of an answer that makes no call; frameworks check it again, so it is asked for but no
            failure.
        choices: An answer that makes no call is one of these strings.
    """

    choice: ToolChoice = field(default_factory=ToolChoice)
    schema: Mapping[str, Any] | None = None
    choices: tuple[str, ...] | None = None

    def check_possible(self, *, max_repairs: int, regex: str | None) -> None:
        """Refuse what could be missed without anybody noticing.

        Raises:
            ToolChoiceError: A tool choice, and no repair is allowed.
            InvalidRequestError: A form that nothing but a grammar keeps, or choices, and no repair is allowed.
        """
        why = "the engine takes no grammar that would keep it"
        if regex is not None:
            raise InvalidRequestError(f"regex={regex!r} cannot be kept: {why}")
        if max_repairs:
            return
        if self.choice != ToolChoice():
            raise ToolChoiceError(
                f"tool_choice ({self.choice.mode}) cannot be kept: {why}; set max_repairs to 1 or more to have "
                "the model asked again"
            )
        if self.choices is not None:
            raise InvalidRequestError(f"choices cannot be kept: {why}; set max_repairs to 1 or more")

    def missing(self, content: str, calls: Sequence[ToolCall]) -> str | None:
        """Return what an answer misses, as a sentence to the model; None where it misses nothing."""
        if wrong := self._missing_of_calls(calls):
            return wrong
        if calls or self.choice.mode == "required":
            return None
        if self.choices is not None and content.strip() not in self.choices:
            return "Answer with exactly one of: " + ", ".join(self.choices)
        if self.schema is not None:
            answer = parse_json(content, self.schema)
            if answer.problems:
                return "Answer with JSON that follows the schema: " + "; ".join(answer.problems)
        return None

    def is_failure(self, content: str, calls: Sequence[ToolCall]) -> bool:
        """Whether what is missing cannot be left to the caller to find."""
        return Demands(self.choice, None, self.choices).missing(content, calls) is not None

    def _missing_of_calls(self, calls: Sequence[ToolCall]) -> str | None:
        if self.choice.mode == "none":
            return "Call no function now; answer in words." if calls else None
        names = " or ".join(self.choice.names)
        if self.choice.mode == "required" and not calls:
            return f"Call {f'the function {names}' if names else 'a function'} now."
        if names and any(call.name not in self.choice.names for call in calls):
            return f"Call the function {names} and no other."
        return None
