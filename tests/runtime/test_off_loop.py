"""What would hold an event loop up is done beside it."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from contextvars import ContextVar

import pytest

from hermes_runtime.errors import EngineError, InvalidRequestError
from hermes_runtime.messages import ToolSpec, User
from hermes_runtime.off_loop import off_loop
from hermes_runtime.options.generation import SamplingParams
from hermes_runtime.turn import Turn
from tests.support.loop_watch import watch_turns
from tests.support.requests import turn_request
from tests.support.scripted_engine import PATIENCE, ScriptedEngine

WHO = ContextVar("who", default="nobody")
TOOL = ToolSpec("get_time", "Time.", {"type": "object", "properties": {"city": {"type": "string"}}})
CALL = "<tool_call>\n{'arguments': {'city': 'Brest'}, 'name': 'get_time'}\n</tool_call>"


async def test_work_runs_in_another_thread_with_the_context_of_the_task():
    WHO.set("me")
    assert await off_loop(lambda: (WHO.get(), threading.get_ident() != threading.main_thread().ident)) == ("me", True)


async def test_what_work_sets_in_its_context_stays_there():
    await off_loop(WHO.set, "other")
    assert WHO.get() == "nobody"


async def test_work_takes_arguments_and_its_errors_come_back():
    assert await off_loop(int, "ff", base=16) == 255
    with pytest.raises(InvalidRequestError):
        await off_loop(SamplingParams, temperature=-1.0)


async def test_the_threads_are_few_however_many_tasks_there_are():
    before = threading.active_count()
    await asyncio.gather(*(off_loop(threading.get_ident) for _ in range(200)))
    assert threading.active_count() - before <= 4


async def test_work_does_not_wait_for_threads_of_the_program_that_wait_for_it():
    loop = asyncio.get_running_loop()

    def ask():
        return asyncio.run_coroutine_threadsafe(off_loop(threading.get_ident), loop).result(PATIENCE)

    # More than the loop's own executor has threads.
    assert all(await asyncio.gather(*(asyncio.to_thread(ask) for _ in range(64))))


def _in_child(found):
    found.put(asyncio.run(off_loop(WHO.get)))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_child_has_threads_of_its_own():
    asyncio.run(off_loop(WHO.get))
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    child = context.Process(target=_in_child, args=(found,))
    child.start()
    assert found.get(timeout=PATIENCE) == "nobody"
    child.join(PATIENCE)
    assert child.exitcode == 0


def request(**options):
    return turn_request([User("What time is it?")], tools=[TOOL], **options)


async def test_a_turn_is_made_handed_over_and_repaired_beside_the_loop(mistral_tokenizer, monkeypatch):
    engine = ScriptedEngine(mistral_tokenizer, ["Late.", CALL])
    watch = watch_turns(monkeypatch, engine)
    watch.begin()
    asked = request(tool_choice="any", constrained=False, max_repairs=1)
    turn = await off_loop(Turn, engine, asked)
    async for _ in turn:
        pass
    assert turn.result.repairs == 1
    assert watch.seen == ["check_tools", "render_prompt", "submit", "render_prompt", "submit"]


async def test_a_request_that_is_submitted_again_is_made_once_and_handed_over_beside_the_loop(
    mistral_tokenizer, monkeypatch
):
    replies = iter([EngineError("a kernel failed"), "It is nine."])

    def reply(_):
        said = next(replies)
        if isinstance(said, Exception):
            raise said
        return said

    engine = ScriptedEngine(mistral_tokenizer, reply)
    watch = watch_turns(monkeypatch, engine)
    watch.begin()
    turn = await off_loop(Turn, engine, request(max_retries=1))
    assert [event.text async for event in turn]
    assert (watch.seen.count("turn_grammar"), watch.seen.count("submit")) == (1, 2)


@pytest.mark.parametrize("max_retries", [0, 1])
async def test_a_task_that_is_cancelled_while_its_request_is_handed_over_leaves_nothing_running(
    max_retries, mistral_tokenizer, monkeypatch
):
    engine = ScriptedEngine(mistral_tokenizer, ["It is nine in the morning."], pause_after=2)
    submitting, may_submit = threading.Event(), threading.Event()
    submit = engine.submit

    def slow(given):
        submitting.set()
        assert may_submit.wait(PATIENCE)
        return submit(given)

    monkeypatch.setattr(engine, "submit", slow)
    turn = await off_loop(Turn, engine, request(max_retries=max_retries))

    async def read():
        async for _ in turn:
            pass

    task = asyncio.create_task(read())
    await asyncio.to_thread(submitting.wait, PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    may_submit.set()
    await asyncio.to_thread(engine.wait_requests, 1)
    await asyncio.to_thread(engine.runs[0].wait_ended)
    assert engine.runs[0].finish_reason == "cancelled"
