"""LlamaIndex messages <-> Hermes messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    ContentBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from llama_index.core.llms.llm import ToolSelection

from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.messages import (
    Assistant,
    InvalidToolCall,
    Message,
    System,
    ToolCall,
    ToolResult,
    User,
)
from hermes_runtime.parser.events import ToolCallDelta
from hermes_runtime.problems import Problem
from hermes_runtime.prompt.content import Speaker, result_text, said_beside, text_of
from hermes_runtime.prompt.recorded_calls import recorded_calls
from llama_index_hermes._unfinished import unfinished

_INVALID_CALLS = "invalid_tool_calls"
_LEGACY_CALLS = "tool_calls"
_ASSISTANT_ROLES = (MessageRole.ASSISTANT, MessageRole.CHATBOT, MessageRole.MODEL)
_TOOL_ROLES = (MessageRole.TOOL, MessageRole.FUNCTION)


def to_hermes(messages: Iterable[ChatMessage], *, omit_media: bool = False) -> tuple[Message, ...]:
    """Convert a conversation; nothing of it is changed.

    Args:
        messages: The conversation.
        omit_media: Put a note in the place of a user's media, as where tokens are counted.

    Raises:
        InvalidRequestError: A user's image or other medium, or something that is no message.
    """
    if isinstance(messages, str | Mapping) or not isinstance(messages, Iterable):
        raise InvalidRequestError(f"messages must be a list of ChatMessage, got {type(messages).__name__}")
    return tuple(_to_hermes(message, omit_media=omit_media) for message in messages)


def _to_hermes(message: ChatMessage, *, omit_media: bool) -> Message:
    if not isinstance(message, ChatMessage):
        raise InvalidRequestError(f"a message must be a ChatMessage, got {type(message).__name__}: {message!r}")
    if message.role in _ASSISTANT_ROLES:
        text = _text(message, "assistant") or said_beside(message.additional_kwargs)
        return Assistant(text, *calls_of(message))
    if message.role in _TOOL_ROLES:
        call_id, name = (message.additional_kwargs.get(key) for key in ("tool_call_id", "name"))
        return ToolResult(str(call_id or ""), result_text(list(_as_dicts(message.blocks))), name)
    if message.role == MessageRole.USER:
        return User(_text(message, "user", omit_media=omit_media))
    return System(_text(message, "system", omit_media=omit_media))


def calls_of(message: ChatMessage) -> tuple[tuple[ToolCall, ...], tuple[InvalidToolCall, ...]]:
    """Return the calls that a message makes, and those that must never run.

    Read from its `ToolCallBlock`s; where there is none, from the older `additional_kwargs["tool_calls"]`, as dicts or
    as another vendor's objects, or from the still older `"function_call"`. Arguments that are no JSON object make an
    invalid call, never an empty one.
    """
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    calls, unread = recorded_calls(blocks, message.additional_kwargs, None)
    invalid = [_from_record(record) for record in message.additional_kwargs.get(_INVALID_CALLS) or ()]
    return calls, (*invalid, *unread)


def tool_selections(message: ChatMessage) -> list[ToolSelection]:
    """Return the calls that a message makes, as agents take them."""
    calls, _ = calls_of(message)
    return [ToolSelection(tool_id=call.id, tool_name=call.name, tool_kwargs=call.arguments) for call in calls]


def assistant_message(
    text: str,
    reasoning: str,
    calls: Sequence[ToolCall],
    invalid: Sequence[InvalidToolCall],
    begun: Sequence[ToolCallDelta] = (),
) -> ChatMessage:
    """Return what the model said as a message that shares nothing with the calls: thinking, text, then the calls.

    Args:
        text: The answer.
        reasoning: What was thought aloud.
        calls: The calls; their arguments become dicts.
        invalid: The calls that must never run.
        begun: The calls that are still being written, with all of their arguments so far. These become JSON text that
            only grows and that no JSON reader accepts, so that whoever runs what a message holds cannot run them.

    Returns:
        The message; its calls are `ToolCallBlock`s and stand in `additional_kwargs["tool_calls"]` as well, in the form
        of OpenAI's older interface, block for block.
    """
    blocks: list[ContentBlock] = [ThinkingBlock(content=reasoning)] if reasoning else []
    if text or not (calls or begun):
        blocks.append(TextBlock(text=text))
    made = [
        ToolCallBlock(tool_call_id=call.id, tool_name=call.name, tool_kwargs=deepcopy(call.arguments)) for call in calls
    ]
    made += [
        ToolCallBlock(tool_call_id=call.id, tool_name=call.name, tool_kwargs=unfinished(call.arguments))
        for call in begun
    ]
    extra: dict[str, Any] = {_LEGACY_CALLS: [_as_legacy(block) for block in made]} if made else {}
    if invalid:
        extra[_INVALID_CALLS] = [_as_record(call) for call in invalid]
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=[*blocks, *made], additional_kwargs=extra)


def with_first_call(message: ChatMessage) -> ChatMessage:
    """Return a message with no call but its first, in both forms."""
    surplus = {id(block) for block in [block for block in message.blocks if isinstance(block, ToolCallBlock)][1:]}
    if not surplus:
        return message
    kept = [block for block in message.blocks if id(block) not in surplus]
    extra = dict(message.additional_kwargs)
    if _LEGACY_CALLS in extra:
        extra[_LEGACY_CALLS] = extra[_LEGACY_CALLS][:1]
    return message.model_copy(update={"blocks": kept, "additional_kwargs": extra})


def _as_record(call: InvalidToolCall) -> dict[str, Any]:
    return {"id": call.id, "name": call.name, "arguments": call.arguments, "error": call.error}


def _from_record(record: Mapping[str, Any]) -> InvalidToolCall:
    problem = Problem.read(record["error"])
    return InvalidToolCall(record["id"], record["name"], record["arguments"], problem)


class _Record(dict[str, Any]):
    """Plain data whose items are attributes too, as in the objects of OpenAI's client, which older code reads."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def _as_legacy(block: ToolCallBlock) -> _Record:
    """Return a call in the form that messages had before there were blocks: OpenAI's, with the arguments as text."""
    written = block.tool_kwargs
    arguments = written if isinstance(written, str) else json.dumps(written, ensure_ascii=False)
    function = _Record(name=block.tool_name, arguments=arguments)
    return _Record(id=block.tool_call_id, type="function", function=function)


