from __future__ import annotations

import json
from typing import Any, TypedDict

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.tools import StructuredTool
from pydantic import BaseModel
from pydantic.v1 import BaseModel as BaseModelV1

from langchain_hermes import HermesInvalidRequestError, HermesSchemaError
from tests.support.grammar_oracle import matches


class Joke(BaseModel):
    """A joke."""

    setup: str
    punchline: str


class JokeV1(BaseModelV1):
    """A joke."""

    setup: str
    punchline: str


class JokeDict(TypedDict):
    """A joke."""

    setup: str
    punchline: str


JOKE_SCHEMA = Joke.model_json_schema()
JOKE_FUNCTION = {"name": "Joke", "description": "A joke.", "parameters": {**JOKE_SCHEMA}}
VALUES = {"setup": "Why?", "punchline": "Because."}
CALL = f"<tool_call>\n{{'arguments': {VALUES!r}, 'name': '%s'}}\n</tool_call>"


def _values(result: Any) -> dict[str, Any]:
    if isinstance(result, BaseModel):
        return result.model_dump()
    return result if isinstance(result, dict) else result.dict()


@pytest.mark.parametrize("schema", [Joke, JokeV1, JokeDict, JOKE_SCHEMA, JOKE_FUNCTION])
@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
@pytest.mark.parametrize("include_raw", [False, True])
def test_every_schema_by_every_method(scripted, schema, method, include_raw):
    name = schema.__name__ if isinstance(schema, type) else "Joke"
    reply = CALL % name if method == "function_calling" else json.dumps(VALUES)
    llm, engine = scripted([reply])
    result = llm.with_structured_output(schema, method=method, include_raw=include_raw).invoke("A joke!")
    if include_raw:
        assert result["parsing_error"] is None
        assert result["raw"].response_metadata["model_provider"] == "hermes"
        result = result["parsed"]
    assert _values(result) == VALUES
    if isinstance(schema, type) and schema is not JokeDict:
        assert isinstance(result, schema)
    request = engine.requests[0]
    assert "setup" in request.constraint
    assert "punchline" in engine.prompts[0]
    assert ("<tools>" in engine.prompts[0]) == (method == "function_calling")


def test_json_mode_without_a_schema_takes_any_object(scripted):
    llm, engine = scripted(['{"a": [1, 2]}'])
    assert llm.with_structured_output(method="json_mode").invoke("An object!") == {"a": [1, 2]}
    assert engine.requests[0].constraint


def test_partial_objects_stream(scripted):
    llm, _ = scripted([json.dumps(VALUES)])
    partial = list(llm.with_structured_output(JOKE_SCHEMA).stream("A joke!"))
    assert len(partial) > 2
    assert partial[-1] == VALUES
    assert any(part.keys() == {"setup"} for part in partial)


@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
@pytest.mark.parametrize("strict", [None, True, False])
def test_partial_objects_stream_by_every_method(scripted, method, strict):
    reply = CALL % "Joke" if method == "function_calling" else json.dumps(VALUES)
    llm, _ = scripted(lambda prompt: reply)
    partial = list(llm.with_structured_output(JOKE_SCHEMA, method=method, strict=strict).stream("A joke!"))
    assert len(partial) > 3
    assert partial[-1] == VALUES
    assert list(llm.with_structured_output(Joke, method=method, strict=strict).stream("A joke!"))[-1] == Joke(**VALUES)


@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
async def test_the_raw_message_streams_and_the_object_follows(scripted, method):
    reply = CALL % "Joke" if method == "function_calling" else json.dumps(VALUES)
    llm, _ = scripted(lambda prompt: reply)
    chain = llm.with_structured_output(Joke, method=method, include_raw=True)
    for parts in (list(chain.stream("A joke!")), [part async for part in chain.astream("A joke!")]):
        *raw, last = parts
        assert len(raw) > 3
        assert all(part.keys() == {"raw"} for part in raw)
        assert last == {"parsed": Joke(**VALUES), "parsing_error": None}
    whole = await chain.ainvoke("A joke!")
    assert whole["parsed"] == chain.invoke("A joke!")["parsed"] == Joke(**VALUES)


