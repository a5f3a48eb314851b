"""One generation of a turn: what was read from it, and what the turn ends with if it is accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hermes_runtime.demands import Demands, UnmetDemandError
from hermes_runtime.engines.base import Generation, TokenDelta, TokenLogprob, Usage
from hermes_runtime.lost_calls import cut_off
from hermes_runtime.messages import Assistant, InvalidToolCall, Message, ToolCall, ToolResult, User
from hermes_runtime.parser import Event, InvalidToolCallEvent, ReasoningDelta, StreamParser, TextDelta, ToolCallEvent

TurnFinishReason = Literal["stop", "length", "tool_calls", "cancelled"]


@dataclass(frozen=True, slots=True)
class TurnResult:
    """A finished turn.

    Attributes:
        content: Text without any markup.
        reasoning: What the model thought aloud, in `<scratch_pad>` or `<think>`.
        tool_calls: Well-formed calls, in order.
        invalid_tool_calls: Calls that must not run.
        finish_reason: `tool_calls` where the turn ended by itself and made a call.
        usage: Token counts over all attempts.
        repairs: How many further attempts were needed.
        token_ids: The generated ids of the accepted attempt.
        logprobs: One per id of the accepted attempt, where asked for.
    """

    content: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    invalid_tool_calls: tuple[InvalidToolCall, ...]
    finish_reason: TurnFinishReason
    usage: Usage
    repairs: int
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None


class Attempt:
    """One generation and what was read from it so far.

    Args:
        generation: The generation.
        reader: What reads its text.
        hold_events: Pass nothing on before the attempt is accepted.
        demands: What the answer must do, where no grammar makes it.
        max_calls: The answer ends with this call, where no grammar ends it.
        limit: What ends it where the model does not; see `length_limit`.

    Attributes:
        is_full: Whether it made all the calls it may; what follows is not read.
    """

    def __init__(
        self,
        generation: Generation,
        reader: StreamParser | VerbatimReader,
        *,
        hold_events: bool = False,
        demands: Demands | None = None,
        max_calls: int | None = None,
        limit: str = "",
    ) -> None:
        self.generation = generation
        self.token_ids: list[int] = []
        self._texts: list[str] = []
        self._parser = reader
        self._hold_events = hold_events
        self._events: list[Event] = []
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
        return self._passed_on(self._bounded(self._parser.feed(delta.text)) if delta.text else [])

    def finish(self) -> list[Event]:
        """Close the parser; return the events to pass on, all of them where they were held and are accepted."""
        last = [] if self.is_full else self._bounded(self._parser.close(self._finish_reason))
        if self._finish_reason == "length":
            last = [self._cut_off(event) for event in last]
        if not self._hold_events:
            return self._passed_on(last)
        self._events += last
        return [] if self.needs_repair else self._events

    def break_off(self) -> list[Event]:
        """Return the last events of a generation that failed: a call that it left open is an invalid one."""
        return self._passed_on(self._parser.close("cancelled"))

    def check_demands(self) -> None:
        """Fail an answer that the model ended without doing what was demanded.

        Raises:
            UnmetDemandError: Says what is missing.
        """
        if self._demands is None or self._finish_reason != "stop":
            return
        if self._demands.is_failure(self.as_message().text, self._calls):
            raise UnmetDemandError(f"the model was asked in vain, and the engine takes no grammar: {self._missing}")

    def _cut_off(self, event: Event) -> Event:
        if not isinstance(event, InvalidToolCallEvent):
            return event
        usage = self.generation.usage
        tokens = usage.completion_tokens if usage else len(self.token_ids)
        return InvalidToolCallEvent(cut_off(event.call, tokens, self._limit))

    def _bounded(self, events: list[Event]) -> list[Event]:
        """Cut after the last call that may be made."""
        room = None if self._max_calls is None else self._max_calls - len(self._calls)
        if room is None:
            return events
        for index, event in enumerate(events):
            room -= isinstance(event, ToolCallEvent)
            if not room:
                self.is_full, self._finish_reason = True, "stop"
                return events[: index + 1]
        return events

    @property
    def _missing(self) -> str | None:
        return None if self._demands is None else self._demands.missing(self.as_message().text, self._calls)

    def _passed_on(self, events: list[Event]) -> list[Event]:
        self._events += events
        return [] if self._hold_events else events

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

    @property
    def _calls(self) -> tuple[ToolCall, ...]:
        return tuple(event.call for event in self._events if isinstance(event, ToolCallEvent))

    @property
    def _invalid(self) -> tuple[InvalidToolCall, ...]:
        return tuple(event.call for event in self._events if isinstance(event, InvalidToolCallEvent))

    def as_message(self) -> Assistant:
        """Return the turn as a message of the conversation."""
        text = "".join(event.text for event in self._events if isinstance(event, TextDelta))
        return Assistant(text, self._calls, self._invalid, tuple(self.token_ids) or None)  # some servers tell no ids

    def complaints(self) -> list[Message]:
        """Return the error of each call as a tool result: the repair exchange of Hermes-Function-Calling."""
        broken: list[Message] = []
        missing = self._missing
        for call in self._calls:
            other = missing or "another call of this turn could not be read, so none was made"
            reason = "; ".join(call.problems) or other
            broken.append(ToolResult(call.id, _VALIDATION_COMPLAINT.format(name=call.name, reason=reason), call.name))
        broken += [ToolResult(call.id, _PARSE_COMPLAINT.format(reason=call.error), call.name) for call in self._invalid]
        return broken if broken or missing is None else [User(missing)]

    def result(self, usage: Usage, repairs: int) -> TurnResult:
        """Return the turn's result, this attempt being the accepted one."""
        made_calls = self._finish_reason == "stop" and bool(self._calls)
        return TurnResult(
            content=self.as_message().text,
            reasoning="".join(event.text for event in self._events if isinstance(event, ReasoningDelta)),
            tool_calls=self._calls,
            invalid_tool_calls=self._invalid,
            finish_reason="tool_calls" if made_calls else self._finish_reason,
            usage=usage,
            repairs=repairs,
            token_ids=tuple(self.token_ids),
            logprobs=None if self._logprobs is None else tuple(self._logprobs),
        )


class VerbatimReader:
    """Reads all text as content, with the interface of a `StreamParser`."""

    def feed(self, text: str) -> list[Event]:
        """Return the text."""
        return [TextDelta(text)]

    def close(self, finish_reason: str) -> list[Event]:
        """Nothing is left to say."""
        return []


_VALIDATION_COMPLAINT = (
    "There was an error validating function call against function signature: {name}\n"
    "Here's the error traceback: {reason}\n"
    "Please call this function again with correct arguments within XML tags <tool_call></tool_call>"
)
_PARSE_COMPLAINT = (
    "There was an error parsing function calls\nHere's the error traceback: {reason}\n"
    "Please call the function again with correct syntax within XML tags <tool_call></tool_call>"
)
