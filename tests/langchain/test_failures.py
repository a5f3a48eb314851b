"""What goes wrong in a call of ChatHermes is LangChain's error of its kind, which no parser and no retry misreads."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.exceptions import ContextOverflowError, ModelError
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import PydanticOutputParser
from langchain_core.tools import tool
from langgraph.graph import MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from pydantic import BaseModel

from hermes_runtime.errors import EngineError
from tests.support.failures import FAILURES, MISREAD, UNFORESEEN, failing
from tests.support.scripted_engine import ScriptedRun


class Person(BaseModel):
    name: str


def _read(stream):
    return list(stream)


async def _aread(stream):
    return [part async for part in stream]


PATHS = {
    "invoke": lambda model: model.invoke("Hello"),
    "ainvoke": lambda model: asyncio.run(model.ainvoke("Hello")),
    "stream": lambda model: _read(model.stream("Hello")),
    "astream": lambda model: asyncio.run(_aread(model.astream("Hello"))),
    "batch": lambda model: model.batch(["Hello"]),
    "generate": lambda model: model.generate([[HumanMessage("Hello")]]),
}
CHAINS = {
    "structured": lambda model: model.with_structured_output(Person),
    "structured by a call": lambda model: model.with_structured_output(Person, method="function_calling"),
    "structured, raw too": lambda model: model.with_structured_output(Person, include_raw=True),
    "parser": lambda model: model | PydanticOutputParser(pydantic_object=Person),
    "retry of parse failures": lambda model: model.with_retry(
        retry_if_exception_type=(ValueError,), wait_exponential_jitter=False, stop_after_attempt=3
    ),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("path", PATHS)
def test_a_failing_call_raises_langchains_error(path, name, scripted):
    model, _ = scripted(failing(name))
    with pytest.raises(ModelError) as caught:
        PATHS[path](model)
    assert not isinstance(caught.value, MISREAD)
    assert str(FAILURES[name]()) in str(caught.value)


@pytest.mark.parametrize("name", UNFORESEEN)
@pytest.mark.parametrize("path", ["invoke", "ainvoke", "stream", "astream"])
def test_a_call_that_fails_in_the_midst_of_an_answer_raises_langchains_error(path, name, scripted, monkeypatch):
    def fail(_):
        error = UNFORESEEN[name]()
        raise error

    monkeypatch.setattr(ScriptedRun, "_produce", fail)
    model, _ = scripted(["never said"])
    with pytest.raises(ModelError, match=name) as caught:
        PATHS[path](model)
    assert isinstance(caught.value, EngineError)
    assert not isinstance(caught.value, MISREAD)


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("chain", CHAINS)
def test_a_failing_call_passes_what_waits_for_parse_failures(chain, name, scripted):
    asked = []

    def fail(prompt):
        asked.append(prompt)
        error = FAILURES[name]()
        raise error

    model, _ = scripted(fail)
    with pytest.raises(ModelError):
        CHAINS[chain](model).invoke("Her name is Ann.")
    assert len(asked) == 1


def test_an_overflow_in_a_tool_that_asks_a_model_is_no_answer_of_the_tool(scripted):
    model, _ = scripted([], engine_options={"context_window": 16})

    @tool
    def ask_another(question: str) -> str:
        """Ask another model."""
        return model.invoke(question).text

    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([ask_another], handle_tool_errors=(ValueError, TypeError, KeyError)))
    graph.set_entry_point("tools")
    call = {"name": "ask_another", "args": {"question": "word " * 40}, "id": "1", "type": "tool_call"}
    with pytest.raises(ContextOverflowError):
        graph.compile().invoke({"messages": [AIMessage("", tool_calls=[call])]})
