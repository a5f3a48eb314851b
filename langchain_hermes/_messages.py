"""LangChain messages -> the runtime's messages. Pure functions; what the model cannot read raises.

A speaker's `name` has no place in the Hermes format and is dropped, and so are a tool's artifacts, which are not meant
for the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from hermes_runtime.errors import InvalidRequestError
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
from langchain_hermes._chunks import PROBLEMS, without_poison

TEXT_BLOCKS = frozenset(("text", "text-plain", "input_text", "output_text"))
# What cannot be left out of an answer unnoticed. All else that vendors put beside its text is: calls are read from
# `tool_calls`, thoughts are not shown to the model again, and what a vendor's servers did is theirs.
MEDIA_BLOCKS = frozenset(
    ("image", "image_url", "input_image", "audio", "input_audio", "video", "file", "input_file", "document", "media")
)


def to_runtime_messages(messages: Sequence[BaseMessage]) -> tuple[Message, ...]:
    """Convert a conversation.

    Raises:
        InvalidRequestError: An image or other content that is not text, or a message of an unknown kind.
    """
    return tuple(converted for message in messages for converted in _convert(message))


def _convert(message: BaseMessage) -> Iterator[Message]:
    if isinstance(message, SystemMessage):
        yield System(_text(message.content))
    elif isinstance(message, HumanMessage):
        yield from _from_human(message.content)
    elif isinstance(message, AIMessage):
        yield _from_ai(message)
    elif isinstance(message, ToolMessage):
        yield ToolResult(
            message.tool_call_id, _result(message.content), name=message.name, is_error=message.status == "error"
        )
    elif isinstance(message, FunctionMessage):
        yield ToolResult("", _result(message.content), name=message.name)
    elif isinstance(message, ChatMessage):
        yield _from_chat(message)
    else:
        raise InvalidRequestError(f"a message of type {message.type!r} cannot be shown to the model")


def _from_human(content: str | list[Any]) -> Iterator[Message]:
    """Yield what a person said; Anthropic's histories hold tool results there too."""
    said: list[Any] = []
    for block in [content] if isinstance(content, str) else content:
        if isinstance(block, Mapping) and block.get("type") == "tool_result":
            yield ToolResult(
                str(block.get("tool_use_id") or ""),
                _result(block.get("content") or ""),
                is_error=bool(block.get("is_error")),
            )
        else:
            said.append(block)
    if said or not content:
        yield User(_text(said))


def _from_ai(message: AIMessage) -> Assistant:
    # Whoever else made the message: brackets in the arguments of its broken calls are its model's own.
    spoiled = message.response_metadata.get(PROBLEMS, {})
    calls = tuple(ToolCall(call["id"] or new_call_id(), call["name"], call["args"]) for call in message.tool_calls)
    invalid = tuple(
        InvalidToolCall(
            call["id"] or new_call_id(),
            call["name"],
            without_poison(call["args"] or "") if call["id"] in spoiled else call["args"] or "",
            call["error"] or "malformed: the call could not be read",
        )
        for call in message.invalid_tool_calls
    )
    content = message.content
    said = content if isinstance(content, str) else [block for block in content if not _is_beside_text(block)]
    return Assistant(_text(said), calls, invalid)


def _is_beside_text(block: Any) -> bool:
    kind = None if isinstance(block, str) else block.get("type")
    return kind is not None and kind not in TEXT_BLOCKS | MEDIA_BLOCKS


def _from_chat(message: ChatMessage) -> Message:
    text = _text(message.content)
    match message.role.lower():
        case "system" | "developer":
            return System(text)
        case "user" | "human":
            return User(text)
        case "assistant" | "ai":
            return Assistant(text)
        case role:
            raise InvalidRequestError(f"unknown role {role!r}; use system, user or assistant, or a ToolMessage")


def _text(content: str | Sequence[Any], *, between: str = "") -> str:
    if isinstance(content, str):
        return content
    return between.join(map(_block_text, content))


def _result(content: str | Sequence[Any]) -> str:
    """Return what a tool gave: its parts are values of their own, and run together they would be another."""
    return _text(content, between="\n")


def _block_text(block: Any) -> str:
    if isinstance(block, str):
        return block
    kind = block.get("type")
    if kind in TEXT_BLOCKS and isinstance(block.get("text"), str):
        return str(block["text"])
    raise InvalidRequestError(
        f"content of type {kind!r} cannot be shown to the model, which reads text only; "
        "send a description of it, or take the block out"
    )
