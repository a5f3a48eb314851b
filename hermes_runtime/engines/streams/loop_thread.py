"""An event loop in a thread of its own, for engines whose work is to wait for somebody else's."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from hermes_runtime.engines.base import TokenDelta, Usage
from hermes_runtime.engines.streams.channel import DeltaChannel
from hermes_runtime.errors import EngineError

T = TypeVar("T")
_FORKED = "{} was opened before this process was forked; load the engine again here"


class LoopThread:
    """Runs coroutines for any thread until it is closed.

    Args:
        name: Of the thread, and of the engine in messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._process = os.getpid()
        self._channels: weakref.WeakSet[TaskChannel] = weakref.WeakSet()
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run_forever, name=name, daemon=True)
        self._thread.start()
        _OPEN_LOOPS.add(self)

    @property
    def is_left_behind(self) -> bool:
        """Whether this process was forked from the one that the loop runs in."""
        return os.getpid() != self._process

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def start(self, work: Callable[[], Coroutine[Any, Any, None]], channel: TaskChannel) -> None:
        """Begin a completion; however it ends, its channel ends too.

        Raises:
            EngineError: The loop was closed, or belongs to the process that this one was forked from.
        """
        if self.is_left_behind:
            raise EngineError(_FORKED.format(self._name))
        with self._lock:  # what begins before the end does is ended by it
            if self._is_closing:
                raise EngineError(f"{self._name} is closed; load it again")
            self._channels.add(channel)
            self._loop.call_soon_threadsafe(self._begin, work, channel)

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]], channel: TaskChannel) -> None:
        channel.attach(self._loop, self._loop.create_task(work()))

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancel what runs, then run `last` and stop; safe to call twice and after a fork."""
        if self.is_left_behind or not self._thread.is_alive():
            return
        with self._lock:
            is_first, self._is_closing = not self._is_closing, True
        if is_first:
            asyncio.run_coroutine_threadsafe(self._end(last), self._loop)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run_forever(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    async def _end(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await self._cancel_others()
        try:
            await last()
            await self._loop.shutdown_asyncgens()
            await self._cancel_others()  # the last steps of streams that were left in their middle
        finally:
            self._loop.stop()

    def leave_behind(self) -> None:
        """End the streams of a forked child, where nobody produces them any more."""
        for channel in list(self._channels):
            channel.leave_behind(EngineError(_FORKED.format(self._name)))

    async def _cancel_others(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            _cancel_once(task)
        await asyncio.gather(*others, return_exceptions=True)


class TaskChannel(DeltaChannel):
    """A channel whose producer is a task; cancelling the one cancels the other.

    Args:
        prompt_tokens: What the usage of a completion that never began reports.
    """

    def __init__(self, prompt_tokens: int) -> None:
        super().__init__()
        self._prompt_tokens = prompt_tokens
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def attach(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
        """Name the producer; called in its loop."""
        self._loop, self._task = loop, task
        task.add_done_callback(self._close)
        if self.is_cancelled:
            _cancel_once(task)

    def cancel(self) -> None:
        """Ask the producer to stop."""
        super().cancel()
        if self._loop is not None and self._task is not None and not self._task.done():
            with suppress(RuntimeError):  # the loop was closed, and all its tasks with it
                self._loop.call_soon_threadsafe(_cancel_once, self._task)

    def _close(self, task: asyncio.Task[None]) -> None:
        """End the stream of a task that did not do so itself: it was cancelled, perhaps before its first step."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)
        self.put(TokenDelta((), "", finish_reason="cancelled"))
        self.finish(Usage(self._prompt_tokens, 0))


_OPEN_LOOPS: weakref.WeakSet[LoopThread] = weakref.WeakSet()


def _cancel_once(task: asyncio.Task[Any]) -> None:
    """Cancel a task of this thread's loop, unless it is being cancelled: again would break off its cleaning up."""
    if not task.cancelling():
        task.cancel()


async def _nothing() -> None:
    """Leave what is open to the end of the process."""


@atexit.register
def _close_open_loops() -> None:
    for loop in list(_OPEN_LOOPS):
        loop.close(_nothing)


def _leave_loops_behind() -> None:
    for loop in list(_OPEN_LOOPS):
        loop.leave_behind()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_loops_behind)
