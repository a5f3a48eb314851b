"""LangChain messages -> the runtime's messages. Pure functions; what a message's blocks say is the runtime's to decide.

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
    Message,
    System,
    ToolCall,
    ToolResult,
    User,
    new_call_id,
)
from hermes_runtime.prompt.content import result_text, said_beside, text_of
from hermes_runtime.prompt.recorded_calls import recorded_call, recorded_calls, split
from langchain_hermes._unfinished import as_written, from_record, problems_of


def to_runtime_messages(messages: Sequence[BaseMessage], *, omit_media: bool = False) -> tuple[Message, ...]:
    """Convert a conversation.

    Args:
        messages: The conversation; nothing of it is changed.
        omit_media: Put a note in the place of a user's media, as where tokens are counted.

    Raises:
        InvalidRequestError: A user's image or other medium, or a message of an unknown kind.
    """
    return tuple(converted for message in messages for converted in _convert(message, omit_media=omit_media))


def _convert(message: BaseMessage, *, omit_media: bool) -> Iterator[Message]:
    if isinstance(message, SystemMessage):
        yield System(text_of(message.content, "system", omit_media=omit_media))
    elif isinstance(message, HumanMessage):
        yield from _from_human(message.content, omit_media=omit_media)
    elif isinstance(message, AIMessage):
        yield _from_ai(message)
    elif isinstance(message, ToolMessage):
        yield ToolResult(
            message.tool_call_id, result_text(message.content), name=message.name, is_error=message.status == "error"
        )
    elif isinstance(message, FunctionMessage):
        yield ToolResult("", result_text(message.content), name=message.name)
    elif isinstance(message, ChatMessage):
        yield _from_chat(message, omit_media=omit_media)
    else:
        raise InvalidRequestError(f"a message of type {message.type!r} cannot be shown to the model")


def _from_human(content: str | list[Any], *, omit_media: bool) -> Iterator[Message]:
    """Yield what a person said; Anthropic's histories hold tool results there too."""
    said: list[Any] = []
    for block in [content] if isinstance(content, str) else content:
        if isinstance(block, Mapping) and block.get("type") == "tool_result":
            yield ToolResult(
                str(block.get("tool_use_id") or ""),
                result_text(block.get("content")),
                is_error=bool(block.get("is_error")),
            )
        else:
            said.append(block)
    if said or not content:
        yield User(text_of(said, omit_media=omit_media))


def _from_ai(message: AIMessage) -> Assistant:
    text = text_of(message.content, "assistant") or said_beside(message.additional_kwargs)
    made = [ToolCall(call["id"] or new_call_id(), call["name"], call["args"]) for call in message.tool_calls]
    # Whoever else made the message: brackets in the arguments of its broken calls are its model's own.
    problems = problems_of(message)
    broken = [
        from_record(call, as_written(call["args"] or ""))
        if call["id"] in problems
        else recorded_call(call["id"], call["name"], call["args"])
        for call in message.invalid_tool_calls
    ]
    calls, invalid = split([*made, *broken])
    if not (calls or invalid):
        calls, invalid = recorded_calls((), message.additional_kwargs, message.content)
    return Assistant(text, calls, invalid)


def _from_chat(message: ChatMessage, *, omit_media: bool) -> Message:
    match message.role.lower():
        case "system" | "developer":
            return System(text_of(message.content, "system", omit_media=omit_media))
        case "user" | "human":
            return User(text_of(message.content, omit_media=omit_media))
        case "assistant" | "ai":
            return Assistant(text_of(message.content, "assistant"))
        case role:
            raise InvalidRequestError(f"unknown role {role!r}; use system, user or assistant, or a ToolMessage")