def _text(message: ChatMessage, speaker: Speaker, *, omit_media: bool = False) -> str:
    """Join the text blocks, as `ChatMessage.content` does."""
    return text_of(_as_dicts(message.blocks), speaker, between="\n", omit_media=omit_media)


def _as_dicts(blocks: Iterable[Any]) -> Iterator[Any]:
    """Yield blocks in the form in which the runtime reads every vendor's."""
    for block in blocks:
        match block:
            case TextBlock():
                yield block.text
            case CitableBlock():
                content = list(_as_dicts(block.content))
                yield {"type": "search_result", "title": block.title, "source": block.source, "content": content}
            case CitationBlock():
                yield from _as_dicts([block.cited_content])
            case ThinkingBlock():
                yield {"type": "thinking", "thinking": block.content}
            case ToolCallBlock():
                yield {"type": "tool_call", "name": block.tool_name, "args": block.tool_kwargs}
            case ImageBlock() | AudioBlock() | VideoBlock() | DocumentBlock():
                yield _medium(block)
            case CachePoint():
                yield {"cachePoint": None}
            case _:
                yield block.model_dump()


def _medium(block: ImageBlock | AudioBlock | VideoBlock | DocumentBlock) -> dict[str, Any]:
    kind, place = block.block_type, block.url or block.path
    data = getattr(block, "data" if kind == "document" else kind)
    fields = {
        # A stream is the caller's to read from; what it holds would not be shown anyway.
        "base64": data if isinstance(data, bytes) else data and b"\0",
        "url": place and str(place),
        "mime_type": getattr(block, f"{kind}_mimetype", None),
        "title": getattr(block, "title", None),
    }
    return {"type": kind, **{name: value for name, value in fields.items() if value}}
