"""Events of a turn -> cumulative LlamaIndex responses. Every response owns all that it holds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any, Protocol

from llama_index.core.base.llms.types import (
    ChatResponse,
    CompletionResponse,
    LogProb,
    ThinkingBlock,
)

from hermes_runtime.engines.base import TokenLogprob
from hermes_runtime.messages import InvalidToolCall, ToolCall
from hermes_runtime.parser import (
    Event,
    InvalidToolCallEvent,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallEvent,
)
from hermes_runtime.problems import PROBLEMS_KEY
from hermes_runtime.turn import TurnResult
from llama_index_hermes._messages import assistant_message


class RunningTurn(Protocol):
    """What the responses are made from: a `Turn`, or a raw completion that looks like one."""

    def __iter__(self) -> Iterator[Event]: ...

    def __aiter__(self) -> AsyncIterator[Event]: ...

    def cancel(self) -> None:
        """Stop the computation."""

    @property
    def result(self) -> TurnResult:
        """The finished turn."""


def chat_response(turn: RunningTurn, model: str) -> ChatResponse:
    """Run a turn to its end."""
    for _ in turn:
        pass
    return _final(turn.result, model, delta=None)


async def achat_response(turn: RunningTurn, model: str) -> ChatResponse:
    """Run a turn to its end without blocking the event loop."""
    async for _ in turn:
        pass
    return _final(turn.result, model, delta=None)


def chat_responses(turn: RunningTurn, model: str) -> Generator[ChatResponse, None, None]:
    """Yield one response per event, then one more with the usage: never none."""
    so_far = _SoFar()
    for event in turn:
        yield so_far.add(event)
    yield _final(turn.result, model, delta="")


async def achat_responses(turn: RunningTurn, model: str) -> AsyncGenerator[ChatResponse, None]:
    """Yield what `chat_responses` yields."""
    so_far = _SoFar()
    async for event in turn:
        yield so_far.add(event)
    yield _final(turn.result, model, delta="")


def completion_response(response: ChatResponse) -> CompletionResponse:
    """Return the text of a chat response as a completion, which has no other room for what was thought before it."""
    thoughts = "".join(block.content or "" for block in response.message.blocks if isinstance(block, ThinkingBlock))
    return CompletionResponse(
        text=response.message.content or "",
        delta=response.delta,
        raw=response.raw,
        logprobs=response.logprobs,
        additional_kwargs={**response.additional_kwargs, **({"thinking": thoughts} if thoughts else {})},
    )


class _SoFar:
    """What a turn has said until now."""

    def __init__(self) -> None:
        self._text = ""
        self._reasoning = ""
        self._calls: list[ToolCall] = []
        self._invalid: list[InvalidToolCall] = []
        self._begun: dict[str, ToolCallDelta] = {}

    def add(self, event: Event) -> ChatResponse:
        """Take an event, return the message so far and what is new in it."""
        delta, extra = "", {}
        match event:
            case TextDelta(text):
                self._text += text
                delta = text
            case ReasoningDelta(text):
                self._reasoning += text
                extra = {"thinking_delta": text}
            case ToolCallDelta(call_id, name, arguments):
                begun = self._begun.get(call_id)
                self._begun[call_id] = ToolCallDelta(call_id, name, (begun.arguments if begun else "") + arguments)
            case ToolCallEvent(call):
                self._begun.pop(call.id, None)
                self._calls.append(call)
            case InvalidToolCallEvent(call):
                self._begun.pop(call.id, None)
                self._invalid.append(call)
        message = assistant_message(
            self._text, self._reasoning, self._calls, self._invalid, begun=tuple(self._begun.values())
        )
        return ChatResponse(message=message, delta=delta, additional_kwargs=extra)


def _final(result: TurnResult, model: str, *, delta: str | None) -> ChatResponse:
    usage = {
        "prompt_tokens": result.usage.prompt_tokens,
        "completion_tokens": result.usage.completion_tokens,
        "total_tokens": result.usage.prompt_tokens + result.usage.completion_tokens,
    }
    raw: dict[str, Any] = {
        "model": model,
        "finish_reason": result.finish_reason,
        "usage": {**usage, "cached_tokens": result.usage.cached_tokens},
        "repairs": result.repairs,
    }
    problems = {call.id: [*map(str, call.problems)] for call in result.tool_calls if call.problems}
    if problems:
        raw[PROBLEMS_KEY] = problems
    return ChatResponse(
        message=assistant_message(result.content, result.reasoning, result.tool_calls, result.invalid_tool_calls),
        delta=delta,
        raw=raw,
        logprobs=None if result.logprobs is None else [_logprobs(token) for token in result.logprobs],
        additional_kwargs=usage,
    )


def _logprobs(token: TokenLogprob) -> list[LogProb]:
    """Return the chosen token first, then the alternatives to it, best first."""
    others = [other for other in token.top if other.id != token.id]
    return [
        LogProb(token=each.text, logprob=each.logprob, bytes=list(each.text.encode("utf-8", "replace")))
        for each in (token, *others)
    ]
