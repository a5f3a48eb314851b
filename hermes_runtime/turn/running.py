"""A turn while it runs: attempts, until one is accepted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace

from hermes_runtime.engines.base import Engine, Generation, GenerationRequest, Usage
from hermes_runtime.engines.retries import RetriedGeneration
from hermes_runtime.errors import (
    ContextWindowExceededError,
    HermesError,
)
from hermes_runtime.literals.escapes import well_formed
from hermes_runtime.off_loop import off_loop
from hermes_runtime.parser.events import Event
from hermes_runtime.turn.attempt import Attempt
from hermes_runtime.turn.request import TurnRequest
from hermes_runtime.turn.result import TurnResult


class RunningTurn(ABC):
    """A turn while it runs; iterate it once, from a thread or an event loop, then read `result`.

    In an event loop, whatever is more than reading a token runs in a thread: handing a request to the engine, which may
    compile its grammar there, and making the prompt of a repair. Constructing a turn is such work too: see `off_loop`.
    """

    def __init__(self, engine: Engine, request: TurnRequest) -> None:
        self._engine = engine
        self._request = request
        self._generation: Generation | None = None
        self._cancelled = False
        self._usage = Usage(0, 0)
        self._result: TurnResult | None = None

    def __iter__(self) -> Iterator[Event]:
        for attempt in self._attempts():
            try:
                for delta in attempt.generation:
                    yield from attempt.feed(delta)
                    if attempt.is_full:
                        break
                yield from attempt.finish()
            except HermesError:
                yield from attempt.break_off()
                raise
            finally:
                attempt.generation.cancel()

    async def __aiter__(self) -> AsyncGenerator[Event]:
        attempts = self._attempts()
        try:
            while (attempt := await off_loop(next, attempts, None)) is not None:
                try:
                    async for delta in attempt.generation:
                        for event in attempt.feed(delta):
                            yield event
                        if attempt.is_full:
                            break
                    for event in attempt.finish():
                        yield event
                except HermesError:
                    for event in attempt.break_off():
                        yield event
                    raise
                finally:
                    attempt.generation.cancel()
        finally:
            self.cancel()  # a request that a thread is handing over just now too

    def cancel(self) -> None:
        """Stop within one token; the turn then ends with what it has. Safe from any thread."""
        self._cancelled = True
        if self._generation is not None:
            self._generation.cancel()

    @property
    def result(self) -> TurnResult:
        """The finished turn.

        Raises:
            RuntimeError: The turn has not been iterated to its end.
        """
        if self._result is None:
            raise RuntimeError("the turn has no result before it was iterated to its end")
        return self._result

    @abstractmethod
    def _attempts(self) -> Iterator[Attempt]:
        """Yield attempts until one is accepted and `_result` is set; each is consumed before the next is asked for."""

    def _submit(self, prompt_ids: tuple[int, ...], constraint: str | None = None) -> Generation:
        request = GenerationRequest(prompt_ids, self._request.options, constraint)
        self._generation = RetriedGeneration(self._engine, request, self._request.max_retries)
        if self._cancelled:
            self._generation.cancel()
        return self._generation

    def _count(self, attempt: Attempt, prompt_ids: tuple[int, ...]) -> Usage:
        usage = attempt.generation.usage or Usage(len(prompt_ids), len(attempt.token_ids))
        if not usage.completion_tokens:  # cut, and told neither ids nor their number
            written = self._engine.tokenizer.encode(well_formed(attempt.text), add_special_tokens=False)
            usage = replace(usage, completion_tokens=len(written))
        self._usage += usage
        return self._usage

    def _check_room(self, prompt_ids: tuple[int, ...]) -> None:
        if len(prompt_ids) >= self._engine.context_window:
            raise ContextWindowExceededError(len(prompt_ids), self._engine.context_window)
