"""LlamaIndex messages <-> Hermes messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from typing import Any

from llama_index.core.base.llms.types import (
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    ContentBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.llms.llm import ToolSelection

from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.events import ToolCallDelta
from hermes_runtime.messages import (
    Assistant,
    InvalidToolCall,
    Message,
    System,
    ToolCall,
    ToolResult,
    User,
    new_call_id,
)

INVALID_CALLS = "invalid_tool_calls"
_LEGACY_CALLS = "tool_calls"
_ASSISTANT_ROLES = (MessageRole.ASSISTANT, MessageRole.CHATBOT, MessageRole.MODEL)
_TOOL_ROLES = (MessageRole.TOOL, MessageRole.FUNCTION)


def to_hermes(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """Convert a conversation; nothing of it is changed.

    Raises:
        InvalidRequestError: An image or another block that is not text, or something that is no message.
    """
    if isinstance(messages, str) or not isinstance(messages, Sequence):
        raise InvalidRequestError(f"messages must be a list of ChatMessage, got {type(messages).__name__}")
    return tuple(_to_hermes(message) for message in messages)


def _to_hermes(message: ChatMessage) -> Message:
    if not isinstance(message, ChatMessage):
        raise InvalidRequestError(f"a message must be a ChatMessage, got {type(message).__name__}: {message!r}")
    if message.role in _ASSISTANT_ROLES:
        calls, invalid = calls_of(message)
        return Assistant(_text(message, (ToolCallBlock, ThinkingBlock)), calls, invalid)
    text = _text(message)
    if message.role in _TOOL_ROLES:
        call_id, name = (message.additional_kwargs.get(key) for key in ("tool_call_id", "name"))
        return ToolResult(str(call_id or ""), text, name)
    return User(text) if message.role == MessageRole.USER else System(text)


def calls_of(message: ChatMessage) -> tuple[tuple[ToolCall, ...], tuple[InvalidToolCall, ...]]:
    """Return the calls that a message makes, and those that must never run.

    Read from its `ToolCallBlock`s; where there is none, from the older `additional_kwargs["tool_calls"]`, as dicts or
    as another vendor's objects. Arguments that are no JSON object make an invalid call, never an empty one.
    """
    made = [
        (block.tool_call_id, block.tool_name, block.tool_kwargs)
        for block in message.blocks
        if isinstance(block, ToolCallBlock)
    ]
    made = made or [_legacy_call(raw) for raw in message.additional_kwargs.get(_LEGACY_CALLS) or ()]
    calls: list[ToolCall] = []
    invalid = [InvalidToolCall(**raw) for raw in message.additional_kwargs.get(INVALID_CALLS) or ()]
    for call_id, name, raw_arguments in made:
        arguments, error = _arguments(raw_arguments)
        if error:
            invalid.append(InvalidToolCall(call_id or new_call_id(), name, str(raw_arguments), error))
        else:
            calls.append(ToolCall(call_id or new_call_id(), name, arguments))
    return tuple(calls), tuple(invalid)


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
        ToolCallBlock(tool_call_id=call.id, tool_name=call.name, tool_kwargs=_unfinished(call.arguments))
        for call in begun
    ]
    extra: dict[str, Any] = {_LEGACY_CALLS: [_as_legacy(block) for block in made]} if made else {}
    if invalid:
        extra[INVALID_CALLS] = [asdict(call) for call in invalid]
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


def _unfinished(arguments: str) -> str:
    """Return the text without its last closing braces: it grows with the text, and is never a whole object."""
    return arguments.rstrip("} \t\r\n") or "{"


def _arguments(raw: Any) -> tuple[dict[str, Any], str]:
    """Return (arguments, "") or ({}, error)."""
    if isinstance(raw, str):
        # Streams show calls while they are written, response by response: these are told apart at a glance.
        if raw and not raw.rstrip().endswith("}"):
            return {}, "truncated: the arguments are no complete JSON object"
        try:
            raw = json.loads(raw or "{}")
        except (ValueError, RecursionError) as error:
            return {}, f"malformed: {error}"
    if not isinstance(raw, Mapping):
        return {}, f"bad_arguments: a JSON object is needed, not {type(raw).__name__}"
    return dict(raw), ""


def _legacy_call(raw: Any) -> tuple[str | None, str, Any]:
    call = _Fields(raw)
    function = _Fields(call["function"] or raw)
    name = function["name"] or function["tool_name"]
    if not isinstance(name, str):
        raise InvalidRequestError(f"a tool call in the history has no name: {raw!r}")
    return call["id"] or call["tool_id"], name, function["arguments"] or function["tool_kwargs"] or {}


class _Fields:
    """Items of a dict or attributes of an object; None where absent."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def __getitem__(self, name: str) -> Any:
        return self._source.get(name) if isinstance(self._source, Mapping) else getattr(self._source, name, None)


def _text(message: ChatMessage, ignored: tuple[type, ...] = ()) -> str:
    """Join the text blocks, as `ChatMessage.content` does."""
    return "\n".join(_block_texts(message.blocks, message.role, ignored))


def _block_texts(blocks: Iterable[Any], role: MessageRole, ignored: tuple[type, ...]) -> Iterable[str]:
    for block in blocks:
        if isinstance(block, TextBlock):
            yield block.text
        elif isinstance(block, CitableBlock):
            yield from _block_texts(block.content, role, ignored)
        elif isinstance(block, CitationBlock):
            yield from _block_texts([block.cited_content], role, ignored)
        elif not isinstance(block, (CachePoint, *ignored)):
            raise InvalidRequestError(
                f"a {role.value} message holds a {type(block).__name__}, and this model reads text only; "
                "describe it in a TextBlock or leave it out"
            )
