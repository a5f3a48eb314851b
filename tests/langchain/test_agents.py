"""Agents over a scripted engine: what LangChain's own loop makes of the model's messages."""

from __future__ import annotations

import asyncio

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ContextEditingMiddleware, SummarizationMiddleware
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain.chat_models import init_chat_model
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.prebuilt import create_react_agent
from pydantic import BaseModel

from hermes_runtime.engines import registry
from hermes_runtime.problems import Problem
from langchain_hermes import ChatHermes, HermesUnmetDemandError, register_provider
from tests.langchain.agent_ways import WAYS, asked
from tests.support.scripted_engine import ScriptedEngine
from tests.support.weather import CITIES_ASKED, caller, get_weather, weather_calls


class Report(BaseModel):
    """A weather report."""

    city: str
    rainy: bool


pytestmark = [pytest.mark.usefixtures("cities_asked"), pytest.mark.filterwarnings("ignore:The v3 streaming protocol")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("output_version", ["v0", "v1"])
def test_two_parallel_calls_run_and_are_answered(scripted, way, output_version):
    llm, engine = scripted(caller, output_version=output_version)
    messages = way(create_agent(llm, [get_weather]))
    assert [type(message) for message in messages] == [HumanMessage, AIMessage, ToolMessage, ToolMessage, AIMessage]
    assert sorted(CITIES_ASKED) == ["Oslo", "Rome"]
    assert messages[-1].text == "So: rain in Oslo, rain in Rome"
    first, second = (request.prompt_ids for request in engine.requests)
    assert second[: len(first)] == first


@pytest.mark.parametrize("way", WAYS)
def test_a_truncated_call_never_runs(scripted, way):
    llm, _ = scripted(lambda prompt: weather_calls("Oslo"), max_tokens=20)
    messages = way(create_agent(llm, [get_weather]))
    assert CITIES_ASKED == []
    assert messages[-1].tool_calls == []
    assert len(messages[-1].invalid_tool_calls) == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_whole_call_beside_a_truncated_one_runs_and_the_model_is_told(scripted, way):
    def reply(prompt):
        return "Only Oslo then." if "<tool_response>" in prompt else weather_calls("Oslo", "Rome")

    llm, engine = scripted(reply, max_tokens=50)
    messages = way(create_agent(llm, [get_weather]))
    assert CITIES_ASKED == ["Oslo"]
    assert messages[-1].text == "Only Oslo then."
    assert engine.prompts[-1].count("<tool_response>") == 2
    assert "]{" not in engine.prompts[-1], "the model is shown its own text, not the mark of an unfinished call"


def test_an_unknown_tool_and_broken_arguments_come_back_as_errors(scripted):
    replies = iter(
        [
            "<tool_call>\n{'arguments': {}, 'name': 'get_wether'}\n</tool_call>",
            "<tool_call>\n{'arguments': {'town': 'Oslo'}, 'name': 'get_weather'}\n</tool_call>",
            "I give up.",
        ]
    )
    llm, engine = scripted(lambda prompt: next(replies), constrained=False)
    messages = create_agent(llm, [get_weather]).invoke(asked())["messages"]
    assert [message.status for message in messages if isinstance(message, ToolMessage)] == ["error", "error"]
    assert CITIES_ASKED == []
    assert "Error" in engine.prompts[1].rpartition("<tool_response>")[2]
    (told,) = messages[1].response_metadata["tool_call_problems"][messages[1].tool_calls[0]["id"]]
    assert Problem.read(told).reason == "unknown_tool"
    assert messages[-1].text == "I give up."


def test_messages_stream_token_by_token_through_an_agent(scripted):
    llm, _ = scripted(["It rains, as always."])
    texts = [message.text for message, _ in create_agent(llm, [get_weather]).stream(asked(), stream_mode="messages")]
    assert "".join(texts) == "It rains, as always."
    assert len(texts) > 3


def test_a_final_object_and_tools_are_one_grammar(scripted):
    replies = iter([weather_calls("Oslo"), '{"city": "Oslo", "rainy": true}'])
    llm, engine = scripted(lambda prompt: next(replies))
    agent = create_agent(llm, [get_weather], response_format=Report)
    assert agent.invoke(asked("Oslo"))["structured_response"] == Report(city="Oslo", rainy=True)
    assert CITIES_ASKED == ["Oslo"]
    assert all("final" in request.constraint and "call" in request.constraint for request in engine.requests)


@pytest.mark.parametrize("way", WAYS)
def test_an_object_by_a_forced_call_needs_no_grammar_and_an_agent_never_ends_without_it(scripted, way):
    report = "<tool_call>\n{'arguments': {'city': 'Oslo', 'rainy': True}, 'name': 'Report'}\n</tool_call>"
    replies = iter([weather_calls("Oslo"), report, "It rains."])
    llm, engine = scripted(lambda prompt: next(replies), constrained=False)
    agent = create_agent(llm, [get_weather], response_format=ToolStrategy(Report))
    assert way(agent)[-1].name == "Report"
    assert CITIES_ASKED == ["Oslo"]
    assert {request.constraint for request in engine.requests} == {None}
    with pytest.raises(HermesUnmetDemandError, match="It rains"):
        way(agent)


@pytest.mark.parametrize("strategy", [ProviderStrategy, ToolStrategy])
def test_structured_responses_by_either_strategy(scripted, strategy):
    as_json = "{'city': 'Oslo', 'rainy': True}"
    reply = (
        '{"city": "Oslo", "rainy": true}'
        if strategy is ProviderStrategy
        else f"<tool_call>\n{{'arguments': {as_json}, 'name': 'Report'}}\n</tool_call>"
    )
    llm, _ = scripted([reply])
    agent = create_agent(llm, [], response_format=strategy(Report))
    assert agent.invoke(asked("Oslo"))["structured_response"] == Report(city="Oslo", rainy=True)


def test_agents_side_by_side_share_one_engine(scripted):
    llm, engine = scripted(caller)
    agent = create_agent(llm, [get_weather])

    async def run():
        return await asyncio.gather(*(agent.ainvoke(asked(f"city{number}")) for number in range(20)))

    answers = [result["messages"][-1].text for result in asyncio.run(run())]
    assert answers == [f"So: rain in city{number}" for number in range(20)]
    assert len(engine.requests) == 40


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
def test_the_prebuilt_agent_of_langgraph_takes_the_model_bound_or_not(scripted):
    llm, engine = scripted(caller)
    for model in (llm, llm.bind_tools([get_weather])):
        messages = create_react_agent(model, [get_weather]).invoke(asked("Oslo"))["messages"]
        assert messages[-1].text == "So: rain in Oslo"
    assert engine.prompts[0] == engine.prompts[2]


def test_context_editing_counts_with_the_models_own_tokens(scripted):
    llm, engine = scripted(caller)
    middleware = ContextEditingMiddleware(token_count_method="model")
    create_agent(llm, [get_weather], middleware=[middleware]).invoke(asked())
    assert len(engine.requests) == 2


def test_summarization_reads_the_window_from_the_profile(scripted):
    llm, engine = scripted(lambda prompt: "A summary.", context_window=1000)
    middleware = SummarizationMiddleware(model=llm, trigger=("fraction", 0.5), keep=("messages", 1))
    history = [HumanMessage("word " * 200), AIMessage("yes"), HumanMessage("word " * 200), AIMessage("yes")]
    agent = create_agent(llm, [], middleware=[middleware])
    agent.invoke({"messages": [*history, HumanMessage("And now?")]})
    assert len(engine.requests) == 2
    assert "A summary." in engine.prompts[1]


def test_register_provider_makes_the_name_known(scripted, monkeypatch):
    from langchain.chat_models import base

    monkeypatch.setattr(base, "_BUILTIN_PROVIDERS", dict(base._BUILTIN_PROVIDERS))
    scripted(caller)
    register_provider()
    llm = init_chat_model("hermes:scripted", temperature=0.5)
    assert isinstance(llm, ChatHermes)
    assert (llm.model, llm.temperature) == ("scripted", 0.5)
    assert create_agent("hermes:scripted", [get_weather]).invoke(asked())["messages"][-1].text.startswith("So: ")


def test_a_configurable_model_is_made_anew_for_every_call_and_loads_once(load_by, mistral_tokenizer, monkeypatch):
    from langchain.chat_models import base

    loads = []

    def load(model, **options):
        loads.append(model)
        return ScriptedEngine(mistral_tokenizer, caller)

    load_by(load)
    monkeypatch.setattr(base, "_BUILTIN_PROVIDERS", dict(base._BUILTIN_PROVIDERS))
    register_provider()
    llm = init_chat_model("hermes:scripted", configurable_fields="any").bind_tools([get_weather])
    for temperature in (0.0, 0.5):
        message = llm.invoke("Oslo", config={"configurable": {"temperature": temperature}})
        assert message.tool_calls[0]["args"] == {"city": "Oslo"}
    assert loads == ["scripted"]
    assert [request.options.sampling.temperature for request in registry.load_engine("scripted").requests] == [0.0, 0.5]


def test_register_provider_says_so_where_langchain_has_moved_on(monkeypatch):
    from langchain.chat_models import base

    monkeypatch.delattr(base, "_BUILTIN_PROVIDERS")
    with pytest.raises(RuntimeError, match="ChatHermes"):
        register_provider()
