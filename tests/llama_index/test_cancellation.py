"""Whoever stops reading stops the model."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import ChatMessage

REPLY = "one two three four five"
PAUSED = {"pause_after": 2}

STREAMS = {
    "stream_chat": lambda llm: llm.stream_chat([ChatMessage("Count.")]),
    "stream_complete": lambda llm: llm.stream_complete("Count."),
    "formatted": lambda llm: llm.stream_complete("Count.", formatted=True),
}
ASYNC_STREAMS = {
    "astream_chat": lambda llm: llm.astream_chat([ChatMessage("Count.")]),
    "astream_complete": lambda llm: llm.astream_complete("Count."),
    "formatted": lambda llm: llm.astream_complete("Count.", formatted=True),
}
every_stream = pytest.mark.parametrize("start", STREAMS.values(), ids=STREAMS)
every_async_stream = pytest.mark.parametrize("start", ASYNC_STREAMS.values(), ids=ASYNC_STREAMS)


class Hoarder(BaseEventHandler):
    """Keeps every event, and with the exceptions the frames that were running."""

    kept: list[Any]

    def handle(self, event, **_):
        self.kept.append(event)


@pytest.fixture(params=[False, True], ids=["", "events kept"])
def _hoarding(request):
    root, hoarder = get_dispatcher(), Hoarder(kept=[])
    if request.param:
        root.add_event_handler(hoarder)
    yield
    if request.param:
        assert hoarder.kept
        root.event_handlers.remove(hoarder)


def stopped(engine):
    engine.runs[0].wait_ended()
    return engine.runs[0].finish_reason == "cancelled"


@every_stream
@pytest.mark.usefixtures("_hoarding")
def test_closing_a_stream_stops_the_engine(start, scripted):
    llm, engine = scripted([REPLY], engine=PAUSED)
    stream = start(llm)
    next(stream)
    stream.close()
    assert stopped(engine)


@every_stream
@pytest.mark.usefixtures("_hoarding")
def test_dropping_a_stream_stops_the_engine(start, scripted):
    llm, engine = scripted([REPLY], engine=PAUSED)
    for _ in start(llm):
        break
    assert stopped(engine)


@every_stream
def test_stream_that_is_never_read_computes_nothing(start, scripted):
    llm, engine = scripted([REPLY])
    start(llm).close()
    assert not engine.requests


@every_async_stream
@pytest.mark.usefixtures("_hoarding")
async def test_closing_an_async_stream_stops_the_engine(start, scripted):
    llm, engine = scripted([REPLY], engine=PAUSED)
    stream = await start(llm)
    await anext(stream)
    await stream.aclose()
    assert await asyncio.to_thread(stopped, engine)


@every_async_stream
@pytest.mark.usefixtures("_hoarding")
async def test_dropping_an_async_stream_stops_the_engine(start, scripted):
    llm, engine = scripted([REPLY], engine=PAUSED)
    async for _ in await start(llm):
        break
    assert await asyncio.to_thread(stopped, engine)


@every_async_stream
@pytest.mark.usefixtures("_hoarding")
async def test_cancelling_a_task_that_reads_stops_the_engine(start, scripted):
    llm, engine = scripted([REPLY], engine=PAUSED)
    begun = asyncio.Event()

    async def read():
        async for _ in await start(llm):
            begun.set()

    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(stopped, engine)


@pytest.mark.usefixtures("_hoarding")
@pytest.mark.parametrize("endpoint", ["achat", "acomplete"])
async def test_cancelling_a_task_that_waits_stops_the_engine(endpoint, scripted):
    llm, engine = scripted([REPLY], engine=PAUSED)
    call = llm.achat([ChatMessage("Count.")]) if endpoint == "achat" else llm.acomplete("Count.")
    task = asyncio.create_task(call)
    await asyncio.to_thread(engine.wait_requests, 1)
    await asyncio.to_thread(engine.runs[0].wait_stalled)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(stopped, engine)


async def test_cancelling_an_agent_run_stops_the_engine(scripted):
    llm, engine = scripted([REPLY], engine=PAUSED)
    handler = FunctionAgent(llm=llm, tools=[]).run("Count.")
    async for event in handler.stream_events():
        if isinstance(event, AgentStream):
            await handler.cancel_run()
            break
    assert await asyncio.to_thread(stopped, engine)


def test_object_answers_the_next_call_after_a_cancelled_one(scripted):
    llm, engine = scripted([REPLY, "Hello."], engine=PAUSED)
    for _ in llm.stream_chat([ChatMessage("Count.")]):
        break
    engine.resume()
    assert llm.chat([ChatMessage("Hi")]).message.content == "Hello."
