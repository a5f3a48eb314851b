"""Agents over the embedded checkpoint: every call below was written by real weights."""

from __future__ import annotations

import asyncio
import json
from functools import reduce
from operator import add

import pytest
from langchain.agents import create_agent
from langchain_core.exceptions import ModelError
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage, message_chunk_to_message
from langgraph.prebuilt import create_react_agent
from pydantic import BaseModel

from hermes_runtime.errors import HermesError
from langchain_hermes import ChatHermes
from tests.langchain.agent_ways import WAYS, by_invoke, by_stream
from tests.support.weather import WEATHER, get_weather

pytestmark = pytest.mark.filterwarnings("ignore:The v3 streaming protocol")
ONE, TWO = "What is the weather in Bergen?", "What is the weather in Bergen and Ostend?"


@pytest.fixture
def llm():
    return ChatHermes(model="tiny-hermes", device="cpu", temperature=0, max_tokens=200)


@pytest.fixture
def calls(cities_asked):
    return cities_asked


@pytest.fixture
def agent(llm):
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


def test_twenty_agents_on_one_engine_do_not_disturb_each_other(agent, calls):
    alone = [by_invoke(agent, question)[-1].text for question in (ONE, TWO)]
    calls.clear()

    async def run():
        questions = [ONE, TWO] * 10
        return await asyncio.gather(*(agent.ainvoke({"messages": [HumanMessage(text)]}) for text in questions))

    results = [result["messages"] for result in asyncio.run(run())]
    assert [messages[-1].text for messages in results] == alone * 10
    assert len(calls) == 30
    ids = [call["id"] for messages in results for call in messages[1].tool_calls]
    assert len(set(ids)) == len(ids) == 30


def test_arguments_of_a_forced_call_flow_while_the_model_writes_them(llm):
    bound = llm.bind_tools([get_weather], tool_choice="get_weather")
    pieces = [part["args"] for chunk in bound.stream(ONE) for part in chunk.tool_call_chunks]
    assert len(pieces) > 2
    assert "".join(pieces) == json.dumps(bound.invoke(ONE).tool_calls[0]["args"], ensure_ascii=False)


@pytest.mark.parametrize("max_tokens", [3, 9, 14, 17])
def test_a_cut_is_the_same_on_every_path(llm, max_tokens):
    bound = llm.bind_tools([get_weather], tool_choice="any")
    whole = bound.invoke(ONE, max_tokens=max_tokens)
    streamed = message_chunk_to_message(reduce(add, bound.stream(ONE, max_tokens=max_tokens)))
    protocol = bound.stream_events(ONE, version="v3", max_tokens=max_tokens).output
    for message in (streamed, protocol):
        for kind in ("tool_calls", "invalid_tool_calls"):
            assert [call["args"] for call in getattr(message, kind)] == [call["args"] for call in getattr(whole, kind)]


def test_a_conversation_goes_on_with_a_tool_that_is_gone(agent, calls):
    history = [
        HumanMessage("What is the tide in Brest?"),
        AIMessage("", tool_calls=[{"name": "get_tide", "args": {"port": "Brest"}, "id": "old"}]),
        ToolMessage("high", tool_call_id="old"),
        AIMessage("The tide in Brest is high."),
    ]
    messages = agent.invoke({"messages": [*history, HumanMessage(ONE)]})["messages"]
    assert len(messages) > len(history) + 1
    assert messages[-1].text or messages[-1].invalid_tool_calls


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
def test_the_prebuilt_agent_and_a_final_object(llm):
    messages = create_react_agent(llm, [get_weather]).invoke({"messages": [HumanMessage(ONE)]})["messages"]
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]

    class Person(BaseModel):
        """A person."""

        name: str
        age: int

    about = {"messages": [HumanMessage("The name is Victor and the age is 34.")]}
    assert isinstance(create_agent(llm, [], response_format=Person).invoke(about)["structured_response"], Person)


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
