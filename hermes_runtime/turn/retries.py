"""A turn that is run again when the engine fails before the answer has begun."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator

from hermes_runtime.errors import EngineError, GenerationTimeoutError
from hermes_runtime.off_loop import off_loop
from hermes_runtime.parser.events import Event
from hermes_runtime.turn.result import TurnResult
from hermes_runtime.turn.running import RunningTurn


class RetriedTurn:
    """A running turn, iterated once; closing the iterator stops the computation.

    Bad input, timeouts and answers that have begun are never retried.

    Args:
        begin: Makes the turn, at once and for each further try.
        max_retries: How many further tries there are.

    Raises:
        InvalidRequestError: And whatever else the turn is refused with.
    """

    def __init__(self, begin: Callable[[], RunningTurn], *, max_retries: int) -> None:
        self._begin = begin
        self._retries_left = max_retries
        self._is_cancelled = False
        self._has_begun = False
        self._turn = begin()

    def __iter__(self) -> Iterator[Event]:
        while True:
            turn = self._turn
            try:
                for event in turn:
                    self._has_begun = True
                    yield event
            except EngineError as error:
                self._begin_again(error)
            else:
                return
            finally:
                turn.cancel()

    async def __aiter__(self) -> AsyncGenerator[Event]:
        while True:
            turn = self._turn
            try:
                async for event in turn:
                    self._has_begun = True
                    yield event
            except EngineError as error:
                await off_loop(self._begin_again, error)
            else:
                return
            finally:
                turn.cancel()

    def cancel(self) -> None:
        """Stop within one token; the turn then ends with what it has. Safe from any thread."""
        self._is_cancelled = True
        self._turn.cancel()

    @property
    def result(self) -> TurnResult:
        """The finished turn."""
        return self._turn.result

    def _begin_again(self, error: EngineError) -> None:
        is_final = self._has_begun or self._is_cancelled or isinstance(error, GenerationTimeoutError)
        if is_final or not self._retries_left:
            raise error
        self._retries_left -= 1
        self._turn = self._begin()
        if self._is_cancelled:
            self._turn.cancel()
