"""The one place where a request is submitted again: how often, after what, and after what wait."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from hermes_runtime.engines.base import Engine, Generation, GenerationRequest, TokenDelta, Usage
from hermes_runtime.errors import EngineError, GenerationTimeoutError, InvalidRequestError
from hermes_runtime.off_loop import off_loop

T = TypeVar("T")
_LONGEST_WAIT = 60.0  # seconds between two tries, whatever a server asks for


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How an engine may be asked again.

    Attributes:
        default: Further tries where nobody says how many.
        passing: After such an error the same request may succeed; after a timeout it never does.
        delay: Seconds before the first further try, doubled for each one after it. Each wait is between half and all
            of it, so that clients do not come back at once, and never shorter than the server asked for.
    """

    default: int = 0
    passing: type[EngineError] = EngineError
    delay: float = 0.0

    def wait(self, error: EngineError, tries: int, most: int | None) -> float | None:
        """Return the seconds to wait after a try that failed; None where there is no further one.

        Args:
            error: What it failed with.
            tries: How many further tries there were before it.
            most: How many there may be; None is `default`.
        """
        is_final = not isinstance(error, self.passing) or isinstance(error, GenerationTimeoutError)
        if is_final or tries >= (self.default if most is None else most):
            return None
        backoff = self.delay * 2.0**tries * random.uniform(0.5, 1.0)  # noqa: S311 - not for secrets
        return min(max(backoff, error.retry_after or 0.0), _LONGEST_WAIT)


_AT_ONCE = RetryPolicy()


def check_max_retries(given: Any) -> None:
    """Refuse what is no number of further tries; None is the engine's own.

    Raises:
        InvalidRequestError: It is not.
    """
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 0):
        raise InvalidRequestError(f"max_retries must be an integer of at least 0, got {given!r}")


async def retried(work: Callable[[], Awaitable[T]], policy: RetryPolicy, most: int | None) -> T:
    """Do work, and do it again as a policy says.

    Raises:
        EngineError: What the last try failed with.
    """
    for tries in itertools.count():
        try:
            return await work()
        except EngineError as error:
            wait = policy.wait(error, tries, most)
            if wait is None:
                raise
        await asyncio.sleep(wait)
    raise AssertionError("the last try returns or raises")


class RetriedGeneration:
    """A `Generation` whose request is submitted again where the engine fails before the first token.

    Bad input, timeouts and answers that have begun are never retried. The timeout of the request is that of all tries
    and of the waits between them.

    Args:
        engine: Its attribute `retries`, a `RetryPolicy`, says how it may be asked again; without one, at once and only
            as often as is asked for.
        request: Submitted when the iteration begins; in an event loop, in a thread.
        max_retries: How many further tries there may be; None is what the engine's policy says.
    """

    def __init__(self, engine: Engine, request: GenerationRequest, max_retries: int | None = None) -> None:
        self._engine = engine
        self._request = request
        self._max_retries = max_retries
        self._policy: RetryPolicy = getattr(engine, "retries", _AT_ONCE)
        self._generation: Generation | None = None
        self._deadline = time.monotonic() + request.options.timeout if request.options.timeout else float("inf")
        self._is_left = False
        self._cancelled = threading.Event()
        self._wake: Callable[[], object] = lambda: None

    def __iter__(self) -> Iterator[TokenDelta]:
        for tries in itertools.count():
            has_begun = False
            try:
                for delta in self._submitted(tries):
                    has_begun = True
                    yield delta
            except EngineError as error:
                wait = self._wait_after(error, tries, has_begun=has_begun)
            else:
                return
            finally:
                self._stop()
            if wait and self._cancelled.wait(wait):
                yield self._leave()
                return

    async def __aiter__(self) -> AsyncIterator[TokenDelta]:
        for tries in itertools.count():
            has_begun = False
            try:
                async for delta in await off_loop(self._submitted, tries):
                    has_begun = True
                    yield delta
            except EngineError as error:
                wait = self._wait_after(error, tries, has_begun=has_begun)
            except BaseException:
                self.cancel()  # what a thread is handing over just now too
                raise
            else:
                return
            finally:
                self._stop()
            if wait and await self._is_cancelled_within(wait):
                yield self._leave()
                return

    def cancel(self) -> None:
        """Stop within one token, or the wait for the next try; the stream then ends with finish_reason `cancelled`."""
        self._cancelled.set()
        self._wake()
        self._stop()

    @property
    def usage(self) -> Usage | None:
        """Token counts, once the stream has ended."""
        if self._is_left:
            return Usage(len(self._request.prompt_ids), 0)
        return None if self._generation is None else self._generation.usage

    def _submitted(self, tries: int) -> Generation:
        request = self._request
        if tries:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise self._timeout()
            timeout = None if request.options.timeout is None else left
            request = replace(request, options=replace(request.options, timeout=timeout))
        self._generation = self._engine.submit(request)
        if self._cancelled.is_set():
            self._generation.cancel()
        return self._generation

    def _wait_after(self, error: EngineError, tries: int, *, has_begun: bool) -> float:
        """Return the seconds to wait before the next try.

        Raises:
            EngineError: There is none.
        """
        left = self._deadline - time.monotonic()
        if tries and left <= 0:  # its own message names the time that was left of it
            raise self._timeout() from error
        is_over = has_begun or self._cancelled.is_set()
        wait = None if is_over else self._policy.wait(error, tries, self._max_retries)
        if wait is None:
            raise error
        return max(0.0, min(wait, left))

    def _timeout(self) -> GenerationTimeoutError:
        return GenerationTimeoutError(f"no complete answer within {self._request.options.timeout} seconds")

    async def _is_cancelled_within(self, seconds: float) -> bool:
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(woken.set)
        try:
            if not self._cancelled.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), seconds)
        finally:
            self._wake = lambda: None
        return self._cancelled.is_set()

    def _leave(self) -> TokenDelta:
        self._is_left = True
        return TokenDelta((), "", finish_reason="cancelled")

    def _stop(self) -> None:
        if self._generation is not None:
            self._generation.cancel()
