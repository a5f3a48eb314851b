"""Every form an answer can be held to, through both adapters on the embedded checkpoint."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest
from langchain_core.messages import HumanMessage
from llama_index.core.llms import ChatMessage
from pydantic_core import from_json

from hermes_runtime.errors import HermesError
from langchain_hermes import ChatHermes
from llama_index_hermes import HermesLLM

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Brest", "Lorient"]}, "days": {"type": "integer", "maximum": 9}},
    "required": ["city"],
}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "", "parameters": CITY}}
    for name in ("get_weather", "get_tide", "book_ferry")
]
ANSWER = {
    "type": "object",
    "properties": {"port": {"enum": ["Brest", "Lorient"]}, "open": {"type": "boolean"}},
    "required": ["port", "open"],
    "additionalProperties": False,
}
RESPONSE_FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": ANSWER}}
# Warm, so that the toy is a bad model: what holds then holds by the grammar alone.
OPTIONS = {"model": "tiny-hermes", "temperature": 1.5, "max_tokens": 400}


def langchain_answer(options):
    if "allow_parallel_tool_calls" in options:
        options = {**options, "parallel_tool_calls": options["allow_parallel_tool_calls"]}
        del options["allow_parallel_tool_calls"]
    message = ChatHermes(**OPTIONS).invoke([HumanMessage("What about Brest and Lorient?")], **options)
    assert not message.invalid_tool_calls
    return message.text, [(call["name"], call["args"]) for call in message.tool_calls]


def llama_index_answer(options):
    llm = HermesLLM(**OPTIONS)
    response = llm.chat([ChatMessage("What about Brest and Lorient?")], **options)
    calls = llm.get_tool_calls_from_response(response, error_on_no_tool_call=False)
    return response.message.content or "", [(call.tool_name, call.tool_kwargs) for call in calls]


@pytest.fixture(params=[langchain_answer, llama_index_answer], ids=["langchain", "llama_index"])
def answers(request):
    """Ask the same with three seeds."""
    return lambda **options: [request.param({**options, "seed": seed}) for seed in range(3)]


def assert_valid(calls, names=("get_weather", "get_tide", "book_ferry")):
    for name, arguments in calls:
        assert name in names
        jsonschema.validate(arguments, CITY)


def test_auto_makes_valid_calls_or_none(answers):
    for _, calls in answers(tools=TOOLS):
        assert_valid(calls)


def test_none_makes_no_call(answers):
    assert all(not calls and "<tool_call>" not in text for text, calls in answers(tools=TOOLS, tool_choice="none"))


@pytest.mark.parametrize("choice", ["any", "required", True])
def test_any_makes_calls_and_nothing_else(answers, choice):
    for text, calls in answers(tools=TOOLS, tool_choice=choice):
        assert calls
        assert not text.strip()
        assert_valid(calls)


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("get_tide", ("get_tide",)),
        ({"type": "function", "function": {"name": "book_ferry"}}, ("book_ferry",)),
        (["get_tide", "book_ferry"], ("get_tide", "book_ferry")),
    ],
)
def test_named_tools_are_the_only_ones_called(answers, choice, names):
    for _, calls in answers(tools=TOOLS, tool_choice=choice):
        assert calls
        assert_valid(calls, names)


def test_not_parallel_is_exactly_one_call(answers):
    for _, calls in answers(tools=TOOLS, tool_choice="any", allow_parallel_tool_calls=False):
        assert len(calls) == 1


def test_max_calls_bounds_the_calls(answers):
    assert all(1 <= len(calls) <= 2 for _, calls in answers(tools=TOOLS, tool_choice="any", max_calls=2))


def test_json_schema(answers):
    for text, calls in answers(response_format=RESPONSE_FORMAT):
        assert not calls
        jsonschema.validate(json.loads(text), ANSWER)


def test_json_object(answers):
    for text, _ in answers(response_format={"type": "json_object"}, temperature=0.5):
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            # Cut off for its length, then: a token is a byte at least. What there is must begin an object.
            is_cut_off = len(text) >= OPTIONS["max_tokens"] and error.msg != "Extra data"
            assert is_cut_off, text
            value = from_json(text, allow_partial="trailing-strings")
        assert isinstance(value, dict)


def test_regex(answers):
    for text, _ in answers(regex=r"[A-Z]{2}-\d{4}"):
        assert re.fullmatch(r"[A-Z]{2}-\d{4}", text)


def test_choices(answers):
    assert all(text in ("yes", "no", "maybe so") for text, _ in answers(choices=["yes", "no", "maybe so"]))


def test_a_call_or_json_of_the_schema(answers):
    for text, calls in answers(tools=TOOLS, response_format=RESPONSE_FORMAT):
        assert_valid(calls)
        assert bool(calls) != bool(text.strip())
        if not calls:
            jsonschema.validate(json.loads(text), ANSWER)


@pytest.mark.parametrize(
    "options",
    [
        {"tools": TOOLS, "tool_choice": "get_whether"},
        {"tool_choice": "any"},
        {"regex": "a", "constrained": False},
        {"choices": ["a"], "regex": "a"},
        {"choices": []},
        {"tools": [{"name": "f", "parameters": {"$ref": "https://example.com/schema.json"}}]},
        {
            "tools": [{"name": "f", "parameters": {"type": "object", "properties": {"a": {"enum": []}}}}],
            "tool_choice": 7,
        },
    ],
)
def test_contradictions_are_typed_errors_and_the_next_call_works(answers, options):
    with pytest.raises(HermesError):
        answers(**options)
    assert answers(choices=["fine"])[0][0] == "fine"
