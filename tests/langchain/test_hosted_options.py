"""ChatHermes at the call sites of hosted chat models: constructors, calls, bound options and structured output."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from functools import partial

import httpx
import pytest
from langchain.chat_models import init_chat_model
from langchain_core.messages import AIMessageChunk
from langchain_core.output_parsers.openai_functions import JsonOutputFunctionsParser
from langchain_core.runnables import ConfigurableField
from pydantic import BaseModel, Field

from langchain_hermes import ChatHermes, HermesInvalidRequestError, register_provider
from tests.support.hosted_rows import (
    CALL_NAMES,
    CONSTRUCTOR_NAMES,
    FUNCTION,
    HARMLESS,
    MEANT,
    MEANT_BY_CALLS,
    MEANT_BY_CONSTRUCTORS,
    NAMES_OF_ARGUMENTS,
    NO_CALLS,
    REFUSED,
    REFUSED_TO_A_SERVER,
    TOOL,
    VENDOR_ADDRESSES,
    refusal_of,
)

CALL = "<tool_call>\n{'arguments': {'a': 1}, 'name': 'add'}\n</tool_call>"
WAYS = {
    "invoke": lambda llm, options: llm.invoke("Hi", **options),
    "bind": lambda llm, options: llm.bind(**options).invoke("Hi"),
    "stream": lambda llm, options: list(llm.stream("Hi", **options)),
    "ainvoke": lambda llm, options: asyncio.run(llm.ainvoke("Hi", **options)),
}


class Person(BaseModel):
    """A person."""

    name: str
    age: int = Field(ge=0)


PERSON = json.dumps({"name": "Anna", "age": 31})


def unlike_arguments(rows):
    """Rows whose name is not one of LangChain's own arguments: those never reach the model."""
    return [row for row in rows if row[0] not in NAMES_OF_ARGUMENTS | NO_CALLS]


def made(**options):
    return ChatHermes(**{"model": "tiny-hermes", **options})


def fields_of(llm):
    return {**llm._identifying_params, "timeout": llm.timeout, "max_retries": llm.max_retries}


@pytest.mark.parametrize(("hosted", "own"), [*MEANT, *MEANT_BY_CONSTRUCTORS])
def test_a_hosted_option_stands_in_the_field_of_its_meaning(hosted, own):
    assert fields_of(made(**hosted)) == fields_of(made(**own))


def test_a_models_name_and_a_key_may_go_by_their_other_names():
    llm = ChatHermes(model_name="tiny-hermes", openai_api_key="sk-secret")
    assert (llm.model, llm.api_key.get_secret_value()) == ("tiny-hermes", "sk-secret")
    assert "sk-secret" not in repr(llm)


@pytest.mark.parametrize(("name", "value"), [row for row in HARMLESS if row[0] not in {"verbose", "streaming"}])
def test_a_harmless_option_makes_the_same_model(name, value):
    assert fields_of(made(**{name: value})) == fields_of(made())


@pytest.mark.parametrize(("name", "value", "words"), REFUSED)
def test_what_cannot_be_honored_is_refused_when_a_model_is_made(name, value, words):
    with pytest.raises(HermesInvalidRequestError, match=rf"(?s)^{name}.*{words}"):
        made(**{name: value})


@pytest.mark.parametrize("value", [None, "x", 1, ["x"]])
def test_a_constructor_knows_every_name_of_hosted_classes(value):
    refusals = {name: refusal_of(partial(made, **{name: value})) for name in CONSTRUCTOR_NAMES}
    assert [name for name, said in refusals.items() if "unknown option" in said or "Extra inputs" in said] == []
    if value is None:
        assert [name for name, said in refusals.items() if said] == ["model"]


@pytest.mark.parametrize("url", VENDOR_ADDRESSES)
def test_prompts_are_not_sent_to_a_vendor(url):
    with pytest.raises(HermesInvalidRequestError, match="leave this machine"):
        made(base_url=url)


@pytest.mark.parametrize(("name", "value", "words"), REFUSED_TO_A_SERVER)
def test_what_a_server_never_gets_is_refused(name, value, words):
    with pytest.raises(HermesInvalidRequestError, match=words):
        made(base_url="http://localhost:1/v1", **{name: value})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("hosted", "own"), [*MEANT, *MEANT_BY_CALLS])
