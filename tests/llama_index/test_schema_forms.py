"""Every form of a schema as a response format and as what is predicted; and what is no schema, refused."""

from __future__ import annotations

import asyncio
import json

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate

from hermes_runtime.answers.answer_type import AnswerType
from hermes_runtime.errors import SchemaError
from llama_index_hermes import HermesLLM, HermesOutputParser, StructuredOutputError
from tests.support.schema_forms import FORMS, NO_SCHEMAS, SHORT, Apple, Bread

MODES = ["default", "function"]
PROMPT = PromptTemplate("The color is red, the weight is 3.")
ASK = [ChatMessage("x")]
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
every_mode = pytest.mark.parametrize("mode", MODES)


def _reply(schema, text, mode):
    if mode == "default":
        return text
    target, arguments = AnswerType.of(schema), json.loads(text)
    if target.in_arguments(arguments) is not arguments:
        arguments = {"value": arguments}
    return f"<tool_call>\n{ {'arguments': arguments, 'name': target.tool.name} }\n</tool_call>"


async def _astream(llm, schema):
    return [part async for part in await llm.astream_structured_predict(schema, PROMPT)]


@every_form
@every_mode
def test_every_form_gives_its_value_on_every_path(scripted, form, mode):
    reply = _reply(form.schema, form.text, mode)
    llm, _ = scripted(lambda prompt: reply, pydantic_program_mode=mode)
    values = [
        llm.structured_predict(form.schema, PROMPT),
        asyncio.run(llm.astructured_predict(form.schema, PROMPT)),
        list(llm.stream_structured_predict(form.schema, PROMPT))[-1],
        asyncio.run(_astream(llm, form.schema))[-1],
        HermesOutputParser(output_cls=form.schema).parse(form.text),
    ]
    assert values == [form.value] * len(values)
    assert {type(value) for value in values} == {type(form.value)}


@every_form
@every_mode
def test_what_breaks_the_schema_is_an_error(scripted, form, mode):
    reply = _reply(form.schema, form.broken, mode)
    llm, _ = scripted(lambda prompt: reply, pydantic_program_mode=mode, constrained=mode == "function")
    with pytest.raises(StructuredOutputError):
        llm.structured_predict(form.schema, PROMPT)
    with pytest.raises(StructuredOutputError):
        list(llm.stream_structured_predict(form.schema, PROMPT))


@every_form
def test_every_form_is_a_response_format(scripted, form):
    llm, engine = scripted(lambda prompt: form.text)
    llm.chat(ASK, response_format=form.schema)
    list(llm.stream_chat(ASK, response_format=form.schema))
    asyncio.run(llm.achat(ASK, response_format=form.schema))
    assert llm.complete("x", response_format=form.schema).text == form.text
    schema = AnswerType.of(form.schema).schema
    assert all((json.dumps(schema, ensure_ascii=False) in prompt) or not schema for prompt in engine.prompts)
    assert len({request.constraint for request in engine.requests}) == 1


DOORS = {
    "chat": lambda llm, given: llm.chat(ASK, response_format=given),
    "achat": lambda llm, given: asyncio.run(llm.achat(ASK, response_format=given)),
    "stream_chat": lambda llm, given: list(llm.stream_chat(ASK, response_format=given)),
    "complete": lambda llm, given: llm.complete("x", response_format=given),
    "structured_predict": lambda llm, given: llm.structured_predict(given, PROMPT),
    "stream_structured_predict": lambda llm, given: list(llm.stream_structured_predict(given, PROMPT)),
    "a parser": lambda llm, given: HermesOutputParser(output_cls=given),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize("given", NO_SCHEMAS.values(), ids=NO_SCHEMAS)
def test_what_is_no_schema_is_refused_in_one_way_at_every_door(scripted, door, given):
    llm, engine = scripted([])
    with pytest.raises(SchemaError, match=r"is no schema: .*give a pydantic class"):
        door(llm, given)
    assert engine.requests == []


@every_mode
def test_lists_stream_while_they_grow(scripted, mode):
    reply = _reply(list[Apple | Bread], '[{"weight": 3}, {"flour": "rye"}, {"weight": 44}]', mode)
    llm, _ = scripted([reply], pydantic_program_mode=mode)
    parts = list(llm.stream_structured_predict(list[Apple | Bread], PROMPT))
    assert parts[-1] == [Apple(weight=3), Bread(flour="rye"), Apple(weight=44)]
    assert [Apple(weight=3)] in parts
    assert [len(part) for part in parts] == sorted(len(part) for part in parts)


@every_mode
@pytest.mark.parametrize("schema", SHORT.values(), ids=SHORT)
def test_a_real_grammar_lets_only_values_through(schema, mode):
    llm = HermesLLM(model="tiny-hermes", max_tokens=200, temperature=1, seed=3, pydantic_program_mode=mode)
    value = llm.structured_predict(schema, PROMPT)
    assert AnswerType.of(schema).adapter.validate_python(value) == value
