from __future__ import annotations

import json

import pytest
from langchain_core.messages import (
    AIMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)

from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.messages import Assistant, InvalidToolCall, System, ToolCall, ToolResult, User
from hermes_runtime.problems import PROBLEMS_KEY, Problem
from langchain_hermes._messages import to_runtime_messages


def _one(message):
    (converted,) = to_runtime_messages([message])
    return converted


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (SystemMessage("Be brief."), System("Be brief.")),
        (SystemMessage(""), System("")),
        (HumanMessage("Hi", name="ada"), User("Hi")),
        (HumanMessage([]), User("")),
        (HumanMessage(["Hi", {"type": "text", "text": " there"}]), User("Hi there")),
        (AIMessage("Hello"), Assistant("Hello")),
        (ChatMessage("Be brief.", role="developer"), System("Be brief.")),
        (ChatMessage("Hi", role="User"), User("Hi")),
        (ChatMessage("Hello", role="assistant"), Assistant("Hello")),
        (FunctionMessage("3", name="add"), ToolResult("", "3", "add")),
        (ToolMessage("3", tool_call_id="a"), ToolResult("a", "3")),
        (ToolMessage("no", tool_call_id="a", name="f", status="error"), ToolResult("a", "no", "f", is_error=True)),
        (ToolMessage([{"type": "text", "text": "3"}], tool_call_id="a", artifact=object()), ToolResult("a", "3")),
    ],
)
def test_message_becomes_its_counterpart(message, expected):
    assert _one(message) == expected


def test_calls_and_invalid_calls_of_an_answer_are_kept():
    message = AIMessage(
        "",
        tool_calls=[{"name": "f", "args": {"x": 1}, "id": "a"}],
        invalid_tool_calls=[{"name": "g", "args": '{"name": "g", "y', "id": "b", "error": "truncated: cut"}],
        response_metadata={PROBLEMS_KEY: {"b": ["truncated: cut"]}},
    )
    invalid = InvalidToolCall("b", "g", '{"name": "g", "y', Problem("truncated", "cut"))
    assert _one(message) == Assistant("", (ToolCall("a", "f", {"x": 1}),), (invalid,))


def test_a_broken_call_of_another_class_keeps_its_tools_name():
    broken = {"id": "b", "type": "function", "function": {"name": "g", "arguments": '{"y'}}
    (invalid,) = _one(AIMessage("", additional_kwargs={"tool_calls": [broken]})).invalid_calls
    assert (invalid.id, invalid.name, invalid.arguments) == ("b", "g", '{"arguments": "{\\"y", "name": "g"}')


@pytest.mark.parametrize("nothing", [None, "", "null"])
def test_a_call_of_another_class_without_arguments_has_none(nothing):
    raw = {"id": "b", "type": "function", "function": {"name": "g", "arguments": nothing}}
    assert _one(AIMessage("", additional_kwargs={"tool_calls": [raw]})).calls == (ToolCall("b", "g", {}),)


def test_what_another_class_kept_beside_the_content_is_shown():
    (call,) = _one(AIMessage("", additional_kwargs={"function_call": {"name": "f", "arguments": '{"x": 1}'}})).calls
    assert (call.name, call.arguments) == ("f", {"x": 1})
    assert _one(AIMessage("", additional_kwargs={"refusal": "No."})) == Assistant("No.")
    assert _one(AIMessage("", additional_kwargs={"audio": {"transcript": "Hi."}})) == Assistant("Hi.")
    assert _one(AIMessage([{"type": "refusal", "refusal": "No."}])) == Assistant("No.")


def test_a_call_that_stands_in_the_content_alone_is_a_call():
    said = AIMessage([{"type": "text", "text": "So."}, {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}])
    assert _one(said) == Assistant("So.", (ToolCall("a", "f", {"x": 1}),))


def test_calls_without_id_get_one():
    message = AIMessage(
        "",
        tool_calls=[{"name": "f", "args": {}, "id": None}],
        invalid_tool_calls=[{"name": None, "args": None, "id": None, "error": None}],
    )
    converted = _one(message)
    assert converted.calls[0].id
    assert converted.invalid_calls[0].id
    assert converted.invalid_calls[0].arguments == ""


