"""HermesLLM never holds an event loop up while it converts messages, builds a grammar or makes a prompt."""

from __future__ import annotations

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.core.tools.types import ToolMetadata
from pydantic import BaseModel

import llama_index_hermes.base
from tests.support.loop_watch import watch_turns
from tests.support.weather import call_block, get_weather

CALL = call_block(city="Oslo")


class Place(BaseModel):
    city: str


TOOL = FunctionTool.from_defaults(get_weather)
PROMPT = PromptTemplate("Where?")


def reply(prompt):
    if "<schema>" in prompt:
        return '{"city": "Oslo"}'
    return "It rains." if "<tool_response>" in prompt or "<tools>" not in prompt else CALL


async def _drain(stream):
    return [part async for part in await stream]


WAYS = {
    "achat": lambda llm: llm.achat([ChatMessage("Oslo?")]),
    "astream_chat": lambda llm: _drain(llm.astream_chat([ChatMessage("Oslo?")])),
    "acomplete": lambda llm: llm.acomplete("Oslo?"),
    "astream_complete": lambda llm: _drain(llm.astream_complete("Oslo?")),
    "achat_with_tools": lambda llm: llm.achat_with_tools([TOOL], user_msg="Oslo?", tool_required=True),
    "astream_chat_with_tools": lambda llm: _drain(llm.astream_chat_with_tools([TOOL], user_msg="Oslo?")),
    "apredict_and_call": lambda llm: llm.apredict_and_call([TOOL], user_msg="Oslo?"),
    "astructured_predict": lambda llm: llm.astructured_predict(Place, PROMPT),
    "astream_structured_predict": lambda llm: _drain(llm.astream_structured_predict(Place, PROMPT)),
}


@pytest.fixture
def watched(scripted, monkeypatch):
    """Return a function that makes an LLM and the watch over its calls; loaded or not."""

    async def make(replies, *, is_loaded=True, **options):
        llm, engine = scripted(replies, **options)
        if is_loaded:
            monkeypatch.setattr(llama_index_hermes.base, "loaded_engine", lambda **_: engine)
        watch = watch_turns(monkeypatch, engine)
        watch.step(ToolMetadata, "get_parameters_dict")
        watch.step(llama_index_hermes.base, "to_hermes")
        watch.step(llama_index_hermes.base, "turn_request")
        watch.begin()
        return llm, watch

    return make


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_loaded", [True, False], ids=["loaded", "not loaded"])
async def test_all_that_a_call_makes_is_made_beside_the_loop(way, is_loaded, watched):
    llm, watch = await watched(reply, is_loaded=is_loaded)
    assert await WAYS[way](llm)
    assert {"to_hermes", "turn_request", "turn_grammar", "render_prompt", "submit"} <= set(watch.seen)


async def test_an_agent_does_too(watched):
    llm, watch = await watched(reply)
    assert str(await FunctionAgent(llm=llm, tools=[TOOL]).run("Oslo?")) == "It rains."
    assert watch.seen.count("get_parameters_dict") == watch.seen.count("submit") == 2


async def test_a_repair_is_made_beside_the_loop(watched):
    llm, watch = await watched(["No.", CALL], constrained=False, max_repairs=1)
    await llm.achat_with_tools([TOOL], user_msg="Oslo?", tool_required=True)
    assert watch.seen.count("render_prompt") == watch.seen.count("submit") == 2


async def test_formatted_prompts_are_encoded_beside_the_loop(watched):
    llm, watch = await watched(reply)
    await llm.acomplete("<|im_start|>user\nOslo?<|im_end|>", formatted=True)
    assert sorted(watch.seen) == ["submit", "to_hermes", "turn_request"]
