"""ChatHermes never holds an event loop up while it converts messages, builds a grammar or makes a prompt."""

from __future__ import annotations

import asyncio
import threading

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage

import langchain_hermes._options
import langchain_hermes.chat_models
from tests.support.loop_watch import watch_turns
from tests.support.scripted_engine import PATIENCE
from tests.support.weather import call_block, get_weather

CALL = call_block(city="Oslo")
MADE = {"to_runtime_messages", "tool_specs", "check_tools", "render_prompt", "submit"}


def reply(prompt):
    return "It rains." if "<tool_response>" in prompt else CALL


async def _ainvoke(llm):
    assert (await llm.bind_tools([get_weather]).ainvoke("Oslo?")).tool_calls


async def _astream(llm):
    assert [chunk async for chunk in llm.bind_tools([get_weather]).astream("Oslo?")]


async def _abatch(llm):
    assert len(await llm.bind_tools([get_weather]).abatch(["Oslo?", "Rome?", "Bergen?"])) == 3


async def _agent(llm):
    agent = create_agent(llm, [get_weather])
    modes = [payload async for payload in agent.astream({"messages": [HumanMessage("Oslo?")]}, stream_mode="values")]
    assert modes[-1]["messages"][-1].text == "It rains."


async def _structured(llm):
    structured = llm.with_structured_output({"title": "get_weather", "type": "object"}, method="function_calling")
    assert await structured.ainvoke("Oslo?") == {"city": "Oslo"}


WAYS = {"ainvoke": _ainvoke, "astream": _astream, "abatch": _abatch, "agent": _agent, "structured": _structured}


@pytest.fixture
def watched(scripted, monkeypatch):
    """Return a function that makes a model, loaded, and the watch over its calls."""

    async def make(replies, **options):
        llm, engine = scripted(replies, **options)
        watch = watch_turns(monkeypatch, engine)
        watch.step(langchain_hermes.chat_models, "to_runtime_messages")
        watch.step(langchain_hermes._options, "tool_specs")
        watch.begin()
        return llm, watch

    return make


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("constrained", [True, False])
async def test_all_that_a_call_makes_is_made_beside_the_loop(way, constrained, watched):
    llm, watch = await watched(reply, constrained=constrained)
    await WAYS[way](llm)
    assert set(watch.seen) == MADE | ({"turn_grammar"} if constrained else set())


async def test_a_repair_is_made_beside_the_loop(watched):
    llm, watch = await watched(["No.", CALL], constrained=False, max_repairs=1)
    assert (await llm.bind_tools([get_weather], tool_choice="any").ainvoke("Oslo?")).tool_calls
    assert watch.seen.count("render_prompt") == watch.seen.count("submit") == 2


async def test_a_call_that_is_cancelled_while_it_is_made_computes_nothing(scripted, monkeypatch):
    llm, engine = scripted(reply)
    await llm.ainvoke("Oslo?")
    building, may_build = threading.Event(), threading.Event()
    build = langchain_hermes.chat_models.to_runtime_messages

    def slow(messages):
        building.set()
        assert may_build.wait(PATIENCE)
        return build(messages)

    monkeypatch.setattr(langchain_hermes.chat_models, "to_runtime_messages", slow)
    task = asyncio.create_task(llm.ainvoke("Rome?"))
    await asyncio.to_thread(building.wait, PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    may_build.set()
    await llm.ainvoke("Bergen?")
    assert [prompt for prompt in engine.prompts if "Rome?" in prompt] == []
