"""Every form of a schema by every method on every path; and what is no schema, refused at every door."""

from __future__ import annotations

import asyncio
import json

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.tools import StructuredTool, tool

from hermes_runtime.answers.answer_type import AnswerType
from langchain_hermes import ChatHermes, HermesJsonOutputParser, HermesPrompt, HermesSchemaError
from tests.support.schema_forms import APPLE, FORMS, NO_SCHEMAS, SHORT, Apple, Bread, Color

METHODS = ["json_schema", "json_mode", "function_calling"]
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
every_method = pytest.mark.parametrize("method", METHODS)


def _reply(schema, text, method):
    """Return what a model writes for JSON text by a method."""
    if method != "function_calling":
        return text
    target, arguments = AnswerType.of(schema), json.loads(text)
    if target.in_arguments(arguments) is not arguments:
        arguments = {"value": arguments}
    return f"<tool_call>\n{ {'arguments': arguments, 'name': target.tool.name} }\n</tool_call>"


async def _alist(stream):
    return [part async for part in stream]


@every_form
@every_method
def test_every_form_gives_its_value_on_every_path(scripted, form, method):
    reply = _reply(form.schema, form.text, method)
    llm, engine = scripted(lambda prompt: reply)
    chain = llm.with_structured_output(form.schema, method=method)
    raw = llm.with_structured_output(form.schema, method=method, include_raw=True)
    values = [
        chain.invoke("x"),
        asyncio.run(chain.ainvoke("x")),
        list(chain.stream("x"))[-1],
        asyncio.run(_alist(chain.astream("x")))[-1],
        raw.invoke("x")["parsed"],
        list(raw.stream("x"))[-1]["parsed"],
    ]
    assert values == [form.value] * len(values)
    assert {type(value) for value in values} == {type(form.value)}
    assert all(request.constraint == engine.requests[0].constraint for request in engine.requests)


@every_form
@every_method
def test_what_breaks_the_schema_is_reported_by_every_method(scripted, form, method):
    reply = _reply(form.schema, form.broken, method)
    llm, _ = (
        scripted(lambda prompt: reply, constrained=False)
        if method != "function_calling"
        else scripted(lambda prompt: reply)
    )
    chain = llm.with_structured_output(form.schema, method=method)
    for run in (chain.invoke, lambda text: list(chain.stream(text))):
        with pytest.raises(OutputParserException):
            run("x")
    told = llm.with_structured_output(form.schema, method=method, include_raw=True).invoke("x")
    assert told["parsed"] is None
    assert isinstance(told["parsing_error"], OutputParserException)


@every_form
def test_every_form_is_a_response_format_and_what_a_parser_reads(scripted, form):
    llm, engine = scripted(lambda prompt: form.text)
    messages = [
        llm.invoke("x", response_format=form.schema),
        llm.bind_tools([], response_format=form.schema).invoke("x"),
        llm.bind(response_format=form.schema).invoke("x"),
    ]
    assert engine.prompts == [engine.prompts[0]] * 3
    assert len({request.constraint for request in engine.requests}) == 1
    parser = HermesJsonOutputParser(schema=form.schema)
    assert [parser.invoke(message) for message in messages] == [form.value] * 3
    assert HermesPrompt(response_format=form.schema).invoke("x").to_messages()[0].text in engine.prompts[0]


DOORS = {
    "json_schema": lambda llm, given: llm.with_structured_output(given),
    "json_mode": lambda llm, given: llm.with_structured_output(given, method="json_mode"),
    "function_calling": lambda llm, given: llm.with_structured_output(given, method="function_calling"),
    "bind_tools": lambda llm, given: llm.bind_tools([], response_format=given),
    "invoke": lambda llm, given: llm.invoke("x", response_format=given),
    "stream": lambda llm, given: list(llm.stream("x", response_format=given)),
    "ainvoke": lambda llm, given: asyncio.run(llm.ainvoke("x", response_format=given)),
    "a parser": lambda llm, given: HermesJsonOutputParser(schema=given),
    "a prompt": lambda llm, given: HermesPrompt(response_format=given),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize("given", NO_SCHEMAS.values(), ids=NO_SCHEMAS)
def test_what_is_no_schema_is_refused_in_one_way_at_every_door(scripted, door, given):
    llm, engine = scripted([])
    with pytest.raises(HermesSchemaError, match=r"is no schema: .*give a pydantic class"):
        door(llm, given)
    assert engine.requests == []


def weigh(weight: int) -> int:
    """Weigh an apple."""
    return weight


def test_tools_and_the_dicts_of_other_vendors_are_schemas_of_their_arguments(scripted):
    llm, _ = scripted(lambda prompt: '{"weight": 3}')
    vendors = [
        {"name": "weigh", "input_schema": APPLE},
        {"toolSpec": {"name": "weigh", "inputSchema": {"json": APPLE}}},
    ]
    for schema in (weigh, tool(weigh), *vendors):
        assert llm.with_structured_output(schema).invoke("x") == {"weight": 3}


def test_lists_stream_while_they_grow(scripted):
    text = '[{"weight": 3}, {"flour": "rye"}, {"weight": 44}]'
    for method in METHODS:
        reply = _reply(list[Apple | Bread], text, method)
        llm, _ = scripted(lambda prompt, reply=reply: reply)
        parts = list(llm.with_structured_output(list[Apple | Bread], method=method).stream("x"))
        assert parts[-1] == [Apple(weight=3), Bread(flour="rye"), Apple(weight=44)]
        assert [Apple(weight=3)] in parts
        assert [len(part) for part in parts] == sorted(len(part) for part in parts)
        assert all(isinstance(item, Apple | Bread) for part in parts for item in part)


def test_a_scalar_comes_once(scripted):
    for method in METHODS:
        reply = _reply(Color, '"red"', method)
        llm, _ = scripted(lambda prompt, reply=reply: reply)
        assert list(llm.with_structured_output(Color, method=method).stream("x")) == [Color.RED]


def test_a_tools_nulls_are_left_out_before_anything_reads_them(scripted):
    noisy = {**APPLE, "required": None, "description": None, "$defs": None, "additionalProperties": None}
    noisy["properties"] = {"required": {"type": "string", "enum": None}}
    plain = {"type": "object", "properties": {"required": {"type": "string"}}}
    given = [
        {"type": "function", "function": {"name": "f", "description": None, "parameters": noisy}},
        {"type": "function", "name": "f", "parameters": noisy, "strict": None},
        {"name": "f", "description": None, "parameters": noisy},
        {"name": "f", "input_schema": noisy},
        {"toolSpec": {"name": "f", "inputSchema": {"json": noisy}}},
        {**noisy, "title": "f"},
        StructuredTool(name="f", description="", args_schema=noisy, func=print),
    ]
    llm, _ = scripted([])
    for form in given:
        for strict in (None, True, False):
            function = llm.bind_tools([form], strict=strict).kwargs["tools"][0]["function"]
            strictly = {"required": ["required"], "additionalProperties": False} if strict else {}
            assert function["parameters"] == {**plain, **strictly}, form
    empty = llm.bind_tools([{"name": "f", "parameters": {"type": "object", "properties": None}}], strict=True)
    assert "properties" not in empty.kwargs["tools"][0]["function"]["parameters"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("schema", SHORT.values(), ids=SHORT)
def test_a_real_grammar_lets_only_values_through(schema, method):
    llm = ChatHermes(model="tiny-hermes", max_tokens=200, temperature=1, seed=3)
    value = llm.with_structured_output(schema, method=method).invoke("The color is red, the weight is 3.")
    assert AnswerType.of(schema).adapter.validate_python(value) == value