def test_a_hosted_option_of_a_call_does_what_its_meaning_does(scripted, hosted, own, way):
    llm, engine = scripted(lambda prompt: "{}")
    WAYS[way](llm, hosted)
    WAYS[way](llm, own)
    assert engine.requests[0] == engine.requests[1]


@pytest.mark.parametrize(("name", "value"), unlike_arguments(HARMLESS))
def test_a_harmless_option_of_a_call_changes_nothing(scripted, name, value):
    llm, engine = scripted(lambda prompt: PERSON)
    llm.invoke("Hi")
    assert llm.invoke("Hi", **{name: value}).content == llm.bind(**{name: value}).invoke("Hi").content == PERSON
    assert engine.requests[0] == engine.requests[1] == engine.requests[2]
    assert llm.with_structured_output(Person, **{name: value}).invoke("Hi") == Person(name="Anna", age=31)


@pytest.mark.parametrize(("name", "value", "words"), unlike_arguments(REFUSED))
def test_what_cannot_be_honored_is_refused_in_a_call(scripted, name, value, words):
    llm, engine = scripted(["Hello"])
    for way in WAYS.values():
        with pytest.raises(HermesInvalidRequestError, match=rf"(?s)^{name}.*{words}"):
            way(llm, {name: value})
    with pytest.raises(HermesInvalidRequestError, match=rf"(?s)^{name}.*{words}"):
        llm.with_structured_output(Person, **{name: value})
    assert engine.requests == []
    assert llm.invoke("Hi").content == "Hello"


def test_a_call_lifts_the_models_own_bound(scripted):
    llm, engine = scripted(lambda prompt: "Hello", max_tokens=7)
    llm.invoke("Hi", max_tokens=-1)
    llm.invoke("Hi", max_tokens=None)
    assert [request.options.max_tokens for request in engine.requests] == [None, 7]


@pytest.mark.parametrize("value", [None, "x", 1, ["x"]])
def test_a_call_knows_every_name_of_hosted_classes(value, scripted):
    llm, engine = scripted(lambda prompt: "Hello")
    names = sorted(set(CALL_NAMES) - NAMES_OF_ARGUMENTS)
    refusals = {name: refusal_of(partial(llm.invoke, "Hi", **{name: value})) for name in names}
    assert [name for name, said in refusals.items() if "unknown option" in said] == []
    assert len(engine.requests) == len([name for name, said in refusals.items() if not said])
    assert value is not None or len(engine.requests) == len(names)


# Objects after they were made


def test_an_object_knows_its_own_names_only_and_so_do_its_copies(scripted):
    llm, engine = scripted(
        lambda prompt: "Hello", max_completion_tokens=7, request_timeout=httpx.Timeout(9.0), user="me"
    )
    assert (llm.max_tokens, llm.timeout) == (7, 9.0)
    twins = [llm, llm.model_copy(), copy.deepcopy(llm), pickle.loads(pickle.dumps(llm)), ChatHermes(**llm.model_dump())]
    for twin in twins:
        twin.invoke("Hi")
    options = [request.options for request in engine.requests]
    assert {(asked.max_tokens, asked.timeout) for asked in options} == {(7, 9.0)}
    assert len(engine.requests) == len(twins)


def test_configured_fields_take_both_kinds_of_names(scripted):
    llm, engine = scripted(lambda prompt: "Hello", max_completion_tokens=7, timeout=(1, 9))
    configurable = llm.configurable_fields(temperature=ConfigurableField(id="warmth"))
    configurable.with_config(configurable={"warmth": 0.25}).invoke("Hi", stop_sequences=["END"])
    (asked,) = (request.options for request in engine.requests)
    assert (asked.sampling.temperature, asked.max_tokens, asked.timeout, asked.stop) == (0.25, 7, 9, ("END",))


