"""The events of a turn -> LangChain chunks. Every path, streamed or not, sync or async, gets its message from here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from operator import add
from typing import Any, assert_never

from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from hermes_runtime.engines.base import TokenLogprob
from hermes_runtime.literals.partial_value import PartialValue
from hermes_runtime.messages import InvalidToolCall, ToolCall
from hermes_runtime.parser import Event, InvalidToolCallEvent, ReasoningDelta, TextDelta, ToolCallDelta, ToolCallEvent
from hermes_runtime.problems import Problem, joined
from hermes_runtime.turn import TurnResult
from langchain_hermes._provider import PROVIDER
from langchain_hermes._unfinished import in_older_form, problems_of, told, unfinished

TOKEN_USAGE = "token_usage"  # noqa: S105
"""Key in `response_metadata` and `llm_output`: the token counts under the names that OpenAI's interface gives them."""


class EventChunks:
    """Turns the events of one completion into message chunks whose sum is the message.

    An invalid call is an unfinished one, whatever is wrong with it, and stands in the form of OpenAI's older interface
    as well where no call can run.

    Args:
        as_blocks: Content is a list of standard blocks (`output_version="v1"`) rather than a string.
        metadata: The `response_metadata` that every chunk has.

    Attributes:
        problems: What is wrong with the calls so far, by id: what they break in their schema, or why they cannot be
            read.
    """

    def __init__(self, *, as_blocks: bool, metadata: Mapping[str, Any] | None = None) -> None:
        self.problems: dict[str, tuple[Problem, ...]] = {}
        self._as_blocks = as_blocks
        self._metadata = {**(metadata or {}), **({"output_version": "v1"} if as_blocks else {})}
        # Text and calls share the numbers: LangChain merges blocks of one index, whatever their kind.
        self._last_index = -1
        self._open_kind: type[Event] | None = None
        self._written: dict[str, tuple[int, PartialValue]] = {}
        self._has_call = False

    def chunks(self, event: Event) -> list[AIMessageChunk]:
        """Return the chunks of one event; the end of a call that was streamed whole has none."""
        match event:
            case TextDelta(text):
                return [self._content(type(event), {"type": "text", "text": text}, text)]
            case ReasoningDelta(text):
                return [self._content(type(event), {"type": "reasoning", "reasoning": text}, "", reasoning=text)]
            case ToolCallDelta(call_id, name, arguments):
                return [self._piece(call_id, name, arguments)]
            case ToolCallEvent(call):
                self._has_call = True
                if call.problems:
                    self.problems[call.id] = call.problems
                return [] if self._written.pop(call.id, None) else [self._call(call)]
            case InvalidToolCallEvent(call):
                self.problems[call.id] = (call.problem,)
                return [self._invalid_call(call)]
        assert_never(event)

    def empty(self, **fields: Any) -> AIMessageChunk:
        """Return a chunk without content; `response_metadata` is laid over what every chunk has."""
        metadata = self._metadata | fields.pop("response_metadata", {})
        return AIMessageChunk(content=[] if self._as_blocks else "", response_metadata=metadata, **fields)

    def foreign(self, block: Mapping[str, Any]) -> AIMessageChunk:
        """Return a chunk with a block of a kind that no event has."""
        shown = {**block, "index": self.new_index()} if self._as_blocks else dict(block)
        return AIMessageChunk(content=[shown], response_metadata=dict(self._metadata))

    def call_chunk(
        self, chunk: ToolCallChunk, *, aside: Mapping[str, Any] | None = None, **extras: Any
    ) -> AIMessageChunk:
        """Return a chunk with a piece of a call, whose index is in `chunk`; `aside` are its `additional_kwargs`."""
        block = {**{key: value for key, value in chunk.items() if value is not None}, **extras}
        return AIMessageChunk(
            content=[block] if self._as_blocks else "",
            additional_kwargs=dict(aside or {}),
            tool_call_chunks=[chunk],
            response_metadata=dict(self._metadata),
        )

    def new_index(self) -> int:
        """Return an index that no block has."""
        self._open_kind = None
        self._last_index += 1
        return self._last_index

    def _content(
        self, kind: type[Event], block: Mapping[str, Any], text: str, *, reasoning: str = ""
    ) -> AIMessageChunk:
        index = self._last_index if kind is self._open_kind else self.new_index()
        self._open_kind = kind
        if self._as_blocks:
            return AIMessageChunk(content=[{**block, "index": index}], response_metadata=dict(self._metadata))
        aside = {"reasoning_content": reasoning} if reasoning else {}
        return AIMessageChunk(content=text, additional_kwargs=aside, response_metadata=dict(self._metadata))

    def _piece(self, call_id: str, name: str, arguments: str) -> AIMessageChunk:
        begun = self._written.get(call_id)
        index, written = begun or (self.new_index(), PartialValue())
        self._written[call_id] = index, written
        written.feed(arguments)
        head = {} if begun else {"name": name, "id": call_id}
        return self.call_chunk(tool_call_chunk(args=arguments, index=index, **head))

    def _call(self, call: ToolCall) -> AIMessageChunk:
        arguments = json.dumps(call.arguments, ensure_ascii=False)
        return self.call_chunk(tool_call_chunk(name=call.name, args=arguments, id=call.id, index=self.new_index()))

    def _invalid_call(self, call: InvalidToolCall) -> AIMessageChunk:
        aside = {} if self._has_call else {"tool_calls": [in_older_form(call)]}
        if begun := self._written.pop(call.id, None):
            index, written = begun
            chunk = tool_call_chunk(args=unfinished(written, call.arguments), index=index)
            return self.call_chunk(chunk, aside=aside, error=call.error)
        arguments = unfinished(PartialValue(), call.arguments)
        chunk = tool_call_chunk(name=call.name, args=arguments, id=call.id, index=self.new_index())
        return self.call_chunk(chunk, aside=aside, type="invalid_tool_call", error=call.error)


