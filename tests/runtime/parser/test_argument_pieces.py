"""Arguments that are passed on while they arrive: they add up to the call, in whatever pieces the text came."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_runtime.parser import (
    Event,
    InvalidToolCallEvent,
    StreamParser,
    TextDelta,
    ToolCallDelta,
    ToolCallEvent,
)
from tests.support.strategies import NEAR_LITERALS, VALUES

ARGUMENTS = st.dictionaries(st.text(max_size=8), VALUES, max_size=4)
WRITERS = st.sampled_from([json.dumps, lambda value: json.dumps(value, ensure_ascii=False), repr])
CUTS = st.lists(st.integers(0, 400), max_size=12)


def read(text: str, cuts: list[int], only_name: str | None = None, finish_reason: str = "stop") -> list[Event]:
    """Feed the text in pieces and return all events."""
    parser = StreamParser(only_name=only_name)
    events: list[Event] = []
    for begin, end in pairwise([0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]):
        events += parser.feed(text[begin:end])
    return events + parser.close(finish_reason)


def written(events: list[Event]) -> dict[str, str]:
    """Return what the deltas of each call add up to."""
    texts: dict[str, str] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            texts[event.id] = texts.get(event.id, "") + event.arguments
    return texts


def block(name: str, arguments: Any, write: Any, *, name_first: bool) -> str:
    members = [f"{write('name')}: {write(name)}", f"{write('arguments')}: {write(arguments)}"]
    return "<tool_call>\n{" + ", ".join(members if name_first else members[::-1]) + "}\n</tool_call>"


@given(ARGUMENTS, WRITERS, st.booleans(), CUTS)
def test_the_pieces_add_up_to_the_arguments(arguments: Any, write: Any, name_first: bool, cuts: list[int]) -> None:
    events = read(block("f", arguments, write, name_first=name_first), cuts, only_name="f")
    (call,) = [event.call for event in events if isinstance(event, ToolCallEvent)]
    (text,) = written(events).values()
    assert written(events).keys() == {call.id}
    assert repr(json.loads(text)) == repr(call.arguments)


@given(st.text(max_size=20) | NEAR_LITERALS, st.sampled_from("\"'"), CUTS, st.sampled_from(["stop", "length"]))
def test_pieces_do_not_depend_on_how_the_text_was_cut(
    inside: str, quote: str, cuts: list[int], finish_reason: str
) -> None:
    text = f'<tool_call>{{"name": "f", "arguments": {{"a": [({quote}{inside}{quote}), {quote}{inside}'
    whole, pieces = read(text, [], finish_reason=finish_reason), read(text, cuts, finish_reason=finish_reason)
    assert list(written(whole).values()) == list(written(pieces).values())


@given(ARGUMENTS, st.integers(0, 200), CUTS)
def test_a_cut_call_ends_invalid_under_the_id_of_its_pieces(arguments: Any, keep: int, cuts: list[int]) -> None:
    text = block("f", arguments, json.dumps, name_first=True)
    events = read(text[: min(keep, len(text) - len("</tool_call>"))], cuts, finish_reason="length")
    assert not any(isinstance(event, ToolCallEvent) for event in events)
    for call_id in written(events):
        assert [e.call.id for e in events if isinstance(e, InvalidToolCallEvent)] == [call_id]


def test_arguments_leave_before_they_are_complete() -> None:
    parser = StreamParser()
    assert parser.feed('<tool_call>{"name": "f", "arguments": ')[:1] == []
    (first,) = parser.feed('{"body": "one')
    assert isinstance(first, ToolCallDelta)
    assert (first.name, first.arguments) == ("f", '{"body": "one')
    (second,) = parser.feed(" two")
    assert (second.id, second.arguments) == (first.id, " two")


def test_text_before_the_call_leaves_before_its_arguments() -> None:
    events = StreamParser().feed('I look. <tool_call>{"name": "f", "arguments": {"a": 1')
    assert [type(event) for event in events] == [TextDelta, ToolCallDelta]


def test_arguments_before_an_uncertain_name_wait() -> None:
    events = read(block("f", {"a": 1}, json.dumps, name_first=False), [])
    assert [type(event) for event in events] == [ToolCallEvent]


@pytest.mark.parametrize(
    "call",
    [
        '{"name": "f", "arguments": {"a": 1}, "arguments": {"a": 2}}',
        '{"name": "f", "arguments": {"a": 1}, "name": "g"}',
        '{"name": "f", "arguments": {"a": 1}, "arguments": "{}"}',
    ],
)
def test_a_call_that_says_something_else_after_all_is_invalid(call: str) -> None:
    events = read(f"<tool_call>{call}</tool_call>", [])
    assert [type(event) for event in events] == [ToolCallDelta, InvalidToolCallEvent]
    assert written(events).keys() == {event.call.id for event in events if isinstance(event, InvalidToolCallEvent)}


def test_only_the_first_call_of_a_block_is_passed_on_in_pieces() -> None:
    first, second = '{"name": "f", "arguments": {"a": 1}}', '{"name": "g", "arguments": {"b": 2}}'
    events = read(f"<tool_call>{first}\n{second}</tool_call>", [])
    assert [type(event) for event in events] == [ToolCallDelta, ToolCallEvent, ToolCallEvent]


@pytest.mark.parametrize("escape", [r"\ud83d\ude00", "\\u00e9", "\\x41", r"\\u0041", r"\U0001F600", r"\ud83d!"])
def test_no_piece_ends_inside_an_escape(escape: str) -> None:
    text = f'<tool_call>{{"name": "f", "arguments": {{"a": "<{escape}>"}}}}</tool_call>'
    one_by_one = read(text, list(range(len(text))))
    (call,) = [event.call for event in one_by_one if isinstance(event, ToolCallEvent)]
    (pieces,) = written(one_by_one).values()
    assert json.loads(pieces) == call.arguments
    for event in one_by_one:
        if isinstance(event, ToolCallDelta):
            event.arguments.encode()
