"""One call of the model, running: the same turn for threads and event loops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from hermes_runtime.engines.base import Engine
from hermes_runtime.engines.registry import load_engine, loaded_engine
from hermes_runtime.errors import EngineError, GenerationTimeoutError
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
        request: The turn.
        max_retries: How often the turn is run again when the engine fails before the first event.
        on_loaded: Called once the engine is there.
    """

    def __init__(
        self,
        engine_options: Mapping[str, Any],
        request: TurnRequest,
        *,
        max_retries: int,
        on_loaded: Callable[[], None],
    ) -> None:
        self._engine_options = engine_options
        self._on_loaded = on_loaded
        self._request = request
        self._retries_left = max_retries
        self._has_begun = False

    def __iter__(self) -> Iterator[Event | TurnResult]:
        with model_call():
            engine = load_engine(**self._engine_options)
            self._on_loaded()
            for turn in self._turns(engine):
                try:
                    for event in turn:
                        self._has_begun = True
                        yield event
                except EngineError as error:
                    self._raise_unless_retried(error)
                else:
                    yield turn.result
                    return
                finally:
                    turn.cancel()

    async def __aiter__(self) -> AsyncIterator[Event | TurnResult]:
        with model_call():
            engine = await engine_of(self._engine_options)
            self._on_loaded()
            for turn in self._turns(engine):
                try:
                    async for event in turn:
                        self._has_begun = True
                        yield event
                except EngineError as error:
                    self._raise_unless_retried(error)
                else:
                    yield turn.result
                    return
                finally:
                    turn.cancel()

    def _turns(self, engine: Engine) -> Iterator[Turn]:
        while True:
            yield Turn(engine, self._request)

    def _raise_unless_retried(self, error: EngineError) -> None:
        if self._has_begun or not self._retries_left or isinstance(error, GenerationTimeoutError):
            raise error
        self._retries_left -= 1
