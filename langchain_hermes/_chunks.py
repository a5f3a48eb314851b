"""The events of a turn -> LangChain chunks. Every path, streamed or not, sync or async, gets its message from here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from hermes_runtime.engines.base import TokenLogprob
from hermes_runtime.messages import InvalidToolCall, ToolCall
from hermes_runtime.parser import Event, InvalidToolCallEvent, ReasoningDelta, TextDelta, ToolCallEvent
from hermes_runtime.turn import TurnResult

PROVIDER = "hermes"

# LangChain completes the arguments of a streamed call that was cut, and agents then run it. A closing bracket that
# nothing opened is what no JSON reader, strict or forgiving, gets past.
_POISON = "]"


def without_poison(arguments: str) -> str:
    """Return the raw text of an invalid call as the model wrote it."""
    return arguments.removeprefix(_POISON)


class ChunkWriter:
    """Turns the events of one turn, and then its result, into chunks whose sum is the message.

    Args:
        model_name: Reported with the result.
        as_blocks: Content is a list of standard blocks (`output_version="v1"`) rather than a string.
    """

    def __init__(self, model_name: str, *, as_blocks: bool) -> None:
        self._model_name = model_name
        self._as_blocks = as_blocks
        # Text and calls share the numbers: LangChain merges blocks of one index, whatever their kind.
        self._index = -1
        self._open: type[Event] | None = None

    def chunk(self, event: Event | TurnResult) -> ChatGenerationChunk:
        """Return the chunk of one event; the result's is the last one."""
        if isinstance(event, TurnResult):
            return self._last(event)
        self._count(type(event))
        match event:
            case TextDelta(text):
                return self._content({"type": "text", "text": text}, text)
            case ReasoningDelta(text):
                return self._content({"type": "reasoning", "reasoning": text}, "", reasoning=text)
            case ToolCallEvent(call):
                return self._call(call)
            case InvalidToolCallEvent(call):
                return self._invalid_call(call)

    def result(self, events: Iterable[Event | TurnResult]) -> ChatResult:
        """Return the message that the chunks of all events add up to."""
        first, *rest = [self.chunk(event) for event in _joined(events)]
        whole = first + rest
        message = message_chunk_to_message(whole.message)
        assert isinstance(message, AIMessage)
        problems = message.response_metadata.get("tool_call_problems", {})
        for call in message.invalid_tool_calls:
            # Chunks have no room for it.
            call["error"] = "; ".join(problems[call["id"]])
        return ChatResult(generations=[ChatGeneration(message=message, generation_info=whole.generation_info)])

    def _count(self, kind: type[Event]) -> None:
        if kind is not self._open or kind in (ToolCallEvent, InvalidToolCallEvent):
            self._index += 1
        self._open = kind

    def _content(self, block: dict[str, Any], text: str, *, reasoning: str = "") -> ChatGenerationChunk:
        if self._as_blocks:
            return self._generation(content=[{**block, "index": self._index}])
        return self._generation(content=text, additional_kwargs={"reasoning_content": reasoning} if reasoning else {})

    def _call(self, call: ToolCall) -> ChatGenerationChunk:
        arguments = json.dumps(call.arguments, ensure_ascii=False)
        chunk = tool_call_chunk(name=call.name, args=arguments, id=call.id, index=self._index)
        return self._generation(content=[dict(chunk)] if self._as_blocks else "", tool_call_chunks=[chunk])

    def _invalid_call(self, call: InvalidToolCall) -> ChatGenerationChunk:
        arguments = _POISON + call.arguments
        chunk = tool_call_chunk(name=call.name, args=arguments, id=call.id, index=self._index)
        block = {
            "type": "invalid_tool_call",
            "id": call.id,
            "name": call.name,
            "args": arguments,
            "error": call.error,
            "index": self._index,
        }
        return self._generation(content=[block] if self._as_blocks else "", tool_call_chunks=[chunk])

    def _last(self, result: TurnResult) -> ChatGenerationChunk:
        # Once each: LangChain joins the strings of several chunks.
        metadata: dict[str, Any] = {"model_name": self._model_name, "finish_reason": result.finish_reason}
        if result.logprobs is not None:
            metadata["logprobs"] = {"content": [_logprob(token) for token in result.logprobs]}
        if problems := _problems(result):
            metadata["tool_call_problems"] = problems
        if result.repairs:
            metadata["repairs"] = result.repairs
        return self._generation(
            content=[] if self._as_blocks else "",
            metadata=metadata,
            usage_metadata=_usage(result),
            chunk_position="last",
        )

    def _generation(
        self,
        *,
        content: str | list[str | dict[str, Any]],
        tool_call_chunks: list[ToolCallChunk] | None = None,
        metadata: dict[str, Any] | None = None,
        **fields: Any,
    ) -> ChatGenerationChunk:
        shared = {"model_provider": PROVIDER, **({"output_version": "v1"} if self._as_blocks else {})}
        message = AIMessageChunk(
            content=content,
            tool_call_chunks=tool_call_chunks or [],
            response_metadata={**shared, **(metadata or {})},
            **fields,
        )
        return ChatGenerationChunk(message=message, generation_info=metadata)


def _joined(events: Iterable[Event | TurnResult]) -> Iterator[Event | TurnResult]:
    """Join neighboring deltas of one kind, so that a whole answer costs a handful of chunks."""
    held: TextDelta | ReasoningDelta | None = None
    for event in events:
        if held is not None and type(event) is type(held):
            held = type(held)(held.text + event.text)
            continue
        if held is not None:
            yield held
        held = event if isinstance(event, TextDelta | ReasoningDelta) else None
        if held is None:
            yield event


def _problems(result: TurnResult) -> dict[str, list[str]]:
    """Return what is wrong with the calls, by id: what they break in their schema, or why they cannot be read."""
    broken = {call.id: list(call.problems) for call in result.tool_calls if call.problems}
    return broken | {call.id: [call.error] for call in result.invalid_tool_calls}


def _usage(result: TurnResult) -> UsageMetadata:
    usage = result.usage
    return UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        input_token_details=InputTokenDetails(cache_read=usage.cached_tokens),
    )


def _logprob(token: TokenLogprob) -> dict[str, Any]:
    """Return a token in the form of OpenAI's `logprobs.content`."""
    entry = {"token": token.text, "bytes": list(token.text.encode("utf-8", "surrogatepass")), "logprob": token.logprob}
    return {**entry, "top_logprobs": [_logprob_leaf(other) for other in token.top]}


def _logprob_leaf(token: TokenLogprob) -> dict[str, Any]:
    return {"token": token.text, "bytes": list(token.text.encode("utf-8", "surrogatepass")), "logprob": token.logprob}