def test_blocks_of_other_providers_answers_leave_only_their_text():
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "reasoning", "reasoning": "hm"},
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
        {"type": "non_standard", "value": {}},
    ]
    message = AIMessage(content, tool_calls=[{"name": "f", "args": {}, "id": "a"}])
    assert _one(message) == Assistant("Let me see.", (ToolCall("a", "f", {}),))


def test_anthropic_tool_results_come_out_of_the_persons_message():
    content = [
        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "green"}], "is_error": False},
        {"type": "tool_result", "tool_use_id": "b", "content": "no", "is_error": True},
        {"type": "text", "text": "and now?"},
    ]
    assert to_runtime_messages([HumanMessage(content)]) == (
        ToolResult("a", "green"),
        ToolResult("b", "no", is_error=True),
        User("and now?"),
    )
    assert to_runtime_messages([HumanMessage(content[:1])]) == (ToolResult("a", "green"),)


MEDIA = [
    {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
    {"type": "image", "base64": "AAAA", "mime_type": "image/png"},
    {"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"},
    {"type": "video", "url": "https://example.org/a.mp4"},
    {"type": "file", "base64": "AAAA", "mime_type": "application/pdf"},
]


@pytest.mark.parametrize("role", [HumanMessage, SystemMessage, lambda content: ChatMessage(content, role="user")])
@pytest.mark.parametrize("block", MEDIA)
def test_media_of_a_person_are_refused_by_their_type(role, block):
    message = role([{"type": "text", "text": "Look:"}, block])
    with pytest.raises(InvalidRequestError, match=repr(block["type"])):
        to_runtime_messages([message])
    (counted,) = to_runtime_messages([message], omit_media=True)
    assert "omitted: this model reads text only]" in counted.text


@pytest.mark.parametrize("block", MEDIA)
def test_media_of_tools_and_earlier_answers_become_a_note(block):
    blocks = [{"type": "text", "text": "Look:"}, block]
    said = [
        AIMessage(blocks),
        ChatMessage(blocks, role="assistant"),
        ToolMessage(blocks, tool_call_id="a"),
        FunctionMessage(name="f", content=blocks),
        HumanMessage([{"type": "tool_result", "tool_use_id": "a", "content": blocks}]),
    ]
    for converted in to_runtime_messages(said):
        text = converted.text if isinstance(converted, Assistant) else converted.content
        assert text.startswith("Look:\n[")
        assert "omitted: this model reads text only]" in text


@pytest.mark.parametrize("role", [HumanMessage, SystemMessage, AIMessage])
def test_bedrocks_blocks_are_read(role):
    assert _one(role([{"text": "Be brief."}, {"cachePoint": {"type": "default"}}])).text == "Be brief."


def test_rows_of_a_tool_that_look_like_blocks_are_shown_as_rows():
    rows = [{"type": "file", "name": "a.txt"}, {"type": "file", "name": "b.txt"}]
    assert json.loads(_one(ToolMessage(rows, tool_call_id="a")).content) == rows
    assert json.loads(_one(ToolMessage([{"type": "json", "json": {"a": 1}}], tool_call_id="a")).content) == {"a": 1}


def test_unknown_kinds_and_roles_are_refused():
    with pytest.raises(InvalidRequestError, match="'remove'"):
        to_runtime_messages([RemoveMessage(id="a")])
    with pytest.raises(InvalidRequestError, match="'narrator'"):
        to_runtime_messages([ChatMessage("Once", role="narrator")])


def test_parts_of_a_result_stay_apart():
    blocks = [{"type": "text", "text": "2"}, {"type": "text", "text": "3"}]
    said = [
        ToolMessage(["2", "3"], tool_call_id="a"),
        ToolMessage(blocks, tool_call_id="b"),
        HumanMessage([{"type": "tool_result", "tool_use_id": "c", "content": blocks}]),
    ]
    assert [result.content for result in to_runtime_messages(said)] == ["2\n3"] * 3


@pytest.mark.parametrize("kind", ["server_tool_use", "web_search_tool_result", "mcp_tool_use", "file_search_call"])
def test_what_a_vendors_servers_did_is_left_out(kind):
    said = AIMessage([{"type": kind, "id": "s"}, {"type": "text", "text": "It rains."}])
    (converted,) = to_runtime_messages([said])
    assert converted.text == "It rains."
