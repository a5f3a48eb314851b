"""When a request is submitted again, and what its reader sees of it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from hermes_runtime.engines.base import Usage
from hermes_runtime.engines.retries import RetriedGeneration, RetryPolicy
from hermes_runtime.errors import EngineError, GenerationTimeoutError
from tests.support.requests import generation_request
from tests.support.scripted_engine import ScriptedEngine

ASK = generation_request((1, 5, 6))


class LaterError(EngineError):
    """May pass."""

    def __init__(self, message, retry_after=None):
        super().__init__(message)
        self.retry_after = retry_after


@pytest.mark.parametrize("tries", range(4))
def test_waits_double_and_lie_between_half_and_all(tries):
    policy = RetryPolicy(default=5, delay=0.5)
    waits = [policy.wait(EngineError("x"), tries, None) for _ in range(50)]
    assert all(0.25 * 2**tries <= wait <= 0.5 * 2**tries for wait in waits)


@pytest.mark.parametrize(("asked", "waits"), [(0.0, 0.0), (3.0, 3.0), (1000.0, 60.0)])
def test_a_server_says_how_long_at_least_and_a_minute_is_the_most(asked, waits):
    assert RetryPolicy().wait(LaterError("x", asked), 0, 1) == waits


@pytest.mark.parametrize(
    ("error", "tries", "most"),
    [
        (EngineError("of another kind"), 0, 2),
        (GenerationTimeoutError("late"), 0, 2),
        (LaterError("x"), 2, 2),
        (LaterError("x"), 0, 0),
        (LaterError("x"), 1, None),
    ],
)
def test_there_is_an_end(error, tries, most):
    assert RetryPolicy(default=1, passing=LaterError).wait(error, tries, most) is None


@pytest.fixture
def failing(mistral_tokenizer):
    """Makes engines that fail first, and may be asked again after a wait."""

    def make(failures, retry_after=0.0, **options):
        left, failed = iter(range(failures)), threading.Event()

        def reply(_):
            if next(left, None) is not None:
                failed.set()
                raise LaterError("busy", retry_after)
            return "Hello"

        engine = ScriptedEngine(mistral_tokenizer, reply, **options)
        engine.failed = failed
        return engine

    return make


async def read(generation, *, is_async):
    return [delta async for delta in generation] if is_async else list(generation)


@pytest.mark.parametrize("is_async", [False, True])
async def test_the_reader_of_a_second_try_sees_nothing_of_the_first(failing, is_async):
    engine = failing(2)
    generation = RetriedGeneration(engine, ASK, 2)
    deltas = await read(generation, is_async=is_async)
    assert "".join(delta.text for delta in deltas) == "Hello"
    assert generation.usage == engine.runs[-1].channel.usage
    assert [request.prompt_ids for request in engine.requests] == [ASK.prompt_ids] * 3


@pytest.mark.parametrize("is_async", [False, True])
async def test_all_tries_have_the_time_of_one(failing, is_async):
    engine = failing(2, retry_after=50.0)
    asked = generation_request((1, 5, 6), timeout=0.05)
    with pytest.raises(GenerationTimeoutError, match=r"within 0\.05 seconds"):
        await read(RetriedGeneration(engine, asked, 2), is_async=is_async)
    assert len(engine.requests) == 1


@pytest.mark.parametrize("is_async", [False, True])
async def test_cancelling_ends_the_wait(failing, is_async):
    engine = failing(1, retry_after=50.0)
    generation = RetriedGeneration(engine, ASK, 2)
    reading = asyncio.create_task(read(generation, is_async=True) if is_async else asyncio.to_thread(list, generation))
    await asyncio.to_thread(engine.failed.wait, 30)
    generation.cancel()
    (last,) = await asyncio.wait_for(reading, 30) or [None]
    assert last.finish_reason == "cancelled"
    assert generation.usage == Usage(3, 0)