@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
@pytest.mark.parametrize("schema", [Joke, JOKE_SCHEMA])
def test_a_cut_answer_raises_or_is_reported(scripted, method, schema):
    reply = CALL % "Joke" if method == "function_calling" else json.dumps(VALUES)
    llm, _ = scripted(lambda prompt: reply, max_tokens=22 if method == "function_calling" else 10)
    chain = llm.with_structured_output(schema, method=method)
    cut = "truncated: "
    if method == "function_calling":
        cut = "the call of 'Joke' was cut off after 22 tokens by max_tokens; raise max_tokens"
    for run in (chain.invoke, lambda text: list(chain.stream(text))):
        with pytest.raises(OutputParserException, match=cut):
            run("A joke!")
    reporting = llm.with_structured_output(schema, method=method, include_raw=True)
    for result in (reporting.invoke("A joke!"), list(reporting.stream("A joke!"))[-1]):
        assert result["parsed"] is None
        assert isinstance(result["parsing_error"], OutputParserException)


@pytest.mark.parametrize("schema", [Joke, JOKE_SCHEMA])
def test_a_forced_call_needs_no_grammar(scripted, schema):
    llm, engine = scripted(["No.", CALL % "Joke"], constrained=False, max_repairs=1)
    result = llm.with_structured_output(schema, method="function_calling").invoke("A joke!")
    assert _values(result) == VALUES
    assert [request.constraint for request in engine.requests] == [None, None]
    assert "Call the function Joke now" in engine.prompts[1]


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("Why? Because.", "no call"),
        (CALL % "Riddle", "unknown_tool"),
        ("<tool_call>\n{'arguments': {'setup': }, 'name': 'Joke'}\n</tool_call>", "malformed"),
        ("<tool_call>\n{'arguments': {'setup': 'Why?'}, 'name': 'Joke'}\n</tool_call>", "punchline"),
    ],
)
@pytest.mark.parametrize("schema", [Joke, JOKE_SCHEMA])
def test_an_answer_without_the_forced_call_raises_or_is_reported_as_any_other(scripted, schema, reply, why):
    llm, _ = scripted(lambda prompt: reply, constrained=False)
    chain = llm.with_structured_output(schema, method="function_calling")
    for run in (chain.invoke, lambda text: list(chain.stream(text))):
        with pytest.raises(OutputParserException, match=why):
            run("A joke!")
    reporting = llm.with_structured_output(schema, method="function_calling", include_raw=True)
    for result in (reporting.invoke("A joke!"), list(reporting.stream("A joke!"))[-1]):
        assert result["parsed"] is None
        assert why in str(result["parsing_error"])
    assert reporting.invoke("A joke!")["raw"].text == ("" if "<tool_call>" in reply else reply)


@pytest.mark.parametrize("parser", [PydanticToolsParser(tools=[Joke]), JsonOutputKeyToolsParser(key_name="Joke")])
def test_langchains_own_parsers_of_calls_say_that_the_call_was_cut(scripted, parser):
    llm, _ = scripted([CALL % "Joke"], max_tokens=22)
    chain = llm.bind_tools([Joke], tool_choice="any") | parser
    with pytest.raises(OutputParserException, match="the call of 'Joke' was cut off after 22 tokens by max_tokens"):
        chain.invoke("A joke!")


def test_a_stream_of_langchains_own_parser_ends_with_no_object_of_a_cut_call(scripted):
    class Joke(BaseModel):
        """A joke."""

        setup: str = ""
        punchline: str = ""

    llm, _ = scripted([CALL % "Joke"], max_tokens=22)
    chain = llm.bind_tools([Joke], tool_choice="any") | PydanticToolsParser(tools=[Joke])
    assert list(chain.stream("A joke!"))[-1] == []


