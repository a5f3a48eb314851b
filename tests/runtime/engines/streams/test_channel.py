"""The hand-over from an engine's thread to a reader in a thread or an event loop."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from hermes_runtime.engines.base import TokenDelta, Usage
from hermes_runtime.engines.streams.channel import DeltaChannel, StreamedGeneration
from hermes_runtime.errors import EngineError


def delta(number):
    return TokenDelta((number,), str(number))


def produce(channel, count, *, error=None):
    for number in range(count):
        channel.put(delta(number))
    if error is None:
        channel.finish(Usage(1, count))
    else:
        channel.fail(error)


def test_thread_reader_gets_every_delta_in_order():
    channel = DeltaChannel()
    generation = StreamedGeneration(channel)
    producer = threading.Thread(target=produce, args=(channel, 1000))
    producer.start()
    assert [item.ids[0] for item in generation] == list(range(1000))
    assert generation.usage == Usage(1, 1000)
    producer.join()


async def test_loop_reader_gets_every_delta_in_order():
    channel = DeltaChannel()
    generation = StreamedGeneration(channel)
    producer = threading.Thread(target=produce, args=(channel, 1000))
    producer.start()
    assert [item.ids[0] async for item in generation] == list(range(1000))
    producer.join()


async def test_loop_stays_free_while_a_reader_waits():
    channel = DeltaChannel()
    waiting = asyncio.ensure_future(anext(aiter(StreamedGeneration(channel))))
    await asyncio.sleep(0)
    channel.put(delta(7))  # from the loop's own thread: it must not be blocked by the reader
    assert (await waiting).ids == (7,)


def test_error_arrives_after_the_deltas_before_it():
    channel = DeltaChannel()
    produce(channel, 2, error=EngineError("broken"))
    seen = []
    with pytest.raises(EngineError, match="broken"):
        seen.extend(item.ids[0] for item in StreamedGeneration(channel))
    generation = StreamedGeneration(channel)
    with pytest.raises(EngineError, match="broken"):
        list(generation)


def test_closing_the_iterator_cancels():
    channel = DeltaChannel()
    generation = StreamedGeneration(channel)
    channel.put(delta(0))
    reader = iter(generation)
    next(reader)
    assert not channel.is_cancelled
    reader.close()
    assert channel.is_cancelled


async def test_cancelling_the_task_cancels():
    channel = DeltaChannel()
    generation = StreamedGeneration(channel)
    started = asyncio.Event()

    async def read():
        async for _ in generation:
            started.set()

    task = asyncio.create_task(read())
    channel.put(delta(0))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert channel.is_cancelled


def test_dropping_an_unread_generation_cancels():
    channel = DeltaChannel()
    generation = StreamedGeneration(channel)
    assert not channel.is_cancelled
    del generation
    gc.collect()
    assert channel.is_cancelled


def test_nothing_is_delivered_after_the_end():
    channel = DeltaChannel()
    produce(channel, 1)
    channel.put(delta(5))
    channel.fail(EngineError("late"))
    assert [item.ids[0] for item in StreamedGeneration(channel)] == [0]


def test_producer_survives_a_closed_loop():
    channel = DeltaChannel()
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(anext(aiter(StreamedGeneration(channel))))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    channel.put(delta(0))
    waiting._log_destroy_pending = False
