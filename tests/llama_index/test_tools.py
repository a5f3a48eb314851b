"""Tools and tool choices."""

from __future__ import annotations

import pytest
from llama_index.core.program.function_program import get_function_tool
from llama_index.core.tools import FunctionTool, ToolMetadata

from hermes_runtime.errors import InvalidRequestError, ToolChoiceError
from hermes_runtime.messages import ToolChoice, ToolSpec
from llama_index_hermes._tools import plain_tool_choice, resolve_tool_choice, tool_specs
from tests.llama_index.models import Box, Folder
from tests.support.grammar_oracle import accepts

SPECS = (ToolSpec("add"), ToolSpec("look"))


def add(a: int, b: int = 0) -> int:
    """Add two numbers."""
    return a + b


def test_function_tool_becomes_a_spec():
    (spec,) = tool_specs([FunctionTool.from_defaults(add)])
    assert spec.name == "add"
    assert "Add two numbers." in spec.description
    assert spec.parameters["required"] == ["a"]
    assert spec.parameters["properties"]["b"]["type"] == "integer"


def test_specs_and_openai_dicts_pass():
    openai = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    assert [spec.name for spec in tool_specs([ToolSpec("add"), openai])] == ["add", "look"]


@pytest.mark.parametrize("name", ["my tool", "Box[int]", "größe"])
def test_tool_keeps_the_name_that_agents_look_up(name):
    assert tool_specs([FunctionTool.from_defaults(add, name=name)])[0].name == name


def test_generic_model_as_a_tool_keeps_its_name():
    assert tool_specs([get_function_tool(Box[int])])[0].name == "Box[int]"


def test_long_description_passes():
    metadata = ToolMetadata(name="add", description="x" * 5000)
    assert len(tool_specs([FunctionTool(add, metadata)])[0].description) == 5000


def test_nameless_and_equally_named_tools_are_refused():
    with pytest.raises(InvalidRequestError, match="name"):
        tool_specs([FunctionTool(add, ToolMetadata(description="x", name=None))])
    with pytest.raises(InvalidRequestError, match="two tools"):
        tool_specs([FunctionTool.from_defaults(add)] * 2)


@pytest.mark.parametrize(
    ("choice", "required", "expected"),
    [
        (None, False, ToolChoice("auto")),
        (None, True, ToolChoice("required")),
        ("auto", False, ToolChoice("auto")),
        ("auto", True, ToolChoice("auto")),
        ("none", True, ToolChoice("none")),
        ("any", False, ToolChoice("required")),
        ("required", False, ToolChoice("required")),
        ("none", False, ToolChoice("none")),
        ("add", False, ToolChoice("required", ("add",))),
        ("add", True, ToolChoice("required", ("add",))),
        ({"type": "function", "function": {"name": "add"}}, True, ToolChoice("required", ("add",))),
        ({"type": "auto"}, True, ToolChoice("auto")),
    ],
)
def test_choice_wins_over_requirement(choice, required, expected):
    assert resolve_tool_choice(choice, SPECS, tool_required=required) == expected


@pytest.mark.parametrize(
    ("choice", "required", "specs"),
    [("sub", True, SPECS), ("sub", False, SPECS), ("add", True, ()), ("required", False, ()), (7, False, SPECS)],
)
def test_choice_that_cannot_be_kept_is_refused(choice, required, specs):
    with pytest.raises(ToolChoiceError):
        resolve_tool_choice(choice, specs, tool_required=required)


@pytest.mark.parametrize(
    "choice",
    [
        ToolChoice("auto"),
        ToolChoice("none"),
        ToolChoice("required"),
        ToolChoice("required", ("add",)),
        ToolChoice("required", ("add", "look")),
        ToolChoice("auto", ("add",)),
    ],
)
def test_plain_choice_means_the_same(choice):
    assert ToolChoice.coerce(plain_tool_choice(choice), SPECS) == choice


def test_a_class_that_contains_itself_keeps_its_properties():
    tool = FunctionTool.from_defaults(lambda **_: None, name="save", description="Save.", fn_schema=Folder)
    (spec,) = tool_specs([tool])
    assert sorted(spec.parameters["properties"]) == ["folders", "name"]
    assert not accepts(
        "<tool_call>\n{'arguments': {'name': 'a', 'folders': [3]}, 'name': 'save'}\n</tool_call>", [spec]
    )
