"""HermesLLM over the embedded checkpoint and the local engine: nothing scripted."""

from __future__ import annotations

import asyncio
import re

import pytest
from llama_index.core.agent.workflow import AgentStream, FunctionAgent, ToolCallResult
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel, Field

from llama_index_hermes import HermesLLM
from tests.llama_index.endpoints import CHAT
from tests.support.places import DOCS
from tests.support.weather import get_weather

PAGE = (DOCS / "llama_index.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PRINTED = [
    ["get_weather", "Lisbon", "21 degrees"],
    ["add", "19", "23"],
    ["Anna", "31"],
    ["Color."],
    ["total_tokens"],
    ["8192"],
    ["add"],
]


class Person(BaseModel):
    name: str
    age: int


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Numbers(BaseModel):
    """Arguments that end, whatever model writes them."""

    a: int = Field(ge=0, le=99)
    b: int = Field(ge=0, le=99)


TOOLS = [FunctionTool.from_defaults(get_weather), FunctionTool.from_defaults(add, fn_schema=Numbers)]


@pytest.fixture(scope="module")
def llm():
    return HermesLLM(model="tiny-hermes", temperature=0, max_tokens=128)


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "whole"])
async def test_agent_calls_a_tool_and_answers_from_its_result(streaming, llm):
    handler = FunctionAgent(llm=llm, tools=[get_weather, add], streaming=streaming).run(
        "What is the weather in Lisbon?"
    )
    events = [event async for event in handler.stream_events()]
    output = await handler
    (result,) = [event for event in events if isinstance(event, ToolCallResult)]
    assert (result.tool_name, result.tool_kwargs) == ("get_weather", {"city": "Lisbon"})
    assert "21 degrees" in str(output)
    text = "".join(event.delta for event in events if isinstance(event, AgentStream))
    assert text == (str(output) if streaming else "")
    assert output.raw["usage"]["completion_tokens"] > 0


async def test_agent_answers_without_a_tool(llm):
    output = await FunctionAgent(llm=llm, tools=[get_weather]).run("Hello")
    assert output.tool_calls == []
    assert str(output)


def test_predict_and_call(llm):
    assert llm.predict_and_call(TOOLS, user_msg="What is 19 plus 23?").response == "42"
    assert asyncio.run(llm.apredict_and_call(TOOLS, user_msg="What is 19 plus 23?")).response == "42"


def test_all_endpoints_say_the_same(llm):
    answers = {name: call(llm, "Hello")[-1].message.content for name, call in CHAT.items()}
    assert len(set(answers.values())) == 1
    assert answers["chat"]


@pytest.mark.parametrize("question", ["Hello", "What is the weather in Lisbon?", "Tell me a joke."])
def test_required_choice_is_kept_whatever_is_asked(question, llm):
    response = llm.chat_with_tools(TOOLS, user_msg=question, tool_choice="add")
    calls = llm.get_tool_calls_from_response(response, error_on_no_tool_call=False)
    if response.raw["finish_reason"] == "length":
        # The schema allows an integer of any length, and so small a model may never end one.
        assert calls == []
        return
    (call,) = calls
    assert call.tool_name == "add"
    assert {name: type(value) for name, value in call.tool_kwargs.items()} == {"a": int, "b": int}


def test_forbidden_call_is_not_made(llm):
    response = llm.chat_with_tools(TOOLS, user_msg="What is 19 plus 23?", tool_choice="none")
    assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []


def test_structured_predict(llm):
    prompt = PromptTemplate("Name is {name} and age is {age}")
    expected = Person(name="Anna", age=31)
    assert llm.structured_predict(Person, prompt, name="Anna", age=31) == expected
    assert asyncio.run(llm.astructured_predict(Person, prompt, name="Anna", age=31)) == expected
    assert list(llm.stream_structured_predict(Person, prompt, name="Anna", age=31))[-1] == expected


def test_seeded_sampling_repeats(llm):
    first, second = (
        llm.chat([ChatMessage("Hello")], temperature=1.0, seed=7, max_tokens=12).message.content for _ in range(2)
    )
    assert first == second


def test_metadata_agrees_with_the_engine(llm):
    before = HermesLLM(model="tiny-hermes").metadata.context_window
    llm.chat([ChatMessage("Hello")], max_tokens=1)
    assert llm.metadata.context_window == before


@pytest.mark.parametrize(("code", "printed"), [*zip(BLOCKS, PRINTED, strict=True)])
def test_the_code_of_the_docs_runs(code, printed, capsys, monkeypatch):
    monkeypatch.setattr("llama_index.core.global_tokenizer", None)
    exec(compile(code, "llama_index.md", "exec", dont_inherit=True), {"__name__": "docs"})
    output = capsys.readouterr().out
    assert all(part in output for part in printed), output
