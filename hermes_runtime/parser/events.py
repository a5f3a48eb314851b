"""What a completion is made of while it arrives, and the writer that puts it in order."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hermes_runtime.messages import InvalidToolCall, ToolCall

_LINE_END = re.compile(r"[\r\n]")


@dataclass(frozen=True, slots=True)
class TextDelta:
    """New text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """New text of the model's reasoning, which is no part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """New text of the arguments of a call that is still being written.

    The deltas of one id come without anything between them and add up to JSON text that reads as the call's arguments;
    then, or after other calls of the same block, a `ToolCallEvent` or an `InvalidToolCallEvent` of that id ends them.
    There are none where the tool's name is not certain before its arguments.

    Attributes:
        id: The call's id.
        name: The tool's name.
        arguments: What is new of the JSON text; never ends inside an escape.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCallEvent:
    """A complete, well-formed call."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class InvalidToolCallEvent:
    """A call that must never run."""

    call: InvalidToolCall


Event = TextDelta | ReasoningDelta | ToolCallDelta | ToolCallEvent | InvalidToolCallEvent


class EventWriter:
    """Collects events; joins adjacent text and keeps the white space around markup out of the answer.

    What stands after markup, and from a line end on what stands before it, belongs to the markup unless text follows.

    Attributes:
        at_line_start: Only spaces stand between the last newline, or the last markup, and what is written next.
        silent: Nothing was written yet, neither text nor calls nor reasoning.
    """

    def __init__(self) -> None:
        self.at_line_start = True
        self.silent = True
        self._events: list[Event] = []
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._wrote_text = False
        self._begun_reasoning = False
        self._wrote_markup = False
        self._after_markup = False
        # Whitespace and padding, until it is known whether it belongs to the answer.
        self._waiting: list[str] = []

    def text(self, text: str) -> None:
        """Write text of the answer."""
        if not text:
            return
        newline = text.rfind("\n")
        if newline >= 0:
            self.at_line_start = text[newline:].isspace()
        else:
            self.at_line_start = self.at_line_start and text.isspace()
        if text.isspace() and (self._waiting or self._after_markup or not self._wrote_text):
            self._waiting.append(text)
            return
        end = _end_of_last_line(text)
        self._write(text[:end])
        if text[end:]:
            self._waiting.append(text[end:])

    def padding(self, text: str) -> None:
        """Write what is no part of the answer where nothing but padding and whitespace follows it."""
        self.markup()
        self._waiting.append(text)

    def markup(self) -> None:
        """Say that markup stood here."""
        self.at_line_start = True
        self._wrote_markup = self._after_markup = True

    def close(self) -> None:
        """Say that the answer ends here."""
        if self._waiting and not self._after_markup:
            self._write("")

    def reasoning(self, text: str) -> None:
        """Write reasoning."""
        if not self._begun_reasoning:
            text = text.lstrip()
        if not text:
            return
        self._flush_text()
        self._reasoning.append(text)
        self._begun_reasoning = True
        self.silent = False

    def end_reasoning(self) -> None:
        """Say that the reasoning closed."""
        self._flush_reasoning()
        self._begun_reasoning = False
        self.markup()

    def call_delta(self, delta: ToolCallDelta) -> None:
        """Write a part of a call."""
        self._flush_text()
        self._flush_reasoning()
        self._events.append(delta)
        self.silent = False

    def outcomes(self, calls: list[ToolCall | InvalidToolCall]) -> None:
        """Write calls."""
        if not calls:
            return
        self._flush_text()
        self._flush_reasoning()
        self._events += [ToolCallEvent(c) if isinstance(c, ToolCall) else InvalidToolCallEvent(c) for c in calls]
        self.silent = False

    def take(self) -> list[Event]:
        """Return the events since the last call."""
        self._flush_text()
        self._flush_reasoning()
        events, self._events = self._events, []
        return events

    def _write(self, text: str) -> None:
        text = "".join([*self._waiting, text])
        if self._wrote_markup and not self._wrote_text:
            text = text.lstrip()
        if not text:
            return
        self._flush_reasoning()
        self._text.append(text)
        self._waiting = []
        self._wrote_text = True
        self._after_markup = self.silent = False

    def _flush_text(self) -> None:
        if self._text:
            self._events.append(TextDelta("".join(self._text)))
            self._text = []

    def _flush_reasoning(self) -> None:
        if self._reasoning:
            self._events.append(ReasoningDelta("".join(self._reasoning)))
            self._reasoning = []


def _end_of_last_line(text: str) -> int:
    """Return where the line ends begin that a text ends in."""
    end = len(text.rstrip())
    found = _LINE_END.search(text, end)
    return found.start() if found else len(text)
