"""LlamaIndex messages -> Hermes messages."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    CacheControl,
    CachePoint,
    ChatMessage,
    CitableBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.messages import Assistant, InvalidToolCall, System, ToolCall, ToolResult, User
from llama_index_hermes._messages import assistant_message, calls_of, to_hermes

CALL = ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs={"a": 1})


def one(message):
    (converted,) = to_hermes([message])
    return converted


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("system", System("x")),
        ("developer", System("x")),
        ("user", User("x")),
        ("assistant", Assistant("x")),
        ("chatbot", Assistant("x")),
        ("model", Assistant("x")),
        ("tool", ToolResult("", "x")),
        ("function", ToolResult("", "x")),
    ],
)
def test_every_role_has_its_place(role, expected):
    assert one(ChatMessage("x", role=role)) == expected


def test_no_role_is_forgotten():
    assert all(to_hermes([ChatMessage("x", role=role)]) for role in MessageRole)


def test_text_blocks_join_as_content_does():
    message = ChatMessage(blocks=[TextBlock(text="a"), TextBlock(text="b")])
    assert one(message) == User(message.content) == User("a\nb")


def test_call_only_message_has_calls_and_no_text():
    assert one(ChatMessage(role="assistant", blocks=[CALL])) == Assistant("", (ToolCall("c1", "add", {"a": 1}),))


def test_thinking_is_not_shown_again():
    blocks = [ThinkingBlock(content="hm"), TextBlock(text="yes"), CALL]
    assert one(ChatMessage(role="assistant", blocks=blocks)).text == "yes"


def test_tool_result_keeps_its_id_and_name():
    message = ChatMessage("3", role="tool", additional_kwargs={"tool_call_id": "c1", "name": "add"})
    assert one(message) == ToolResult("c1", "3", "add")


def test_empty_tool_result_is_empty_text():
    message = ChatMessage(role="tool", blocks=[], additional_kwargs={"tool_call_id": "c1"})
    assert one(message) == ToolResult("c1", "")


def test_tool_result_of_several_blocks_joins_them():
    message = ChatMessage(role="tool", blocks=[TextBlock(text="a"), TextBlock(text="b")])
    assert one(message).content == "a\nb"


def test_cache_points_and_citable_text_are_read():
    cited = CitableBlock(title="t", source="s", content=[TextBlock(text="b")])
    point = CachePoint(cache_control=CacheControl(type="ephemeral"))
    assert one(ChatMessage(blocks=[TextBlock(text="a"), point, cited])) == User("a\nb")


@pytest.mark.parametrize(
    "block",
    [
        ImageBlock(url="http://host/cat.png"),
        AudioBlock(url="http://host/cat.wav"),
        DocumentBlock(data=b"%PDF", document_mimetype="application/pdf"),
        CitableBlock(title="t", source="s", content=[ImageBlock(url="http://host/cat.png")]),
    ],
)
@pytest.mark.parametrize("role", ["user", "tool", "assistant"])
def test_what_is_not_text_is_refused(role, block):
    with pytest.raises(InvalidRequestError, match=rf"a {role} message holds a \w+Block.*text only"):
        to_hermes([ChatMessage(role=role, blocks=[TextBlock(text="look"), block])])


@pytest.mark.parametrize("messages", ["Hello", None, ["Hello"], [{"role": "user", "content": "Hello"}]])
def test_what_is_no_message_is_refused(messages):
    with pytest.raises(InvalidRequestError, match="ChatMessage"):
        to_hermes(messages)


def test_arguments_as_json_text_are_read():
    block = ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs='{"a": 1}')
    assert one(ChatMessage(role="assistant", blocks=[block])).calls == (ToolCall("c1", "add", {"a": 1}),)


@pytest.mark.parametrize("text", ['{"a": ', "[1]", "null", "NaN!"])
def test_arguments_that_are_no_object_make_an_invalid_call_never_an_empty_one(text):
    block = ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs=text)
    converted = one(ChatMessage(role="assistant", blocks=[block]))
    assert converted.calls == ()
    assert [(call.id, call.arguments) for call in converted.invalid_calls] == [("c1", text)]


def test_calls_without_an_id_get_one_each():
    blocks = [ToolCallBlock(tool_name="add", tool_kwargs={}), ToolCallBlock(tool_name="add", tool_kwargs={})]
    first, second = one(ChatMessage(role="assistant", blocks=blocks)).calls
    assert first.id
    assert first.id != second.id


@pytest.mark.parametrize(
    "raw",
    [
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
        {"tool_id": "c1", "tool_name": "add", "tool_kwargs": {"a": 1}},
        SimpleNamespace(id="c1", function=SimpleNamespace(name="add", arguments='{"a": 1}')),
    ],
)
def test_calls_of_older_messages_are_read(raw):
    message = ChatMessage(role="assistant", additional_kwargs={"tool_calls": [raw]})
    assert one(message).calls == (ToolCall("c1", "add", {"a": 1}),)


def test_blocks_win_over_older_calls():
    raw = {"id": "c1", "function": {"name": "add", "arguments": "{}"}}
    message = ChatMessage(role="assistant", blocks=[CALL], additional_kwargs={"tool_calls": [raw]})
    assert one(message).calls == (ToolCall("c1", "add", {"a": 1}),)


def test_nameless_call_is_refused():
    message = ChatMessage(role="assistant", additional_kwargs={"tool_calls": [{"id": "c1"}]})
    with pytest.raises(InvalidRequestError, match="no name"):
        to_hermes([message])


def test_invalid_calls_survive_the_way_through_a_message():
    invalid = InvalidToolCall("c9", None, '{"name": ', "truncated: cut off")
    message = assistant_message("", "", (), (invalid,))
    restored = ChatMessage.model_validate_json(message.model_dump_json())
    assert calls_of(restored) == ((), (invalid,))


def test_conversion_changes_nothing():
    history = [ChatMessage("hi"), ChatMessage(role="assistant", blocks=[CALL])]
    before = [message.model_copy(deep=True) for message in history]
    converted = to_hermes(history)
    converted[1].calls[0].arguments["a"] = 2
    assert history == before