def test_a_malformed_call_is_named_with_what_is_wrong(scripted):
    llm, _ = scripted(lambda prompt: "<tool_call>\n{'arguments': {'setup': }, 'name': 'Joke'}\n</tool_call>")
    for chain in (
        llm.with_structured_output(Joke, method="function_calling"),
        llm.bind_tools([Joke], tool_choice="any") | PydanticToolsParser(tools=[Joke]),
    ):
        with pytest.raises(OutputParserException, match="the call of 'Joke' cannot be read: malformed: "):
            chain.invoke("A joke!")


def test_what_cannot_be_honored_raises(scripted):
    llm, _ = scripted([])
    with pytest.raises(HermesInvalidRequestError, match="unknown option 'temprature'"):
        llm.with_structured_output(Joke, temprature=0)
    with pytest.raises(HermesInvalidRequestError, match="made from the schema"):
        llm.with_structured_output(Joke, response_format=Joke)
    with pytest.raises(HermesInvalidRequestError, match="json_schema"):
        llm.with_structured_output(Joke, method="function_calling", tools=[Joke])
    with pytest.raises(HermesInvalidRequestError, match="'magic'"):
        llm.with_structured_output(Joke, method="magic")
    with pytest.raises(HermesInvalidRequestError, match="needs a schema"):
        llm.with_structured_output(None)
    with pytest.raises(HermesSchemaError):
        llm.with_structured_output({"no": "schema"})


@pytest.mark.parametrize(
    "response_format",
    [
        Joke,
        JOKE_SCHEMA,
        {"type": "json_schema", "json_schema": {"name": "Joke", "schema": JOKE_SCHEMA, "strict": True}},
        {"type": "json_schema", "name": "Joke", "schema": JOKE_SCHEMA},
    ],
)
def test_every_response_format_constrains_the_answer(scripted, response_format):
    llm, engine = scripted([json.dumps(VALUES)])
    llm.invoke("A joke!", response_format=response_format)
    assert "punchline" in engine.requests[0].constraint


def test_json_object_and_text_formats(scripted):
    llm, engine = scripted(['{"a": 1}', "Hello"])
    llm.invoke("x", response_format={"type": "json_object"})
    llm.invoke("x", response_format={"type": "text"})
    assert engine.requests[0].constraint != engine.requests[1].constraint
    assert "answers in JSON" in engine.prompts[0]
    assert "answers in JSON" not in engine.prompts[1]


@pytest.mark.parametrize(
    "response_format", [{"type": "json_schema"}, {"type": "json_schema", "json_schema": {"name": "x"}}]
)
def test_a_response_format_without_its_schema_is_refused(scripted, response_format):
    llm, engine = scripted([])
    with pytest.raises(HermesSchemaError, match="needs a schema"):
        llm.invoke("x", response_format=response_format)
    assert engine.requests == []


class Folder(BaseModel):
    """A folder."""

    name: str
    folders: list[Folder] = []


class Tree(BaseModel):
    """A tree."""

    root: Folder


NESTED = '{"name": "a", "folders": [{"name": "b", "folders": []}]}'


@pytest.mark.parametrize(("schema", "reply"), [(Folder, NESTED), (Tree, '{"root": ' + NESTED + "}")])
def test_a_class_that_contains_itself_is_kept_at_every_depth(scripted, schema, reply):
    llm, engine = scripted(lambda prompt: reply)
    assert llm.with_structured_output(schema).invoke("x") == schema.model_validate_json(reply)
    for wrong in ('"b"', '{"folders": []}'):
        broken = reply.replace('{"name": "b", "folders": []}', wrong)
        assert not matches(engine.requests[0].constraint, broken)
    assert matches(engine.requests[0].constraint, reply)


def test_arguments_that_contain_themselves_are_kept_too(scripted):
    def save(folder: Folder) -> None:
        """Save a folder."""

    llm, _ = scripted(lambda prompt: "")
    for tool in (save, StructuredTool.from_function(save), Folder):
        parameters = llm.bind_tools([tool]).kwargs["tools"][0]["function"]["parameters"]
        assert parameters["type"] == "object"
        assert '"$ref": "#/$defs/Folder"' in json.dumps(parameters)
