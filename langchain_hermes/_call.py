"""One call of the model, running: the same turn for threads and event loops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any

from hermes_runtime.engines.base import Engine
from hermes_runtime.engines.registry import load_engine, loaded_engine
from hermes_runtime.off_loop import off_loop
from hermes_runtime.parser import Event
from hermes_runtime.turn import Turn, TurnRequest, TurnResult
from langchain_hermes._errors import model_call


async def engine_of(engine_options: Mapping[str, Any]) -> Engine:
    """Return the engine; while it loads, which takes seconds to minutes, the event loop goes on."""
    loaded = loaded_engine(**engine_options)
    return loaded if loaded is not None else await asyncio.to_thread(load_engine, **engine_options)


class Call:
    """The events of a turn and, last, its result; iterate it once. Closing the iterator stops the computation.

    Args:
        engine_options: As `load_engine` takes them.
        make_request: Returns the turn, or refuses what was asked for; called once, before the engine is loaded.
        on_loaded: Called once the engine is there.
    """

    def __init__(
        self,
        engine_options: Mapping[str, Any],
        make_request: Callable[[], TurnRequest],
        *,
        on_loaded: Callable[[], None],
    ) -> None:
        self._engine_options = engine_options
        self._on_loaded = on_loaded
        self._make_request = make_request

    def __iter__(self) -> Iterator[Event | TurnResult]:
        with model_call():
            request = self._make_request()
            turn = self._turn(load_engine(**self._engine_options), request)
            yield from turn
            yield turn.result

    async def __aiter__(self) -> AsyncIterator[Event | TurnResult]:
        with model_call():
            request = await off_loop(self._make_request)
            turn = await off_loop(self._turn, await engine_of(self._engine_options), request)
            async with aclosing(aiter(turn)) as events:
                async for event in events:
                    yield event
            yield turn.result

    def _turn(self, engine: Engine, request: TurnRequest) -> Turn:
        self._on_loaded()
        return Turn(engine, request)
