"""Every kind of tool and every form of a tool choice means what it means with a hosted model."""

from __future__ import annotations

from typing import TypedDict

import pytest
from langchain_core.exceptions import ModelInvalidRequestError
from langchain_core.tools import StructuredTool, tool
from pydantic import BaseModel

from hermes_runtime import ToolSpec
from langchain_hermes import HermesInvalidRequestError, HermesToolChoiceError


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Multiply(BaseModel):
    """Multiply two numbers."""

    a: int
    b: int


class Divide(TypedDict):
    """Divide two numbers."""

    a: int
    b: int


@tool
def negate(a: int) -> int:
    """Negate a number."""
    return -a


PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOLS = {
    "add": add,
    "Multiply": Multiply,
    "Divide": Divide,
    "negate": negate,
    "described": StructuredTool(name="described", description="By schema.", args_schema=PARAMETERS),
    "openai": {"type": "function", "function": {"name": "openai", "parameters": PARAMETERS}},
    "responses": {"type": "function", "name": "responses", "parameters": PARAMETERS},
    "anthropic": {"name": "anthropic", "description": "A.", "input_schema": PARAMETERS},
    "schema": {"title": "schema", "description": "A.", **PARAMETERS},
    "bare": {"name": "bare"},
    "spec": ToolSpec("spec", "A.", PARAMETERS),
}


@pytest.mark.parametrize("strict", [None, True, False])
@pytest.mark.parametrize("name", TOOLS)
def test_every_kind_of_tool_is_shown_and_can_be_called(scripted, name, strict):
    llm, engine = scripted(["Hello"])
    bound = llm.bind_tools([TOOLS[name]], strict=strict)
    assert bound.kwargs["tools"][0]["function"]["name"] == name
    bound.invoke("Hi")
    assert f"'name': '{name}'" in engine.prompts[0]
    assert name in engine.requests[0].constraint


@pytest.mark.parametrize(
    "unusable", [{"type": "web_search"}, {"type": "custom", "name": "x"}, {"type": "bash_20250124", "name": "bash"}, {}]
)
def test_what_only_a_vendor_can_run_is_refused(scripted, unusable):
    llm, _ = scripted([])
    with pytest.raises(HermesInvalidRequestError):
        llm.bind_tools([unusable])


def test_two_tools_of_one_name_are_refused_when_called(scripted):
    llm, engine = scripted(["Hello"])
    with pytest.raises(ModelInvalidRequestError, match="'add'"):
        llm.bind_tools([add, add]).invoke("Hi")
    assert engine.requests == []
    assert llm.bind_tools([add]).invoke("Hi").content == "Hello"


AUTO, FORCED, ADD = [None, False, "auto", {"type": "auto"}], ["any", "required", True, {"type": "any"}], ["add"]
ADD += [{"type": "function", "function": {"name": "add"}}, {"type": "tool", "name": "add"}]
NONE = ["none", {"type": "none"}]


@pytest.mark.parametrize("forms", [AUTO, FORCED, ADD, NONE])
def test_every_form_of_a_tool_choice_means_the_same(scripted, forms):
    llm, engine = scripted(lambda prompt: "")
    for form in forms:
        llm.bind_tools([add, negate], tool_choice=form).invoke("Hi")
    assert len({request.constraint for request in engine.requests}) == 1
    assert ("<tools>" in engine.prompts[0]) == (forms is not NONE)


def test_the_kinds_of_choice_differ(scripted):
    llm, engine = scripted(lambda prompt: "")
    for form in ("auto", "any", "add", "none"):
        llm.bind_tools([add, negate], tool_choice=form).invoke("Hi")
    llm.bind_tools([add, negate], tool_choice="any", parallel_tool_calls=False).invoke("Hi")
    assert len({request.constraint for request in engine.requests}) == 5


@pytest.mark.parametrize("choice", ["subtract", {"type": "tool", "name": "subtract"}, {"type": "odd"}, 3])
def test_an_unknown_choice_is_refused_at_once(scripted, choice):
    llm, _ = scripted([])
    with pytest.raises(HermesToolChoiceError):
        llm.bind_tools([add], tool_choice=choice)


def test_no_tools_at_all(scripted):
    llm, engine = scripted(["Hello"])
    assert llm.bind_tools([]).invoke("Hi").content == "Hello"
    assert "<tools>" not in engine.prompts[0]
    with pytest.raises(HermesToolChoiceError):
        llm.bind_tools([], tool_choice="any")
