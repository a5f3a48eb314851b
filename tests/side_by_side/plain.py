"""Results and errors of either side in a form that can be compared: no ids, no times, no vendor's names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from enum import Enum
from functools import singledispatch
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock
from pydantic import BaseModel
from pydantic_core import from_json

_IDS = re.compile(
    r"\b(?:call|chatcmpl|lc|lc_run-|run|toolu)[-_-]+[0-9a-f-]{1,40}\b|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{18,22}\b|\b[0-9a-f]{32}\b"
)
# What an error means, by the names of the classes that any of the libraries has for it; the first that fits.
_KINDS = {
    "context overflow": ("ContextOverflowError", "ContextWindowExceededError"),
    "timeout": ("ModelTimeoutError", "GenerationTimeoutError", "APITimeoutError", "TimeoutError"),
    "bad request": ("ModelInvalidRequestError", "InvalidRequestError", "BadRequestError"),
    "engine": ("ModelAPIError", "EngineError", "InternalServerError"),
    "unreadable answer": (
        "OutputParserException",
        "ValidationError",
        "StructuredOutputError",
        "LengthFinishReasonError",
    ),
}


@singledispatch
def plain(result: Any) -> Any:
    """Return a result as values that compare equal where a reader would call them the same."""
    if is_dataclass(result) and not isinstance(result, type):
        return {"of": type(result).__name__, **plain(asdict(result))}
    return plain(str(result))


@plain.register
def _(result: str) -> str:
    return _IDS.sub("ID", result)


@plain.register
def _(result: bool | int | float | None) -> Any:
    return result


@plain.register
def _(result: Enum) -> Any:
    return plain(result.value)


@plain.register
def _(result: list | tuple) -> list[Any]:
    return [plain(item) for item in result]


@plain.register
def _(result: set | frozenset) -> list[Any]:
    return sorted((plain(item) for item in result), key=str)


@plain.register
def _(result: Mapping) -> dict[Any, Any]:
    return {plain(key): plain(member) for key, member in result.items()}


@plain.register
def _(result: BaseModel) -> dict[str, Any]:
    return {"of": type(result).__name__, **plain(dict(result))}


@plain.register
def _(result: BaseMessage) -> dict[str, Any]:
    said: dict[str, Any] = {result.type: plain(str(result.text))}
    if isinstance(result, AIMessage):
        said["calls"] = [[call["name"], plain(call["args"])] for call in result.tool_calls]
        said["unreadable calls"] = [call["name"] for call in result.invalid_tool_calls]
    if isinstance(result, ToolMessage):
        said |= {"name": result.name, "status": result.status}
    return said


@plain.register
def _(result: ChatMessage) -> dict[str, Any]:
    made = [block for block in result.blocks if isinstance(block, ToolCallBlock)]
    return {
        result.role.value: plain(result.content or ""),
        "calls": [[call.tool_name, plain(_arguments(call.tool_kwargs))] for call in made],
    }


def _arguments(given: dict[str, Any] | str) -> Any:
    if not isinstance(given, str):
        return given
    try:
        return from_json(given)
    except ValueError:
        return given


@plain.register
def error_kind(error: BaseException) -> str:
    """Return what an error means, or else the class of Python's own that it is; of wrapped errors, what is inside."""
    for known in _chain(error):
        if getattr(known, "code", None) == "context_length_exceeded":
            return "context overflow"
        names = {base.__name__ for base in type(known).__mro__}
        for kind, classes in _KINDS.items():
            if not names.isdisjoint(classes):
                return kind
    own = next(base for base in type(error).__mro__ if base.__module__ == "builtins")
    return own.__name__ if own is not Exception else type(error).__name__


def _chain(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
