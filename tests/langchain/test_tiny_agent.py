"""Agents over the embedded checkpoint: every call below was written by real weights."""

from __future__ import annotations

import asyncio

import pytest
from langchain.agents import create_agent
from langchain_core.exceptions import ModelError
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage

from hermes_runtime.errors import HermesError
from langchain_hermes import ChatHermes
from tests.langchain.test_agents import WAYS, by_stream

WEATHER = {"Bergen": "9 degrees and light rain", "Ostend": "17 degrees and windy"}
ONE, TWO = "What is the weather in Bergen?", "What is the weather in Bergen and Ostend?"


@pytest.fixture
def llm():
    return ChatHermes(model="tiny-hermes", device="cpu", temperature=0, max_tokens=200)


@pytest.fixture
def calls():
    return []


@pytest.fixture
def agent(llm, calls):
    def get_weather(city: str) -> str:
        """Get the weather in a city."""
        calls.append(city)
        return WEATHER.get(city, "no data")

    return create_agent(llm, [get_weather])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("question", "cities"), [(ONE, ["Bergen"]), (TWO, ["Bergen", "Ostend"])])
def test_an_agent_really_calls_its_tool_and_answers_from_the_result(agent, calls, way, question, cities):
    messages = way(agent, question)
    assert sorted(calls) == cities
    assert [call["args"]["city"] for call in messages[1].tool_calls] == cities
    for city in cities:
        assert WEATHER[city].partition(" and")[0] in messages[-1].text
    assert len({message.id for message in messages}) == len(messages)


def test_the_second_turn_is_streamed_as_it_is_made(agent):
    pieces = [
        message.text
        for message, _ in agent.stream({"messages": [HumanMessage(ONE)]}, stream_mode="messages")
        if isinstance(message, AIMessageChunk) and message.text
    ]
    assert len(pieces) > 3
    assert "9 degrees" in "".join(pieces)


def test_a_call_cut_by_the_token_limit_does_not_run(agent, llm, calls):
    llm.max_tokens = 12
    messages = by_stream(agent, ONE)
    assert calls == []
    assert len(messages[-1].invalid_tool_calls) == 1


def test_agents_side_by_side_do_not_disturb_each_other(agent):
    async def run():
        questions = [ONE, TWO, ONE, TWO]
        return await asyncio.gather(*(agent.ainvoke({"messages": [HumanMessage(text)]}) for text in questions))

    one, two, again, two_again = [result["messages"][-1].text for result in asyncio.run(run())]
    assert one == again
    assert two == two_again


def test_invoke_and_stream_say_the_same(llm):
    whole = llm.invoke("Hello!")
    assert type(whole) is AIMessage
    assert "".join(chunk.text for chunk in llm.stream("Hello!")) == whole.text != ""


def test_leaving_a_stream_leaves_the_engine_to_the_next_call(llm):
    whole = llm.invoke("Hello!").text
    for _ in llm.stream("Hello!", max_tokens=4000):
        break
    assert llm.invoke("Hello!").text == whole


async def test_cancelling_a_task_leaves_the_engine_to_the_next_call(llm):
    whole = (await llm.ainvoke("Hello!")).text
    task = asyncio.create_task(llm.ainvoke("Hello!", max_tokens=4000))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await llm.ainvoke("Hello!")).text == whole


@pytest.mark.parametrize(
    "options",
    [
        {"model": "no/such/folder"},
        {"engine": "abacus"},
        {"kernel": "fast"},
        {"device": "abacus"},
        {"context_window": 100_000},
    ],
)
def test_what_cannot_be_loaded_is_named_and_spoils_nothing(llm, options):
    with pytest.raises(HermesError, match=str(next(iter(options.values())))) as raised:
        ChatHermes(**{"model": "tiny-hermes", **options}).invoke("Hello!")
    assert isinstance(raised.value, ModelError)
    assert llm.invoke("Hello!").content