class ChunkWriter:
    """Turns the events of one turn, and then its result, into the chunks of a chat model.

    Args:
        model_name: Reported with the result.
        as_blocks: See `EventChunks`.
        as_function_call: A call stands where OpenAI's interface had it before there were tools, and parsers of that
            time look: in `additional_kwargs["function_call"]`.
    """

    def __init__(self, model_name: str, *, as_blocks: bool, as_function_call: bool = False) -> None:
        self._model_name = model_name
        self._as_function_call = as_function_call
        self._writer = EventChunks(as_blocks=as_blocks, metadata={"model_provider": PROVIDER})

    def chunks(self, event: Event | TurnResult) -> list[ChatGenerationChunk]:
        """Return the chunks of one event; the result's is the last one."""
        if isinstance(event, TurnResult):
            return [self._last(event)]
        messages = self._writer.chunks(event)
        if self._as_function_call:
            messages = [_with_function_call(message) for message in messages]
        return [ChatGenerationChunk(message=message) for message in messages]

    def result(self, events: Iterable[Event | TurnResult]) -> ChatResult:
        """Return the message that the chunks of all events add up to."""
        chunks = [chunk for event in _joined(events) for chunk in self.chunks(event)]
        message = finished([chunk.message for chunk in chunks])
        generation = ChatGeneration(message=message, generation_info=chunks[-1].generation_info)
        told = {key: message.response_metadata[key] for key in (TOKEN_USAGE, "model_name", "model_provider")}
        return ChatResult(generations=[generation], llm_output=told)

    def _last(self, result: TurnResult) -> ChatGenerationChunk:
        # Once each: LangChain joins the strings of several chunks.
        metadata: dict[str, Any] = {
            "model_name": self._model_name,
            "finish_reason": result.finish_reason,
            TOKEN_USAGE: _token_usage(result),
        }
        if result.logprobs is not None:
            metadata["logprobs"] = {"content": [_logprob(token) for token in result.logprobs]}
        metadata |= told(self._writer.problems)
        if result.repairs:
            metadata["repairs"] = result.repairs
        message = self._writer.empty(response_metadata=metadata, usage_metadata=_usage(result), chunk_position="last")
        return ChatGenerationChunk(message=message, generation_info=metadata)


def _with_function_call(chunk: AIMessageChunk) -> AIMessageChunk:
    """Return a chunk whose piece of a call is OpenAI's `function_call`; the model makes one call at most."""
    if not chunk.tool_call_chunks:
        return chunk
    (piece,) = chunk.tool_call_chunks
    written = {"name": piece["name"] or "", "arguments": piece["args"] or ""}
    return AIMessageChunk(
        content=[] if isinstance(chunk.content, list) else "",
        additional_kwargs={"function_call": written},
        response_metadata=chunk.response_metadata,
    )


def finished(chunks: Iterable[Any]) -> AIMessage:
    """Return the message that chunks add up to, with the errors of invalid calls, for which chunks have no room."""
    message = message_chunk_to_message(reduce(add, chunks))
    assert isinstance(message, AIMessage)
    problems = problems_of(message)
    for call in message.invalid_tool_calls:
        if call["id"] in problems:
            call["error"] = joined(problems[call["id"]])
    return message


def _joined(events: Iterable[Event | TurnResult]) -> Iterator[Event | TurnResult]:
    """Join neighboring deltas of one kind, so that a whole answer costs a handful of chunks."""
    held: TextDelta | ReasoningDelta | ToolCallDelta | None = None
    for event in events:
        joined = _join(held, event)
        if joined is None and held is not None:
            yield held
        held = joined or (event if isinstance(event, TextDelta | ReasoningDelta | ToolCallDelta) else None)
        if held is None:
            yield event


def _join(left: object, right: object) -> TextDelta | ReasoningDelta | ToolCallDelta | None:
    match left, right:
        case TextDelta(text), TextDelta(more):
            return TextDelta(text + more)
        case ReasoningDelta(text), ReasoningDelta(more):
            return ReasoningDelta(text + more)
        case ToolCallDelta(call_id, name, arguments), ToolCallDelta(other_id, _, more) if call_id == other_id:
            return ToolCallDelta(call_id, name, arguments + more)
    return None


def _usage(result: TurnResult) -> UsageMetadata:
    usage = result.usage
    return UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        input_token_details=InputTokenDetails(cache_read=usage.cached_tokens),
    )


def _token_usage(result: TurnResult) -> dict[str, Any]:
    usage = result.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def summed_usage(usages: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sum of token counts, details included."""
    total: dict[str, Any] = {}
    for usage in usages:
        for key, count in usage.items():
            before = total.get(key)
            total[key] = summed_usage([before or {}, count]) if isinstance(count, Mapping) else (before or 0) + count
    return total


def _logprob(token: TokenLogprob) -> dict[str, Any]:
    """Return a token in the form of OpenAI's `logprobs.content`."""
    return {**_logprob_leaf(token), "top_logprobs": [_logprob_leaf(other) for other in token.top]}


def _logprob_leaf(token: TokenLogprob) -> dict[str, Any]:
    return {"token": token.text, "bytes": list(token.text.encode("utf-8", "surrogatepass")), "logprob": token.logprob}
