"""Brings every accepted form of a conversation into the message classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.messages import (
    Assistant,
    InvalidToolCall,
    Message,
    MessageLike,
    System,
    ToolCall,
    ToolResult,
    User,
    new_call_id,
)


def coerce_messages(messages: Sequence[MessageLike]) -> tuple[Message, ...]:
    """Accept message objects and OpenAI-style dicts.

    Raises:
        InvalidRequestError: No message at all, an unknown role, or content that is not text.
    """
    if isinstance(messages, str | Mapping):
        raise InvalidRequestError("messages must be a list of messages")
    coerced = tuple(
        message if isinstance(message, System | User | Assistant | ToolResult) else _from_openai(message)
        for message in messages
    )
    if not coerced:
        raise InvalidRequestError("the conversation is empty; give at least one message")
    return coerced


def _from_openai(message: Any) -> Message:
    if not isinstance(message, Mapping) or "role" not in message:
        raise InvalidRequestError(f"a message must be a message object or a dict with a role, got {message!r}")
    role, content = message["role"], message.get("content")
    if role in ("system", "developer"):
        return System(text_of(content))
    if role == "user":
        return User(text_of(content))
    if role == "assistant":
        calls, invalid = _calls(message.get("tool_calls") or ())
        return Assistant(text_of(content), calls, invalid)
    if role in ("tool", "function"):
        return ToolResult(
            call_id=str(message.get("tool_call_id") or ""),
            content=text_of(content) if isinstance(content, list) else "" if content is None else content,
            name=message.get("name"),
            is_error=message.get("status") == "error",
        )
    raise InvalidRequestError(f"unknown role {role!r}; use system, user, assistant or tool")


def text_of(content: Any) -> str:
    """Return the text of a message's content: a string, None, or a list of text parts.

    Raises:
        InvalidRequestError: A part is an image, audio or anything else that is not text.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "".join(_part_text(part) for part in content)
    raise InvalidRequestError(f"message content must be text, got {type(content).__name__}")


def _part_text(part: Any) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    if kind == "text" and isinstance(part["text"], str):
        return str(part["text"])
    raise InvalidRequestError(f"content of type {kind!r} cannot be read: this model reads text only")


def _calls(raw_calls: Sequence[Mapping[str, Any]]) -> tuple[tuple[ToolCall, ...], tuple[InvalidToolCall, ...]]:
    calls: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    for raw in raw_calls:
        function = raw.get("function", raw)
        name, arguments = function.get("name"), function.get("arguments", function.get("args", {}))
        call_id = raw.get("id") or new_call_id()
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments or "{}")
            except (ValueError, RecursionError) as error:
                invalid.append(InvalidToolCall(call_id, name, arguments, f"malformed: {error}"))
                continue
        if not isinstance(name, str) or not isinstance(arguments, Mapping):
            raise InvalidRequestError(f"a tool call in the history needs a name and arguments, got {raw!r}")
        calls.append(ToolCall(call_id, name, dict(arguments)))
    return tuple(calls), tuple(invalid)
