"""Decorators of the eight public endpoints: LlamaIndex's events, typed errors, and streams that stop when closed."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import aclosing, closing
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar, cast

from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback

from hermes_runtime.errors import unexpected_errors
from llama_index_hermes._responses import RunningTurn

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])
_OPENED: ContextVar[list[RunningTurn] | None] = ContextVar("opened_turns", default=None)


def chat_endpoint(endpoint: _Endpoint) -> _Endpoint:
    """One pair of chat events per call; a stream that is closed or dropped stops its turn."""
    return _stopping(cast("_Endpoint", llm_chat_callback()(_typed(endpoint))))


def completion_endpoint(endpoint: _Endpoint) -> _Endpoint:
    """One pair of completion events per call; a stream that is closed or dropped stops its turn."""
    return _stopping(cast("_Endpoint", llm_completion_callback()(_typed(endpoint))))


def opened(turn: RunningTurn) -> RunningTurn:
    """Tell the endpoint that is being called of the turn behind its answer."""
    turns = _OPENED.get()
    if turns is not None:
        turns.append(turn)
    return turn


def _typed(endpoint: _Endpoint) -> _Endpoint:
    # Inside LlamaIndex's wrapper: its event handlers see the typed error, and their own errors stay what they are.
    @wraps(endpoint)
    def call(*args: Any, **kwargs: Any) -> Any:
        with unexpected_errors():
            answer = endpoint(*args, **kwargs)
        return _typed_stream(answer) if isinstance(answer, Generator) else answer

    @wraps(endpoint)
    async def acall(*args: Any, **kwargs: Any) -> Any:
        with unexpected_errors():
            answer = await endpoint(*args, **kwargs)
        return _typed_astream(answer) if isinstance(answer, AsyncGenerator) else answer

    typed = acall if inspect.iscoroutinefunction(endpoint) else call
    del typed.__wrapped__  # LlamaIndex takes it for the mark of its own wrapper
    return cast("_Endpoint", typed)


def _typed_stream(responses: Generator[Any, None, None]) -> Generator[Any, None, None]:
    with unexpected_errors(), closing(responses):
        yield from responses


async def _typed_astream(responses: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    with unexpected_errors():
        async with aclosing(responses):
            async for response in responses:
                yield response


def _readable_twice(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Make a list of a generator of messages, which the events of the call would else use up."""
    llm, *given = args
    named = {"messages": _listed(kwargs["messages"])} if "messages" in kwargs else {}
    return (llm, *map(_listed, given)), {**kwargs, **named}


def _listed(messages: Any) -> Any:
    is_one_pass = isinstance(messages, Iterable) and not isinstance(messages, Sequence | Mapping)
    return list(messages) if is_one_pass else messages


def _stopping(endpoint: _Endpoint) -> _Endpoint:
    # LlamaIndex's wrapper leaves the stream inside it to the garbage collector, and an event handler that keeps the
    # exception keeps that stream alive, running. So the turn is stopped from out here, by name.
    @wraps(endpoint)
    def call(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = _readable_twice(args, kwargs)
        turns: list[RunningTurn] = []
        token = _OPENED.set(turns)
        try:
            answer = endpoint(*args, **kwargs)
        finally:
            _OPENED.reset(token)
        return _stream(answer, turns) if isinstance(answer, Generator) else answer

    @wraps(endpoint)
    async def acall(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = _readable_twice(args, kwargs)
        turns: list[RunningTurn] = []
        token = _OPENED.set(turns)
        try:
            answer = await endpoint(*args, **kwargs)
        finally:
            _OPENED.reset(token)
        return _astream(answer, turns) if isinstance(answer, AsyncGenerator) else answer

    return cast("_Endpoint", acall if inspect.iscoroutinefunction(endpoint) else call)


def _stream(responses: Generator[Any, None, None], turns: list[RunningTurn]) -> Generator[Any, None, None]:
    try:
        yield from responses
    finally:
        for turn in turns:
            turn.cancel()


async def _astream(responses: AsyncGenerator[Any, None], turns: list[RunningTurn]) -> AsyncGenerator[Any, None]:
    try:
        async for response in responses:
            yield response
    finally:
        for turn in turns:
            turn.cancel()
        await responses.aclose()
