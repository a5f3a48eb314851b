"""LlamaIndex messages -> Hermes messages."""

from __future__ import annotations

import json
from io import BytesIO
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
    VideoBlock,
)

from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.messages import Assistant, InvalidToolCall, System, ToolCall, ToolResult, User
from hermes_runtime.problems import Problem
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
    assert one(ChatMessage(blocks=[TextBlock(text="a"), point, TextBlock(text="c"), cited])) == User("a\nc\nt\ns\nb")


def test_a_document_in_text_is_read():
    block = DocumentBlock(data=b"Bonjour", document_mimetype="text/plain", title="t.txt")
    assert one(ChatMessage(blocks=[block])) == User("t.txt\nBonjour")


MEDIA = [
    (ImageBlock(url="http://host/cat.png"), "image", ' {"url": "http://host/cat.png"}'),
    (ImageBlock(image=b"\x89PNG", image_mimetype="image/png"), "image", ""),
    (ImageBlock(image=BytesIO(b"\x89PNG"), image_mimetype="image/png"), "image", ""),
    (AudioBlock(audio=b"RIFF", format="wav"), "audio", ""),
    (VideoBlock(url="http://host/cat.mp4"), "video", ' {"url": "http://host/cat.mp4"}'),
    (DocumentBlock(data=b"%PDF", document_mimetype="application/pdf", title="a"), "document", ' {"title": "a"}'),
]


@pytest.mark.parametrize(("block", "kind", "described"), MEDIA)
@pytest.mark.parametrize("role", ["user", "system"])
def test_media_of_a_user_are_refused_and_counted_as_a_note(role, block, kind, described):
    for shown in (block, CitableBlock(title="t", source="s", content=[block])) if kind == "image" else (block,):
        message = ChatMessage(role=role, blocks=[TextBlock(text="look"), shown])
        with pytest.raises(InvalidRequestError, match=rf"a {role} message holds content of type '{kind}'.*text only"):
            to_hermes([message])
        (counted,) = to_hermes([message], omit_media=True)
        assert counted.text.endswith(f"[{kind} omitted: this model reads text only]{described}")


@pytest.mark.parametrize(("block", "kind", "described"), MEDIA)
def test_media_of_tools_and_earlier_answers_become_a_note(block, kind, described):
    blocks = [TextBlock(text="look"), block]
    note = f"look\n[{kind} omitted: this model reads text only]{described}"
    assert one(ChatMessage(role="tool", blocks=blocks)).content == note
    assert one(ChatMessage(role="assistant", blocks=blocks)).text == note


def test_a_call_of_a_user_is_shown_and_a_thought_is_not():
    message = ChatMessage(blocks=[ThinkingBlock(content="hm"), TextBlock(text="a"), CALL])
    assert one(message) == User('a\n{"type": "tool_call", "name": "add", "args": {"a": 1}}')


def test_what_an_older_answer_kept_beside_the_content_is_shown():
    def said(**kept):
        return one(ChatMessage(role="assistant", content=None, additional_kwargs=kept))

    (call,) = said(function_call={"name": "add", "arguments": '{"a": 1}'}).calls
    assert (call.name, call.arguments) == ("add", {"a": 1})
    assert said(refusal="No.") == Assistant("No.")


def test_any_iterable_of_messages_is_a_conversation():
    messages = [ChatMessage("a"), ChatMessage("b")]
    assert to_hermes(message for message in messages) == to_hermes(tuple(messages)) == (User("a"), User("b"))


@pytest.mark.parametrize("messages", ["Hello", None, 3, {"a": 1}, ["Hello"], [{"role": "user", "content": "Hello"}]])
def test_what_is_no_message_is_refused(messages):
    with pytest.raises(InvalidRequestError, match="ChatMessage"):
        to_hermes(messages)


def test_arguments_as_json_text_are_read():
    block = ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs='{"a": 1}')
    assert one(ChatMessage(role="assistant", blocks=[block])).calls == (ToolCall("c1", "add", {"a": 1}),)


@pytest.mark.parametrize("text", ['{"a": ', "[1]", "3", "NaN!"])
def test_arguments_that_are_no_object_make_an_invalid_call_never_an_empty_one(text):
    block = ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs=text)
    converted = one(ChatMessage(role="assistant", blocks=[block]))
    assert converted.calls == ()
    (invalid,) = converted.invalid_calls
    assert (invalid.id, invalid.name, json.loads(invalid.arguments)["arguments"]) == ("c1", "add", text)


@pytest.mark.parametrize("text", ["null", "", "{}"])
def test_no_arguments_are_an_empty_object(text):
    block = ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs=text)
    assert one(ChatMessage(role="assistant", blocks=[block])).calls == (ToolCall("c1", "add", {}),)


def test_arguments_that_were_encoded_twice_are_unwrapped():
    block = ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs=json.dumps('{"a": 1}'))
    assert one(ChatMessage(role="assistant", blocks=[block])).calls == (ToolCall("c1", "add", {"a": 1}),)


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


def test_a_nameless_call_is_an_invalid_one():
    message = ChatMessage(role="assistant", additional_kwargs={"tool_calls": [{"id": "c1"}]})
    (invalid,) = one(message).invalid_calls
    assert (invalid.id, invalid.name) == ("c1", None)


def test_invalid_calls_survive_the_way_through_a_message():
    invalid = InvalidToolCall("c9", None, '{"name": ', Problem("truncated", "cut off"))
    message = assistant_message("", "", (), (invalid,))
    restored = ChatMessage.model_validate_json(message.model_dump_json())
    assert calls_of(restored) == ((), (invalid,))


def test_conversion_changes_nothing():
    history = [ChatMessage("hi"), ChatMessage(role="assistant", blocks=[CALL])]
    before = [message.model_copy(deep=True) for message in history]
    converted = to_hermes(history)
    converted[1].calls[0].arguments["a"] = 2
    assert history == before
