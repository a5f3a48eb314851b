"""Calls of histories: however a vendor wrote them down, they are calls, and broken ones keep their tool's name."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_runtime.messages import InvalidToolCall, ToolCall, ToolSpec
from hermes_runtime.parser import parse_completion
from hermes_runtime.prompt import build_prompt
from hermes_runtime.prompt.recorded_calls import recorded_call, recorded_calls

WEATHER = ToolSpec("get_weather", "Weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=6,
)


def answered(mistral_tokenizer, arguments):
    """Return the answer in the prompt of a history whose call has these arguments, and the prompt's text."""
    call = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    history = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "9"},
    ]
    text = build_prompt(history, tokenizer=mistral_tokenizer, tools=[WEATHER]).text
    assert '{"name": "get_weather", "content": "9"}' in text
    return text.split("<|im_start|>assistant\n")[1].split("<|im_end|>")[0]


@pytest.mark.parametrize("written", [{"city": "Oslo"}, '{"city": "Oslo"}', json.dumps('{"city": "Oslo"}')])
def test_arguments_are_an_object_however_often_they_were_encoded(mistral_tokenizer, written):
    shown = "<tool_call>\n{'arguments': {'city': 'Oslo'}, 'name': 'get_weather'}\n</tool_call>"
    assert answered(mistral_tokenizer, written) == shown


@pytest.mark.parametrize("written", [None, "", " ", "null", {}, "{}", '""'])
def test_no_arguments_are_an_empty_object(mistral_tokenizer, written):
    shown = "<tool_call>\n{'arguments': {}, 'name': 'get_weather'}\n</tool_call>"
    assert answered(mistral_tokenizer, written) == shown


@pytest.mark.parametrize("written", ['{"city": "Os', "Oslo", "[1]", ["Oslo"], 3])
def test_a_call_with_broken_arguments_shows_them_and_its_tools_name(mistral_tokenizer, written):
    text = written if isinstance(written, str) else json.dumps(written)
    shown = json.dumps({"arguments": text, "name": "get_weather"})
    assert answered(mistral_tokenizer, written) == f"<tool_call>\n{shown}\n</tool_call>"


def test_a_call_without_a_name_ends_no_conversation(mistral_tokenizer):
    history = [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"arguments": '{"a": 1}'}}]}]
    assert '<tool_call>\n{"a": 1}\n</tool_call>' in build_prompt(history, tokenizer=mistral_tokenizer).text


def test_a_call_in_the_oldest_form_is_a_call(mistral_tokenizer):
    history = [
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}},
        {"role": "function", "name": "f", "content": "2"},
    ]
    text = build_prompt(history, tokenizer=mistral_tokenizer).text
    assert "{'arguments': {'a': 1}, 'name': 'f'}" in text
    assert '{"name": "f", "content": "2"}' in text


@given(st.dictionaries(st.text("ab", max_size=2), JSON, max_size=3))
def test_a_history_reads_arguments_as_the_parser_reads_the_models_own(arguments):
    encoded = json.dumps(arguments)
    for written in (arguments, encoded):
        block = json.dumps({"name": "f", "arguments": written})
        (parsed,) = parse_completion(f"<tool_call>\n{block}\n</tool_call>", [ToolSpec("f")]).tool_calls
        for recorded in (written, json.dumps(written)):
            assert recorded_call("a", "f", recorded) == ToolCall("a", "f", parsed.arguments)


@given(st.text(max_size=20) | JSON)
def test_whatever_stands_for_arguments_makes_a_call_or_a_broken_one_of_the_tools_name(arguments):
    read = recorded_call("a", "f", arguments)
    assert (read.id, read.name) == ("a", "f")
    if isinstance(read, InvalidToolCall):
        assert json.loads(read.arguments)["name"] == "f"


@pytest.mark.parametrize("call_id", [None, ""])
def test_a_call_without_an_id_gets_one(call_id):
    first, second = recorded_call(call_id, "f", {}), recorded_call(call_id, "f", {})
    assert first.id
    assert first.id != second.id


@pytest.mark.parametrize(
    "raw",
    [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"id": "c1", "name": "f", "args": {"a": 1}},
        {"tool_id": "c1", "tool_name": "f", "tool_kwargs": {"a": 1}},
        SimpleNamespace(id="c1", function=SimpleNamespace(name="f", arguments='{"a": 1}')),
        SimpleNamespace(tool_call_id="c1", tool_name="f", tool_kwargs={"a": 1}),
    ],
)
def test_every_vendors_form_is_read(raw):
    made = ((ToolCall("c1", "f", {"a": 1}),), ())
    assert recorded_calls([raw], {}, None) == made
    assert recorded_calls((), {"tool_calls": [raw]}, None) == made


@pytest.mark.parametrize(
    "block",
    [
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
        {"type": "tool_call", "id": "c1", "name": "f", "args": {"a": 1}},
        {"type": "function_call", "call_id": "c1", "id": "fc", "name": "f", "arguments": '{"a": 1}'},
        {"toolUse": {"toolUseId": "c1", "name": "f", "input": {"a": 1}}},
    ],
)
def test_calls_among_the_blocks_count_where_no_others_are_told(block):
    content = [{"type": "text", "text": "Let me see."}, "So.", block]
    assert recorded_calls((), {}, content) == ((ToolCall("c1", "f", {"a": 1}),), ())
    told = {"id": "c2", "name": "g", "args": {}}
    assert recorded_calls([told], {}, content) == ((ToolCall("c2", "g", {}),), ())
