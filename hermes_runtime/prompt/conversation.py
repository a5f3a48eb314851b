"""Brings every accepted form of a conversation into the message classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.messages import Assistant, Message, MessageLike, System, ToolResult, User
from hermes_runtime.prompt.content import result_text, said_beside, text_of
from hermes_runtime.prompt.recorded_calls import recorded_calls


def coerce_messages(messages: Iterable[MessageLike]) -> tuple[Message, ...]:
    """Accept message objects and OpenAI-style dicts.

    Raises:
        InvalidRequestError: No message at all, an unknown role, or a user's image or other medium.
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
        return System(text_of(content, "system"))
    if role == "user":
        return User(text_of(content))
    if role == "assistant":
        text = text_of(content, "assistant") or said_beside(message)
        return Assistant(text, *recorded_calls((), message, content))
    if role in ("tool", "function"):
        return ToolResult(
            call_id=str(message.get("tool_call_id") or ""),
            content=result_text(content) if content is None or isinstance(content, list) else content,
            name=message.get("name"),
            is_error=message.get("status") == "error",
        )
    raise InvalidRequestError(f"unknown role {role!r}; use system, user, assistant or tool")
