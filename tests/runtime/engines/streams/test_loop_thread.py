"""The thread of an engine that waits for others: a cancelled completion cleans up, however often it is cancelled."""

from __future__ import annotations

import asyncio
import threading

import psutil
import pytest

from hermes_runtime.engines.streams.channel import StreamedGeneration
from hermes_runtime.engines.streams.loop_thread import LoopThread, TaskChannel
from hermes_runtime.errors import EngineError


async def _nothing():
    pass


def test_a_second_cancel_does_not_break_off_the_cleaning_up_of_the_first():
    loop, channel = LoopThread("test"), TaskChannel(3)
    begun, cleaning, cleaned = threading.Event(), threading.Event(), threading.Event()
    may_end = asyncio.Event()

    async def work():
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await may_end.wait()
            cleaned.set()

    async def release():
        may_end.set()

    loop.start(work, channel)
    generation = StreamedGeneration(channel)
    assert begun.wait(30)
    generation.cancel()
    assert cleaning.wait(30)
    # What a task does that is cancelled while it reads: its iterator is closed, and then dropped.
    generation.cancel()
    del generation
    loop.run(release())
    assert cleaned.wait(30)
    loop.close(_nothing)


@pytest.mark.filterwarnings("error")
def test_closing_from_many_threads_ends_once_and_leaves_nothing_open():
    files = psutil.Process().num_fds()
    for _ in range(20):
        loop, ended = LoopThread("test"), []

        async def last(ended=ended):
            ended.append(True)

        closing = [threading.Thread(target=loop.close, args=(last,)) for _ in range(4)]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(30)
        loop.close(last)
        assert ended == [True]
        with pytest.raises(EngineError, match="closed"):
            loop.start(_nothing, TaskChannel(1))
    assert psutil.Process().num_fds() < files + 10