def test_a_model_made_by_name_takes_hosted_options(scripted):
    _, engine = scripted(lambda prompt: "Hello")
    register_provider()
    init_chat_model("hermes:scripted", max_completion_tokens=7, n=1, organization="o").invoke("Hi")
    anything = init_chat_model("hermes:scripted", configurable_fields="any", num_predict=5)
    anything.invoke("Hi", config={"configurable": {"stop_sequences": ["END"]}})
    options = [request.options for request in engine.requests]
    assert [(asked.max_tokens, asked.stop) for asked in options] == [
        (7, ()),
        (5, ("END",)),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", "hot"), ("temperature", -1), ("max_tokens", 0), ("dialect", "klingon"), ("n", 2), ("xyz", 1)],
)
def test_a_bad_assignment_is_refused_and_changes_nothing(name, value):
    llm = made(temperature=0.5)
    before = fields_of(llm)
    with pytest.raises(HermesInvalidRequestError, match=name):
        setattr(llm, name, value)
    assert fields_of(llm) == before


def test_a_good_assignment_is_kept(scripted):
    llm, engine = scripted(lambda prompt: "Hello", temperature=0.5)
    llm.temperature = None
    llm.max_completion_tokens = 7
    llm.metadata = {"a": "b"}
    llm.invoke("Hi")
    asked = engine.requests[0].options
    assert (asked.sampling.temperature, asked.max_tokens) == (None, 7)
    assert llm.metadata == {"a": "b"}


# Structured output with options of its calls


@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
def test_structured_output_takes_options_of_calls(scripted, method):
    reply = "<tool_call>\n{'arguments': {'name': 'Anna', 'age': 31}, 'name': 'Person'}\n</tool_call>"
    llm, engine = scripted([reply if method == "function_calling" else PERSON])
    options = {"temperature": 0, "stop": ["END"], "max_completion_tokens": 40, "seed": 3, "user": "me"}
    assert llm.with_structured_output(Person, method=method, **options).invoke("Hi") == Person(name="Anna", age=31)
    (request,) = engine.requests
    asked = request.options
    assert (asked.sampling.temperature, asked.stop, asked.max_tokens, asked.seed) == (0, ("END",), 40, 3)
    assert request.constraint


def test_structured_output_may_offer_tools_beside_the_object(scripted):
    llm, engine = scripted([PERSON, CALL, CALL, CALL, CALL[:30]])
    chain = llm.with_structured_output(Person, tools=[TOOL])
    assert chain.invoke("Hi") == Person(name="Anna", age=31)
    assert chain.invoke("Hi") is None
    assert list(chain.stream("Hi")) == [None]
    assert all("add" in request.constraint and "age" in request.constraint for request in engine.requests)
    raw = llm.with_structured_output(Person, tools=[TOOL], include_raw=True)
    answer = raw.invoke("Hi")
    assert (answer["parsed"], answer["parsing_error"]) == (None, None)
    assert answer["raw"].tool_calls[0]["args"] == {"a": 1}
    assert raw.invoke("Hi")["parsing_error"] is not None


def test_a_choice_of_structured_output_wins_over_the_methods(scripted):
    llm, engine = scripted(["{}"] * 2)
    llm.with_structured_output(Person, method="function_calling", tool_choice="auto", include_raw=True).invoke("Hi")
    llm.bind_tools([Person], parallel_tool_calls=False).invoke("Hi")
    assert engine.requests[0].constraint == engine.requests[1].constraint


# The interface before tools


def test_a_function_is_called_where_parsers_of_its_time_look(scripted):
    llm, _ = scripted(lambda prompt: "Let me add." + "\n" + CALL)
    options = {"functions": [FUNCTION], "function_call": "auto"}
    message = llm.invoke("Hi", **options)
    called = message.additional_kwargs["function_call"]
    assert (called["name"], json.loads(called["arguments"]), message.tool_calls) == ("add", {"a": 1}, [])
    assert JsonOutputFunctionsParser().invoke(message) == {"a": 1}
    chunks = list(llm.stream("Hi", **options))
    assert sum(chunks[1:], chunks[0]).additional_kwargs == message.additional_kwargs
    assert all(isinstance(chunk, AIMessageChunk) and not chunk.tool_call_chunks for chunk in chunks)


def test_a_cut_function_call_is_no_json(scripted):
    llm, _ = scripted(lambda prompt: CALL[:30])
    called = llm.invoke("Hi", functions=[FUNCTION]).additional_kwargs["function_call"]
    with pytest.raises(json.JSONDecodeError):
        json.loads(called["arguments"])
