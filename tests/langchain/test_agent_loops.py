"""What befalls agents: tools that fail or are gone, handoffs, interrupts, fallbacks, and every way to watch them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    HumanInTheLoopMiddleware,
    LLMToolSelectorMiddleware,
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
    ToolRetryMiddleware,
)
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command
from pydantic import BaseModel

from hermes_runtime.errors import EngineError
from langchain_hermes import ChatHermes
from tests.support.scripted_engine import ScriptedEngine
from tests.support.weather import CITIES_ASKED, call_block, caller, get_weather

pytestmark = pytest.mark.usefixtures("cities_asked")


def asked(question="Oslo"):
    return {"messages": [HumanMessage(question)]}


def kinds(messages):
    return [message.type for message in messages]


# Tools that fail or are gone


def test_an_error_from_a_tool_reaches_the_model_and_its_next_call_is_made(scripted):
    def flaky(city: str) -> str:
        """Say how the weather is."""
        CITIES_ASKED.append(city)
        if city == "Olso":
            raise ValueError("no such city: Olso")
        return "rain"

    replies = iter([call_block("flaky", city="Olso"), call_block("flaky", city="Oslo"), "Rain."])
    llm, engine = scripted(lambda prompt: next(replies))
    agent = create_agent(llm, [flaky], middleware=[ToolRetryMiddleware(max_retries=0)])
    messages = agent.invoke(asked())["messages"]
    assert CITIES_ASKED == ["Olso", "Oslo"]
    assert [message.status for message in messages if isinstance(message, ToolMessage)] == ["error", "success"]
    assert "Error: " in engine.prompts[1].rpartition("<tool_response>")[2]
    assert messages[-1].text == "Rain."
    ids = [call["id"] for message in messages if isinstance(message, AIMessage) for call in message.tool_calls]
    assert len(set(ids)) == len(ids) == 2


def test_a_conversation_goes_on_after_its_tool_is_gone(scripted):
    llm, engine = scripted(caller)
    history = [
        HumanMessage("Tide in Brest?"),
        AIMessage("", tool_calls=[{"name": "get_tide", "args": {"port": "Brest"}, "id": "old"}]),
        ToolMessage("high", tool_call_id="old"),
        AIMessage("High."),
    ]
    agent = create_agent(llm, [get_weather])
    messages = agent.invoke({"messages": [*history, HumanMessage("Oslo")]})["messages"]
    assert CITIES_ASKED == ["Oslo"]
    assert messages[-1].text == "So: rain in Oslo"
    tools, _, rest = engine.prompts[0].rpartition("</tools>")
    assert "get_tide" not in tools
    assert "'name': 'get_tide'" in rest
    assert '"name": "get_tide"' in rest


# Several agents


def test_an_agent_hands_over_to_another(scripted):
    @tool
    def transfer_to_bob(tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
        """Ask Bob."""
        answered = ToolMessage("handed over", tool_call_id=tool_call_id)
        return Command(goto="bob", graph=Command.PARENT, update={"messages": [answered, HumanMessage("Oslo")]})

    def reply(prompt):
        return (
            call_block("transfer_to_bob") if "transfer_to_bob" in prompt.rpartition("</tools>")[0] else caller(prompt)
        )

    llm, engine = scripted(reply)
    graph = StateGraph(MessagesState)
    graph.add_node("alice", create_agent(llm, [transfer_to_bob]), destinations=("bob",))
    graph.add_node("bob", create_agent(llm, [get_weather]))
    graph.add_edge(START, "alice")
    messages = graph.compile().invoke(asked("How is the weather?"))["messages"]
    assert CITIES_ASKED == ["Oslo"]
    assert messages[-1].text == "So: rain in Oslo"
    assert len(engine.requests) == 3


@pytest.mark.parametrize(
    ("decision", "made"),
    [
        ({"type": "approve"}, ["Oslo"]),
        (
            {"type": "edit", "edited_action": {"name": "get_weather", "args": {"city": "Rome"}}},
            ["Rome"],
        ),
        ({"type": "reject", "message": "Not now."}, []),
    ],
)
def test_an_interrupted_call_waits_for_a_person(scripted, decision, made):
    def reply(prompt):
        return "Done." if "<tool_response>" in prompt else caller(prompt)

    llm, engine = scripted(reply)
    middleware = [HumanInTheLoopMiddleware(interrupt_on={"get_weather": True})]
    agent = create_agent(llm, [get_weather], middleware=middleware, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "one"}}
    stopped = agent.invoke(asked(), config)
    assert stopped["__interrupt__"][0].value["action_requests"][0]["args"] == {"city": "Oslo"}
    assert CITIES_ASKED == []
    messages = agent.invoke(Command(resume={"decisions": [decision]}), config)["messages"]
    assert made == CITIES_ASKED
    assert messages[-1].text == "Done."
    assert len(engine.requests) == 2


# Middleware that chooses models and tools


@pytest.fixture
def engines(load_by, mistral_tokenizer):
    """Return a function that makes engines of several names; a None for replies is an engine that always fails."""

    def make(**replies):
        def failing(prompt):
            raise EngineError("a kernel failed")

        made = {
            name: ScriptedEngine(mistral_tokenizer, reply or failing, model_name=name)
            for name, reply in replies.items()
        }
        load_by(lambda model, **options: made[model])
        return made

    return make


def test_a_model_that_fails_is_replaced_by_another(engines):
    made = engines(broken=None, sound=caller)
    fallback = ModelFallbackMiddleware(ChatHermes(model="sound"))
    agent = create_agent(ChatHermes(model="broken"), [get_weather], middleware=[fallback])
    messages = agent.invoke(asked())["messages"]
    assert messages[-1].text == "So: rain in Oslo"
    assert messages[-1].response_metadata["model_name"] == "sound"
    assert len(made["sound"].requests) == 2


def test_a_failed_engine_is_tried_again_and_bad_input_is_not(scripted):
    failures = iter([True, False])

    def reply(prompt):
        if next(failures):
            raise EngineError("a kernel failed")
        return "Hello"

    llm, _ = scripted(reply)
    retry = ModelRetryMiddleware(max_retries=2, initial_delay=0, jitter=False, on_failure="error")
    assert create_agent(llm, [], middleware=[retry]).invoke(asked())["messages"][-1].text == "Hello"


def test_a_selector_offers_only_the_tools_it_chose(scripted):
    def get_tide(port: str) -> str:
        """Say how the tide is."""
        return "high"

    def reply(prompt):
        return '{"tools": ["get_weather"]}' if "answers in JSON" in prompt else caller(prompt)

    llm, engine = scripted(reply)
    agent = create_agent(llm, [get_weather, get_tide], middleware=[LLMToolSelectorMiddleware(model=llm)])
    assert agent.invoke(asked())["messages"][-1].text == "So: rain in Oslo"
    assert "get_tide" in engine.requests[0].constraint
    assert "get_tide" not in engine.prompts[1]


class Report(BaseModel):
    """A weather report."""

    city: str
    rainy: bool


def test_a_tool_strategy_calls_tools_before_it_reports(scripted):
    replies = iter([call_block(city="Oslo"), call_block("Report", city="Oslo", rainy=True)])
    llm, engine = scripted(lambda prompt: next(replies))
    result = create_agent(llm, [get_weather], response_format=ToolStrategy(Report)).invoke(asked())
    assert result["structured_response"] == Report(city="Oslo", rainy=True)
    assert CITIES_ASKED == ["Oslo"]
    assert len(engine.requests) == 2


# Every way to watch


@pytest.mark.parametrize("output_version", ["v0", "v1"])
def test_every_stream_mode_shows_the_same_run(scripted, output_version):
    llm, _ = scripted(caller, output_version=output_version)
    agent = create_agent(llm, [get_weather], checkpointer=InMemorySaver())
    seen: dict[str, list[Any]] = {}
    modes = ["messages", "updates", "values", "tasks", "checkpoints", "custom", "debug"]
    for mode, payload in agent.stream(asked(), {"configurable": {"thread_id": "one"}}, stream_mode=modes):
        seen.setdefault(mode, []).append(payload)
    assert kinds(seen["values"][-1]["messages"]) == ["human", "ai", "tool", "ai"]
    chunks = [message for message, _ in seen["messages"] if isinstance(message, AIMessageChunk)]
    assert "".join(chunk.text for chunk in chunks) == "Let me see.So: rain in Oslo"
    assert [step for update in seen["updates"] for step in update] == ["model", "tools", "model"]
    arguments = "".join(part["args"] for chunk in chunks for part in chunk.tool_call_chunks)
    assert arguments == '{"city": "Oslo"}'
    assert set(seen) == set(modes) - {"custom"}


def test_arguments_are_watched_while_they_are_written(scripted):
    llm, engine = scripted(caller, engine_options={"pause_after": 22})
    stream = create_agent(llm, [get_weather]).stream(asked("a very long name of a city"), stream_mode="messages")
    begun = next(message for message, _ in stream if message.tool_call_chunks)
    assert begun.tool_call_chunks[0]["name"] == "get_weather"
    assert not engine.runs[0].ended.is_set()
    engine.resume()
    rest = [message for message, _ in stream]
    assert CITIES_ASKED == ["a very long name of a city"]
    assert sum(len(message.tool_call_chunks) for message in rest if isinstance(message, AIMessageChunk)) > 1


async def test_event_protocols_show_the_run(scripted):
    llm, _ = scripted(caller)
    agent = create_agent(llm, [get_weather])
    events = [event async for event in agent.astream_events(asked(), version="v2")]
    texts = [event["data"]["chunk"].text for event in events if event["event"] == "on_chat_model_stream"]
    assert "".join(texts) == "Let me see.So: rain in Oslo"
    assert [event["name"] for event in events if event["event"] == "on_tool_end"] == ["get_weather"]


async def test_leaving_the_stream_of_an_agent_stops_the_engine(scripted):
    llm, engine = scripted(caller, engine_options={"pause_after": 4})
    stream = create_agent(llm, [get_weather]).astream(asked(), stream_mode="messages")
    await anext(stream)
    await stream.aclose()
    await asyncio.to_thread(engine.runs[0].wait_ended)
    assert engine.runs[0].finish_reason == "cancelled"


async def test_cancelling_an_agent_stops_the_engine(scripted):
    llm, engine = scripted(caller, engine_options={"pause_after": 4})
    task = asyncio.create_task(create_agent(llm, [get_weather]).ainvoke(asked()))
    await asyncio.to_thread(engine.wait_requests, 1)
    await asyncio.to_thread(engine.runs[0].wait_stalled)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(engine.runs[0].wait_ended)
    assert engine.runs[0].finish_reason == "cancelled"
