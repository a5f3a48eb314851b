"""Output parsers for Hermes models behind any chat model or plain text model; `ChatHermes` shares their code."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Literal

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from pydantic import Field, field_validator

from hermes_runtime.answers.answer_type import AnswerType
from hermes_runtime.dialects import resolve_dialect
from hermes_runtime.literals.partial_value import PartialValue
from hermes_runtime.messages import new_call_id
from hermes_runtime.parser import Event, InvalidToolCallEvent, ReasoningDelta, StreamParser
from hermes_runtime.problems import Problem
from langchain_hermes._chunks import EventChunks, finished
from langchain_hermes._objects import TextReader
from langchain_hermes._reading import Piece, Reader, ReadingOutputParser
from langchain_hermes._tools import answer_type, to_openai_tools
from langchain_hermes._unfinished import from_record, told, unfinished

_WHY_IT_ENDED = ("finish_reason", "stop_reason", "stopReason", "done_reason", "finishReason")
_TOO_LONG = frozenset(("length", "max_tokens", "max_output_tokens", "max_new_tokens", "model_length"))
_THOUGHTS = "reasoning_content"
_TEXT_BLOCKS = frozenset(("text", "text-plain", "input_text", "output_text"))

# Blocks that repeat what a message says elsewhere, in `tool_calls` above all, or that mean nothing here.
_TOLD_OTHERWISE = frozenset(
    (
        "tool_call",
        "tool_call_chunk",
        "tool_use",
        "input_json_delta",
        "invalid_tool_call",
        "function_call",
        "reasoning",
        "reasoning_content",
        "thinking",
        "redacted_thinking",
        "refusal",
        "server_tool_call",
        "server_tool_call_chunk",
        "server_tool_result",
        "non_standard",
    )
)


class HermesToolsOutputParser(ReadingOutputParser[AIMessage]):
    """Reads Hermes tool calls in the text of any model's answer and makes native tool calls of them.

    A text or a message goes in; out comes an `AIMessage` with `tool_calls`, `invalid_tool_calls` and a content that is
    free of markup. What else the message has, such as its usage, its id or calls of its own, is kept. Streams flow:
    text as it arrives, arguments as soon as the tool's name is certain. The sum of the chunks is the message that
    `invoke` returns. A call that was cut off is invalid on every path and cannot be run.

    Args:
        tools: The tools that the model was shown, in any form that `ChatHermes.bind_tools` takes. Calls are checked
            against them, `response_metadata["tool_call_problems"]` says what they break, and where no `<tool_call>` tag
            stands around a call, only their names make it one.
        output_version: `"v1"` makes the content a list of standard blocks.

    Raises:
        HermesInvalidRequestError: On construction: a tool that is no function, or an unknown option.

    Example:
        ```python
        chain = HermesPrompt(tools=[get_weather]) | other_model | HermesToolsOutputParser(tools=[get_weather])
        ```
    """

    tools: list[Any] = Field(default_factory=list)
    output_version: Literal["v0", "v1"] = "v0"

    @field_validator("tools", mode="after")
    @classmethod
    def _check_tools(cls, tools: list[Any]) -> list[Any]:
        converted = to_openai_tools(tools)
        StreamParser(converted)
        return converted

    @property
    def OutputType(self) -> type[AIMessage]:  # noqa: N802 - LangChain's name
        """What comes out."""
        return AIMessage

    @property
    def _type(self) -> str:
        return "hermes_tools"

    def _reader(self) -> Reader[AIMessage]:
        return _ToolsReader(StreamParser(self.tools), EventChunks(as_blocks=self.output_version == "v1"))

    def _whole(self, parts: list[AIMessage]) -> AIMessage:
        return finished(parts or [AIMessageChunk(content="")])


class HermesJsonOutputParser(ReadingOutputParser[Any]):
    """Reads the value in an answer that should be one: JSON, in Python's spelling too, in a fence, after reasoning.

    Nothing that was cut off is completed. On streams, what is there of an object or a list comes out as it grows, and
    last the whole, checked value. Instances of a class come out as soon as the class accepts them, a list without the
    item that its class does not accept yet. The last part may still grow, and become another member of a union.

    Args:
        schema: What the value must be, in any form that `ChatHermes.with_structured_output` takes; None takes any JSON
            value. Types give their own values, such as an instance, a list of them or a member of an Enum; of a JSON
            Schema, and of a function's, values are plain JSON.

    Raises:
        HermesSchemaError: On construction: no JSON Schema can be read from `schema`.
        OutputParserException: When reading: there is no value, or none that follows the schema.
    """

    target: Any = Field(default=None, alias="schema")

    @field_validator("target", mode="after")
    @classmethod
    def _check_target(cls, target: Any) -> Any:
        answer_type(target)
        return target

    @property
    def OutputType(self) -> Any:  # noqa: N802 - LangChain's name
        """What comes out."""
        adapter = self._target_type.adapter
        return Any if adapter is None else adapter._type  # noqa: SLF001

    @property
    def _type(self) -> str:
        return "hermes_json"

    def get_format_instructions(self) -> str:
        """Return the words by which Hermes models were trained to be asked for JSON."""
        return resolve_dialect("card").schema_prompt(self._target_type.schema or {})

    @cached_property
    def _target_type(self) -> AnswerType:
        return answer_type(self.target)

    def _reader(self) -> Reader[Any]:
        return TextReader(self._target_type)

    def _whole(self, parts: list[Any]) -> Any:
        return parts[-1] if parts else None


class _ToolsReader:
    """Reads the calls in one answer; what is no text of the answer passes through."""

    def __init__(self, parser: StreamParser, chunks: EventChunks) -> None:
        self._parser = parser
        self._chunks = chunks
        self._is_cut = False
        # Calls that came as such: their index, their id, and what was written of their arguments.
        self._native: dict[int, tuple[int, str, PartialValue]] = {}

    def feed(self, piece: Piece) -> list[AIMessage]:
        if isinstance(piece, str):
            return self._read(self._parser.feed(piece))
        self._is_cut |= _is_too_long(piece.response_metadata)
        envelope, thoughts = self._envelope(piece)
        read = self._read([ReasoningDelta(thoughts)] if thoughts else [])
        for block in [piece.content] if isinstance(piece.content, str) else piece.content:
            read += self._block(block)
        return [*envelope, *read, *self._calls(piece)]

    def close(self, finish_reason: str | None = None) -> list[AIMessage]:
        is_cut = self._is_cut or finish_reason in _TOO_LONG
        left = self._read(self._parser.close("length" if is_cut else "stop"))
        for index, call_id, written in self._native.values():
            if written.at and not written.is_complete:
                self._chunks.problems[call_id] = (Problem("truncated", "the message ends inside the call"),)
                left.append(self._chunks.call_chunk(tool_call_chunk(args=unfinished(written), index=index)))
        metadata = told(self._chunks.problems)
        return [*left, self._chunks.empty(response_metadata=metadata, chunk_position="last")]

    def _read(self, events: Iterable[Event]) -> list[AIMessage]:
        return [chunk for event in events for chunk in self._chunks.chunks(event)]

    def _envelope(self, message: BaseMessage) -> tuple[list[AIMessage], str]:
        """Return a chunk with all that a message has beside its content, and the thoughts found there."""
        aside = dict(message.additional_kwargs)
        thoughts = str(aside.pop(_THOUGHTS, None) or "")
        metadata = {key: value for key, value in message.response_metadata.items() if key != "output_version"}
        # A name would be lost: LangChain's sums have none.
        fields = {"id": message.id, "usage_metadata": getattr(message, "usage_metadata", None)}
        given = {key: value for key, value in fields.items() if value is not None}
        if not (aside or metadata or given):
            return [], thoughts
        return [self._chunks.empty(additional_kwargs=aside, response_metadata=metadata, **given)], thoughts

    def _block(self, block: str | Mapping[str, Any]) -> list[AIMessage]:
        if isinstance(block, str):
            return self._read(self._parser.feed(block))
        match block:
            case {"type": kind, "text": str(text)} if kind in _TEXT_BLOCKS:
                return self._read(self._parser.feed(text))
            case {"type": "reasoning", "reasoning": str(text)}:
                return self._read([ReasoningDelta(text)])
            case {"type": kind} if kind in _TOLD_OTHERWISE:
                return []
        return [self._chunks.foreign(block)]

    def _calls(self, message: BaseMessage) -> Iterator[AIMessage]:
        """Yield the calls that are none of the text's; a model may make both."""
        if isinstance(message, AIMessageChunk):
            for chunk in message.tool_call_chunks:
                yield self._piece(chunk)
        elif isinstance(message, AIMessage):
            for call in message.tool_calls:
                arguments = json.dumps(call["args"], ensure_ascii=False)
                yield self._piece(tool_call_chunk(name=call["name"], args=arguments, id=call["id"] or new_call_id()))
            for broken in message.invalid_tool_calls:
                yield from self._read([InvalidToolCallEvent(from_record(broken, broken["args"] or ""))])

    def _piece(self, chunk: ToolCallChunk) -> AIMessage:
        given = chunk["index"]
        # Without an index a chunk is a whole call, and a key of its own keeps it one.
        key = -1 - len(self._native) if given is None else given
        begun = self._native.get(key)
        index, call_id, written = begun or (self._chunks.new_index(), chunk["id"] or new_call_id(), PartialValue())
        self._native[key] = index, call_id, written
        written.feed(chunk["args"] or "")
        shown_id = None if begun else call_id
        return self._chunks.call_chunk(
            tool_call_chunk(name=chunk["name"], args=chunk["args"], id=shown_id, index=index)
        )


def _is_too_long(metadata: Mapping[str, Any]) -> bool:
    reasons = [metadata.get(key) for key in _WHY_IT_ENDED]
    details = metadata.get("incomplete_details")
    reasons.append(details.get("reason") if isinstance(details, Mapping) else None)
    return any(isinstance(reason, str) and reason.lower() in _TOO_LONG for reason in reasons)
