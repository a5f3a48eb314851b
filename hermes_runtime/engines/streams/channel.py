"""The hand-over between an engine's thread and whoever reads the stream, in a thread or in an event loop."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress

from hermes_runtime.engines.base import TokenDelta, Usage


class DeltaChannel:
    """The producer's end. All methods are safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deltas: deque[TokenDelta] = deque()
        self._wakers: list[Callable[[], None]] = []
        self._is_finished = False
        self._error: BaseException | None = None
        self._usage: Usage | None = None
        self._is_cancelled = False

    @property
    def is_cancelled(self) -> bool:
        """Whether the reader asked to stop; the producer looks at it once per token."""
        return self._is_cancelled

    @property
    def usage(self) -> Usage | None:
        """Token counts, once the stream has ended."""
        return self._usage

    def cancel(self) -> None:
        """Ask the producer to stop."""
        self._is_cancelled = True

    def put(self, delta: TokenDelta) -> None:
        """Hand a delta to the reader."""
        self._change(lambda: self._deltas.append(delta))

    def finish(self, usage: Usage | None) -> None:
        """End the stream."""

        def end() -> None:
            self._usage = usage
            self._is_finished = True

        self._change(end)

    def fail(self, error: BaseException) -> None:
        """End the stream with an error that the reader raises after the deltas put so far."""

        def end() -> None:
            self._error = error
            self._is_finished = True

        self._change(end)

    def leave_behind(self, error: BaseException) -> None:
        """End the stream in a forked child, whose reader shares nothing with the producer any more.

        The lock may be held by a thread that is not here, and the reader, who forked, is not waiting.
        """
        self._lock = threading.Lock()
        self._wakers.clear()
        self._error = error
        self._is_finished = True

    def take(self) -> list[TokenDelta] | None:
        """Return the deltas put since the last call; None once the stream has ended and all were taken.

        Raises:
            BaseException: What the producer failed with.
        """
        with self._lock:
            deltas = list(self._deltas)
            self._deltas.clear()
            if deltas or not self._is_finished:
                return deltas
        if self._error is not None:
            raise self._error
        return None

    def subscribe(self, waker: Callable[[], None]) -> None:
        """Call `waker` on every change from now on."""
        with self._lock:
            self._wakers.append(waker)

    def unsubscribe(self, waker: Callable[[], None]) -> None:
        """Stop calling `waker`."""
        with self._lock, suppress(ValueError):  # a forked child has none
            self._wakers.remove(waker)

    def _change(self, apply: Callable[[], None]) -> None:
        with self._lock:
            if self._is_finished:
                return
            apply()
            wakers = tuple(self._wakers)
        for wake in wakers:
            wake()


class StreamedGeneration:
    """The reader's end: a `Generation` over a `DeltaChannel`. Dropping it stops the computation."""

    def __init__(self, channel: DeltaChannel) -> None:
        self._channel = channel
        self._finalizer = weakref.finalize(self, channel.cancel)
        self._finalizer.atexit = False

    def __iter__(self) -> Iterator[TokenDelta]:
        changed = threading.Event()
        self._channel.subscribe(changed.set)
        try:
            while (deltas := self._channel.take()) is not None:
                if deltas:
                    yield from deltas
                else:
                    changed.wait()
                    changed.clear()
        finally:
            self._channel.unsubscribe(changed.set)
            self._channel.cancel()

    async def __aiter__(self) -> AsyncIterator[TokenDelta]:
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop was closed with this reader in it; nobody is left to wake
                loop.call_soon_threadsafe(changed.set)

        self._channel.subscribe(wake)
        try:
            while (deltas := self._channel.take()) is not None:
                for delta in deltas:
                    yield delta
                if not deltas:
                    await changed.wait()
                    changed.clear()
        finally:
            self._channel.unsubscribe(wake)
            self._channel.cancel()

    def cancel(self) -> None:
        """Stop within one token; the stream then ends with finish_reason `cancelled`."""
        self._channel.cancel()

    @property
    def usage(self) -> Usage | None:
        """Token counts, once the stream has ended."""
        return self._channel.usage
