"""What a turn demands of its answer, checked on the answer itself: where no grammar keeps it, or not all of it.

A grammar keeps these by construction. Without one, an answer that misses a demand is shown to the model with what is
missing, as often as `max_repairs` allows; then the turn fails, so that nobody takes for an answer what is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hermes_runtime.answers.json_answer import parse_json
from hermes_runtime.messages import ToolCall, ToolChoice
from hermes_runtime.problems import joined


@dataclass(frozen=True, slots=True)
class Demands:
    """What is demanded of one answer.

    Attributes:
        choice: Which calls may or must be made.
        schema: JSON Schema of an answer that makes no call; frameworks check it again, so it is asked for but no
            failure.
        choices: An answer that makes no call is one of these strings, blanks around it apart.
        allow_unmet: The caller checks the answer himself: asked for, but no failure.
    """

    choice: ToolChoice = field(default_factory=ToolChoice)
    schema: Mapping[str, Any] | None = None
    choices: tuple[str, ...] | None = None
    allow_unmet: bool = False

    def missing(self, content: str, calls: Sequence[ToolCall]) -> str | None:
        """Return what an answer misses, as a sentence to the model; None where it misses nothing."""
        if wrong := self._missing_of_calls(calls):
            return wrong
        if calls:
            return None
        if self.choices is not None and self.chosen(content) is None:
            return "Answer with exactly one of: " + ", ".join(self.choices)
        if self.schema is not None:
            answer = parse_json(content, self.schema)
            if answer.problems:
                return "Answer with JSON that follows the schema: " + joined(answer.problems)
        return None

    def failure(self, content: str, calls: Sequence[ToolCall]) -> str | None:
        """Return what is missing and cannot be left to the caller to find."""
        return Demands(self.choice, None, self.choices).missing(content, calls) if self._can_fail else None

    def is_open(self, calls: Sequence[ToolCall], *, in_call: bool) -> bool:
        """Whether an answer that goes on may still turn out a failure, so that nothing of it can be shown yet.

        Args:
            calls: The calls that it has made so far.
            in_call: Another call has begun.
        """
        if not self._can_fail:
            return False
        return in_call or self._missing_of_calls(calls) is not None or (self.choices is not None and not calls)

    def chosen(self, content: str) -> str | None:
        """Return the choice that a text is, blanks around it apart."""
        choices = self.choices or ()
        return content if content in choices else next((text for text in choices if text == content.strip()), None)

    @property
    def _can_fail(self) -> bool:
        return not self.allow_unmet and (self.choice != ToolChoice() or self.choices is not None)

    def _missing_of_calls(self, calls: Sequence[ToolCall]) -> str | None:
        if self.choice.mode == "none":
            return "Call no function now; answer in words." if calls else None
        names = " or ".join(self.choice.names)
        if self.choice.mode == "required" and not calls:
            return f"Call {f'the function {names}' if names else 'a function'} now."
        if names and any(call.name not in self.choice.names for call in calls):
            return f"Call the function {names} and no other."
        return None
