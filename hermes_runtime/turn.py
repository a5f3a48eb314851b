"""One assistant turn: prompt, constraint, engine and parser joined into a stream of events.

The same `Turn` serves invoke and stream, threads and event loops, in both frameworks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from weakref import WeakKeyDictionary

from hermes_runtime.conversation import coerce_messages
from hermes_runtime.dialects import Dialect
from hermes_runtime.engines.base import (
    Engine,
    Generation,
    GenerationRequest,
    SamplingParams,
    TokenDelta,
    TokenLogprob,
    Usage,
)
from hermes_runtime.errors import ContextWindowExceededError, InvalidRequestError, SchemaError, ToolChoiceError
from hermes_runtime.grammar import MAX_CALLS, build_grammar
from hermes_runtime.messages import (
    Assistant,
    InvalidToolCall,
    Message,
    MessageLike,
    ToolCall,
    ToolChoice,
    ToolChoiceLike,
    ToolLike,
    ToolResult,
    ToolSpec,
    coerce_tools,
)
from hermes_runtime.parser import Event, InvalidToolCallEvent, ReasoningDelta, StreamParser, TextDelta, ToolCallEvent
from hermes_runtime.prompt import Prompt, build_prompt
from hermes_runtime.replay import ReplayMap
from hermes_runtime.validation import check_schema

TurnFinishReason = Literal["stop", "length", "tool_calls", "cancelled"]


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """Everything one assistant turn depends on.

    Attributes:
        messages: The conversation; message objects or OpenAI-style dicts.
        tools: What may be called.
        tool_choice: Which calls may or must be made; see `ToolChoice.coerce`.
        parallel_tool_calls: Whether one turn may make several calls.
        max_calls: Upper bound on the calls of the turn.
        schema: JSON Schema that the final answer follows; an empty one means any JSON object.
        regex: Regular expression that the final answer matches as a whole (Rust `regex` syntax).
        choices: The final answer is one of these strings.
        dialect: How the model is told of tools.
        constrained: Whether a grammar makes malformed calls impossible. Without it, what only the grammar can keep is
            refused: any tool choice but `auto`, bounds on the number of calls, `regex` and `choices`.
        sampling: Unset options come from the checkpoint.
        max_tokens: Upper bound on generated tokens of one attempt.
        stop: Strings that end the answer.
        seed: Makes sampling reproducible.
        timeout: Seconds for one attempt.
        logprobs: How many alternatives to report per token; None reports nothing.
        max_repairs: How often the model is shown a call that is malformed or breaks its schema, and asked again.
    """

    messages: Sequence[MessageLike]
    tools: Sequence[ToolLike] = ()
    tool_choice: ToolChoiceLike = None
    parallel_tool_calls: bool = True
    max_calls: int = MAX_CALLS
    schema: Mapping[str, Any] | None = None
    regex: str | None = None
    choices: Sequence[str] | None = None
    dialect: str | Dialect = "card"
    constrained: bool = True
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    timeout: float | None = None
    logprobs: int | None = None
    max_repairs: int = 0


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


_REPLAYS: WeakKeyDictionary[Engine, ReplayMap] = WeakKeyDictionary()


def render(engine: Engine, request: TurnRequest) -> Prompt:
    """Return the very prompt that a turn would send; its length is the exact token count of messages and tools."""
    return build_prompt(
        request.messages,
        tokenizer=engine.tokenizer,
        tools=request.tools,
        tool_choice=request.tool_choice,
        schema=request.schema,
        dialect=request.dialect,
        replay=_replay_of(engine),
    )


class Turn:
    """A running turn; iterate it once, from a thread or an event loop, then read `result`.

    Raises (on construction, before any computation):
        InvalidRequestError: And its subclasses, for whatever cannot be honoured.
        ContextWindowExceededError: The prompt leaves no room for an answer.
    """

    def __init__(self, engine: Engine, request: TurnRequest) -> None:
        self._engine = engine
        self._tools = coerce_tools(request.tools)
        self._choice = ToolChoice.coerce(request.tool_choice, self._tools)
        self._request = replace(request, messages=coerce_messages(request.messages))
        _check(self._request, self._tools, self._choice)
        self._constraint = _constraint(self._request, self._tools, self._choice) if request.constrained else None
        self._prompt = self._rendered()
        self._generation: Generation | None = None
        self._cancelled = False
        self._usage = Usage(0, 0)
        self._result: TurnResult | None = None

    def __iter__(self) -> Iterator[Event]:
        for attempt in self._attempts():
            try:
                for delta in attempt.generation:
                    yield from attempt.feed(delta)
                yield from attempt.finish()
            finally:
                attempt.generation.cancel()

    async def __aiter__(self) -> AsyncIterator[Event]:
        for attempt in self._attempts():
            try:
                async for delta in attempt.generation:
                    for event in attempt.feed(delta):
                        yield event
                for event in attempt.finish():
                    yield event
            finally:
                attempt.generation.cancel()

    def cancel(self) -> None:
        """Stop within one token; the turn then ends with what it has. Safe from any thread."""
        self._cancelled = True
        if self._generation is not None:
            self._generation.cancel()

    @property
    def result(self) -> TurnResult:
        """The finished turn.

        Raises:
            RuntimeError: The turn has not been iterated to its end.
        """
        if self._result is None:
            raise RuntimeError("the turn has no result before it was iterated to its end")
        return self._result

    def _attempts(self) -> Iterator[_Attempt]:
        """Yield attempts until one is accepted; each is consumed before the next is asked for."""
        for repairs in range(self._request.max_repairs + 1):
            is_last = repairs == self._request.max_repairs
            self._generation = self._engine.submit(self._generation_request())
            if self._cancelled:
                self._generation.cancel()
            attempt = _Attempt(self._generation, self._reader(), hold_events=not is_last)
            yield attempt
            self._usage += attempt.generation.usage or Usage(len(self._prompt.token_ids), len(attempt.token_ids))
            if is_last or not attempt.needs_repair:
                self._result = attempt.result(self._usage, repairs)
                self._remember(attempt)
                return
            self._request = replace(
                self._request, messages=(*self._request.messages, attempt.as_message(), *attempt.complaints())
            )
            self._prompt = self._rendered()

    def _reader(self) -> StreamParser | _VerbatimReader:
        request = self._request
        has_form = request.schema is not None or request.regex is not None or request.choices is not None
        # An answer of a given form has no markup: what looks like a tag is part of it.
        if has_form and not self._tools:
            return _VerbatimReader()
        return StreamParser(self._tools, only_name=self._only_name())

    def _only_name(self) -> str | None:
        """Return the one tool that the grammar lets the model call, if there is just one."""
        names = self._choice.names or tuple(tool.name for tool in self._tools)
        return names[0] if self._constraint is not None and len(names) == 1 else None

    def _rendered(self) -> Prompt:
        prompt = render(self._engine, self._request)
        if len(prompt.token_ids) >= self._engine.context_window:
            raise ContextWindowExceededError(len(prompt.token_ids), self._engine.context_window)
        return prompt

    def _generation_request(self) -> GenerationRequest:
        request = self._request
        return GenerationRequest(
            prompt_ids=self._prompt.token_ids,
            sampling=request.sampling,
            constraint=self._constraint,
            stop=request.stop,
            max_tokens=request.max_tokens,
            seed=request.seed,
            logprobs=request.logprobs,
            timeout=request.timeout,
        )

    def _remember(self, attempt: _Attempt) -> None:
        # A turn that was cut, or ended by a stop string, holds ids that the caller never sees as text.
        if attempt.ended_itself:
            _replay_of(self._engine).remember(
                self._prompt.token_ids, replace(attempt.as_message(), token_ids=None), attempt.token_ids
            )


class _Attempt:
    """One generation and what was read from it so far."""

    def __init__(self, generation: Generation, reader: StreamParser | _VerbatimReader, *, hold_events: bool) -> None:
        self.generation = generation
        self.token_ids: list[int] = []
        self._parser = reader
        self._hold_events = hold_events
        self._events: list[Event] = []
        self._logprobs: list[TokenLogprob] | None = None
        self._finish_reason: Literal["stop", "length", "cancelled"] = "cancelled"

    def feed(self, delta: TokenDelta) -> list[Event]:
        """Take a delta, return the events to pass on now."""
        self.token_ids += delta.ids
        if delta.logprobs is not None:
            self._logprobs = [] if self._logprobs is None else self._logprobs
            self._logprobs += delta.logprobs
        if delta.finish_reason is not None:
            self._finish_reason = delta.finish_reason
        return self._passed_on(self._parser.feed(delta.text) if delta.text else [])

    def finish(self) -> list[Event]:
        """Close the parser; return the events to pass on, all of them where they were held and are accepted."""
        last = self._parser.close(self._finish_reason)
        if not self._hold_events:
            return self._passed_on(last)
        self._events += last
        return [] if self.needs_repair else self._events

    def _passed_on(self, events: list[Event]) -> list[Event]:
        self._events += events
        return [] if self._hold_events else events

    @property
    def ended_itself(self) -> bool:
        """Whether the model closed the turn, with no call cut or malformed."""
        return self._finish_reason == "stop" and not self._invalid

    @property
    def needs_repair(self) -> bool:
        """Whether showing the model its calls can help: more of the same length limit would not."""
        return self._finish_reason == "stop" and (bool(self._invalid) or any(call.problems for call in self._calls))

    @property
    def _calls(self) -> tuple[ToolCall, ...]:
        return tuple(event.call for event in self._events if isinstance(event, ToolCallEvent))

    @property
    def _invalid(self) -> tuple[InvalidToolCall, ...]:
        return tuple(event.call for event in self._events if isinstance(event, InvalidToolCallEvent))

    def as_message(self) -> Assistant:
        """Return the turn as a message of the conversation."""
        text = "".join(event.text for event in self._events if isinstance(event, TextDelta))
        return Assistant(text, self._calls, self._invalid, tuple(self.token_ids))

    def complaints(self) -> list[Message]:
        """Return the error of each call as a tool result: the repair exchange of Hermes-Function-Calling."""
        broken: list[Message] = []
        for call in self._calls:
            reason = "; ".join(call.problems) or "another call of this turn could not be read, so none was made"
            broken.append(ToolResult(call.id, _VALIDATION_COMPLAINT.format(name=call.name, reason=reason), call.name))
        broken += [ToolResult(call.id, _PARSE_COMPLAINT.format(reason=call.error), call.name) for call in self._invalid]
        return broken

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


class _VerbatimReader:
    """Reads all text as content."""

    def feed(self, text: str) -> list[Event]:
        return [TextDelta(text)]

    def close(self, finish_reason: str) -> list[Event]:
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


def _check(request: TurnRequest, tools: Sequence[ToolSpec], choice: ToolChoice) -> None:
    for tool in tools:
        check_schema(tool.parameters, where=f"tool {tool.name!r}")
    if request.schema is not None:
        if not isinstance(request.schema, Mapping):
            raise SchemaError(f"the response schema must be a JSON Schema object, got {type(request.schema).__name__}")
        check_schema(request.schema, where="response schema")
    if request.max_repairs < 0:
        raise InvalidRequestError(f"max_repairs must be at least 0, got {request.max_repairs!r}")
    if request.constrained:
        return
    if choice != ToolChoice() or not request.parallel_tool_calls or request.max_calls != MAX_CALLS:
        raise ToolChoiceError(
            "tool_choice, parallel_tool_calls=False and max_calls are kept by the constraint; set constrained=True"
        )
    if request.regex is not None or request.choices is not None:
        raise InvalidRequestError("regex and choices are kept by the constraint; set constrained=True")


def _constraint(request: TurnRequest, tools: Sequence[ToolSpec], choice: ToolChoice) -> str:
    # Without tools too: the model then cannot write a call that nobody could answer.
    grammar = build_grammar(
        tools,
        tool_choice=choice,
        parallel_tool_calls=request.parallel_tool_calls,
        max_calls=request.max_calls,
        schema=request.schema,
        regex=request.regex,
        choices=request.choices,
        dialect=request.dialect,
    )
    return grammar.lark


def _replay_of(engine: Engine) -> ReplayMap:
    return _REPLAYS.setdefault(engine, ReplayMap())
