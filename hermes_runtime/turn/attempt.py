"""One generation of a turn: what was read from it, and what the turn ends with if it is accepted."""

from __future__ import annotations

from typing import Literal, Protocol

from hermes_runtime.engines.base import Generation, TokenDelta, TokenLogprob, Usage
from hermes_runtime.messages import Assistant, InvalidToolCall, Message, ToolCall, ToolResult, User
from hermes_runtime.parser.events import (
    Event,
    InvalidToolCallEvent,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallEvent,
)
from hermes_runtime.problems import joined
from hermes_runtime.tags import Tag
from hermes_runtime.turn.demands import Demands
from hermes_runtime.turn.lost_calls import cut_off
from hermes_runtime.turn.result import TurnResult

_NO_DEMANDS = Demands()


class Reader(Protocol):
    """Makes events of a text that arrives in pieces."""

    def feed(self, text: str) -> list[Event]:
        """Read on."""

    def close(self, finish_reason: str | None = "stop") -> list[Event]:
        """Say that the text ends here, and why."""


class Attempt:
    """One generation and what was read from it so far.

    Args:
        generation: The generation.
        reader: What reads its text.
        hold_events: Pass nothing on before the attempt is accepted; else what may still turn out a failure is held.
        demands: What the answer must do, where no grammar makes it.
        max_calls: The answer ends with this call, where no grammar ends it.
        limit: What ends the answer where the model does not; see `length_limit`.

    Attributes:
        is_full: Whether the answer made all the calls that it may; what follows them is not read.
    """

    def __init__(
        self,
        generation: Generation,
        reader: Reader,
        *,
        hold_events: bool = False,
        demands: Demands = _NO_DEMANDS,
        max_calls: int | None = None,
        limit: str = "",
    ) -> None:
        self.generation = generation
        self.token_ids: list[int] = []
        self._texts: list[str] = []
        self._parser = reader
        self._hold_events = hold_events
        self._events: list[Event] = []
        self._calls: list[ToolCall] = []
        self._invalid: list[InvalidToolCall] = []
        self._passed = 0
        self._logprobs: list[TokenLogprob] | None = None
        self._finish_reason: Literal["stop", "length", "cancelled"] = "cancelled"
        self._demands = demands
        self._max_calls = max_calls
        self._limit = limit
        self.is_full = False

    def feed(self, delta: TokenDelta) -> list[Event]:
        """Take a delta, return the events to pass on now."""
        self.token_ids += delta.ids
        self._texts.append(delta.text)
        if delta.logprobs is not None:
            self._logprobs = [] if self._logprobs is None else self._logprobs
            self._logprobs += delta.logprobs
        if delta.finish_reason is not None:
            self._finish_reason = delta.finish_reason
        if delta.text:
            self._take(self._parser.feed(delta.text))
        return self._passed_on()

    def finish(self) -> list[Event]:
        """Close the parser; return the events to pass on, all of them where they were held and are accepted."""
        if not self.is_full:
            last = self._parser.close(self._finish_reason)
            is_cut = self._finish_reason == "length"
            self._take([self._cut_off(event) for event in last] if is_cut else last)
        if self.failure is not None or (self._hold_events and self.needs_repair):
            return []
        self._write_choice()
        return self._released()

    def break_off(self) -> list[Event]:
        """Return the last events of a generation that failed: a call that it left open is an invalid one."""
        self._take(self._parser.close("cancelled"))
        return self._passed_on()

    @property
    def failure(self) -> str | None:
        """What an answer misses that the model ended itself, where nobody but the turn would notice."""
        is_ended = self._finish_reason == "stop"
        return self._demands.failure(self.as_message().text, self._calls) if is_ended else None

    def _take(self, events: list[Event]) -> None:
        """Take note of events, but none after the last call that may be made."""
        for event in events:
            self._events.append(event)
            if isinstance(event, InvalidToolCallEvent):
                self._invalid.append(event.call)
            elif isinstance(event, ToolCallEvent):
                self._calls.append(event.call)
                if len(self._calls) == self._max_calls:
                    self.is_full, self._finish_reason = True, "stop"
                    return

    def _cut_off(self, event: Event) -> Event:
        if not isinstance(event, InvalidToolCallEvent):
            return event
        usage = self.generation.usage
        tokens = usage.completion_tokens if usage else len(self.token_ids)
        return InvalidToolCallEvent(cut_off(event.call, tokens, self._limit))

    def _passed_on(self) -> list[Event]:
        in_call = bool(self._events) and isinstance(self._events[-1], ToolCallDelta)
        if self._hold_events or self._demands.is_open(self._calls, in_call=in_call):
            return []
        return self._released()

    def _released(self) -> list[Event]:
        new = self._events[self._passed :]
        self._passed = len(self._events)
        return new

    def _write_choice(self) -> None:
        """Take the blanks off an answer that is one of the choices: whoever asked compares it with them."""
        chosen = self._demands.chosen(self.as_message().text)
        if chosen is not None and not self._calls and not self._passed and self._finish_reason == "stop":
            others = [event for event in self._events if not isinstance(event, TextDelta)]
            self._events = [*others, TextDelta(chosen)]

    @property
    def _missing(self) -> str | None:
        return self._demands.missing(self.as_message().text, self._calls)

    @property
    def text(self) -> str:
        """All that was generated, markup included."""
        return "".join(self._texts)

    @property
    def ended_itself(self) -> bool:
        """Whether the model closed the turn, with no call cut or malformed."""
        return self._finish_reason == "stop" and not self._invalid and not self.is_full

    @property
    def needs_repair(self) -> bool:
        """Whether showing the model its calls can help: more of the same length limit would not."""
        is_wrong = bool(self._invalid) or any(call.problems for call in self._calls)
        return self._finish_reason == "stop" and (is_wrong or self._missing is not None)

    def as_message(self) -> Assistant:
        """Return the turn as a message of the conversation."""
        text = "".join(event.text for event in self._events if isinstance(event, TextDelta))
        ids = tuple(self.token_ids) or None  # some servers tell no ids
        return Assistant(text, tuple(self._calls), tuple(self._invalid), ids)

    def complaints(self, tag: Tag) -> list[Message]:
        """Return the error of each call as a tool result: the repair exchange of Hermes-Function-Calling.

        Args:
            tag: What the dialect writes around a call.
        """
        tags = tag.opening + tag.closing
        broken: list[Message] = []
        missing = self._missing
        for call in self._calls:
            reason = joined(call.problems) or "another call of this turn could not be read, so none was made"
            is_sound = missing is not None and not call.problems and not self._invalid
            told = missing if is_sound else _VALIDATION_COMPLAINT.format(name=call.name, reason=reason, tags=tags)
            broken.append(ToolResult(call.id, told, call.name))
        broken += [
            ToolResult(call.id, _PARSE_COMPLAINT.format(reason=call.error, tags=tags), call.name)
            for call in self._invalid
        ]
        return broken if broken or missing is None else [User(missing)]

    def result(self, usage: Usage, repairs: int) -> TurnResult:
        """Return the turn's result, this attempt being the accepted one."""
        made_calls = self._finish_reason == "stop" and bool(self._calls)
        return TurnResult(
            content=self.as_message().text,
            reasoning="".join(event.text for event in self._events if isinstance(event, ReasoningDelta)),
            tool_calls=tuple(self._calls),
            invalid_tool_calls=tuple(self._invalid),
            finish_reason="tool_calls" if made_calls else self._finish_reason,
            usage=usage,
            repairs=repairs,
            token_ids=tuple(self.token_ids),
            logprobs=None if self._logprobs is None else tuple(self._logprobs),
        )


_VALIDATION_COMPLAINT = (
    "There was an error validating function call against function signature: {name}\n"
    "Here's the error traceback: {reason}\n"
    "Please call this function again with correct arguments within XML tags {tags}"
)
_PARSE_COMPLAINT = (
    "There was an error parsing function calls\nHere's the error traceback: {reason}\n"
    "Please call the function again with correct syntax within XML tags {tags}"
)
