"""HermesOutputParser over text of any origin."""

from __future__ import annotations

import doctest
import json

import pytest
from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.llms import MockLLM
from llama_index.core.program import LLMTextCompletionProgram
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

import llama_index_hermes.output_parser
from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.messages import ToolSpec
from hermes_runtime.problems import Problem
from hermes_runtime.prompt import build_prompt
from llama_index_hermes import HermesOutputParser, StructuredOutputError

CALL = "<tool_call>\n{'arguments': {'a': 19, 'b': 23}, 'name': 'add'}\n</tool_call>"


class Port(BaseModel):
    name: str
    berths: int


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def test_calls_become_blocks_after_the_text():
    message = HermesOutputParser().parse("I add.\n" + CALL + CALL)
    assert message.blocks[0].text.strip() == "I add."
    assert [(type(block), block.tool_kwargs) for block in message.blocks[1:]] == [
        (ToolCallBlock, {"a": 19, "b": 23})
    ] * 2
    assert len({block.tool_call_id for block in message.blocks[1:]}) == 2


def test_selections_leave_broken_calls_out():
    parser = HermesOutputParser([FunctionTool.from_defaults(add)])
    assert [call.tool_name for call in parser.tool_selections(CALL + "<tool_call>{'name': </tool_call>")] == ["add"]
    (invalid,) = parser.parse("<tool_call>{'name': </tool_call>").additional_kwargs["invalid_tool_calls"]
    assert Problem.read(invalid["error"]).reason == "malformed"


@pytest.mark.parametrize("text", ["", "Hello.", "<tool_call>", "\ud800", "{" * 1000])
def test_no_text_raises_when_read_for_calls(text):
    assert HermesOutputParser().tool_selections(text) == []


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Brest", "berths": 3}',
        "```json\n{'name': 'Brest', 'berths': 3}\n```",
        'So: {"name": "Brest", "berths": 3}.',
    ],
)
def test_json_becomes_the_object(text):
    assert HermesOutputParser(output_cls=Port).parse(text) == Port(name="Brest", berths=3)


@pytest.mark.parametrize("text", ["", "I cannot.", '{"name": "Brest"', '{"name": "Brest", "berths": "many"}'])
def test_text_without_the_object_is_an_error(text):
    with pytest.raises(StructuredOutputError, match="no Port"):
        HermesOutputParser(output_cls=Port).parse(text)


def test_format_writes_the_prompt_that_the_renderer_writes(mistral_tokenizer):
    tool = ToolSpec("add", "Add two numbers.")
    rendered = build_prompt([{"role": "user", "content": "x"}], tokenizer=mistral_tokenizer, tools=[tool]).text
    assert HermesOutputParser([tool]).format("19 + 23?").removesuffix("\n\n19 + 23?") in rendered
    assert json.dumps(Port.model_json_schema()) in HermesOutputParser(output_cls=Port).format("x")
    assert HermesOutputParser().format("x") == "x"


def test_program_over_another_llm(monkeypatch):
    llm = MockLLM()
    monkeypatch.setattr(MockLLM, "complete", lambda *_, **__: type("R", (), {"text": '{"name": "Brest", "berths": 3}'}))
    program = LLMTextCompletionProgram.from_defaults(
        output_parser=HermesOutputParser(output_cls=Port), output_cls=Port, prompt_template_str="Port?", llm=llm
    )
    assert program() == Port(name="Brest", berths=3)


def test_tools_and_class_at_once_are_refused():
    with pytest.raises(InvalidRequestError, match="tools or output_cls"):
        HermesOutputParser([ToolSpec("add")], Port)


def test_example_of_the_docstring():
    assert doctest.testmod(llama_index_hermes.output_parser).failed == 0
