"""The laws of chunks, for any events: their sum is the message, and what must not run never does."""

from __future__ import annotations

import json
import re
from functools import reduce
from operator import add

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langchain_core.language_models._compat_bridge import chunks_to_events
from langchain_core.messages import AIMessageChunk, message_chunk_to_message
from langchain_core.output_parsers.openai_tools import parse_tool_calls
from langchain_core.utils.json import parse_partial_json

from hermes_runtime.engines.base import TokenLogprob, Usage
from hermes_runtime.messages import InvalidToolCall, ToolCall, new_call_id
from hermes_runtime.parser import (
    InvalidToolCallEvent,
    ReasoningDelta,
    StreamParser,
    TextDelta,
    ToolCallDelta,
    ToolCallEvent,
)
from hermes_runtime.problems import Keyword, Problem
from hermes_runtime.turn import TurnResult
from langchain_hermes._chunks import ChunkWriter
from langchain_hermes._messages import to_runtime_messages
from langchain_hermes._unfinished import as_written

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
CALL = st.builds(
    lambda name, arguments, problems: ToolCallEvent(ToolCall(new_call_id(), name, arguments, problems)),
    TEXT,
    st.dictionaries(TEXT, JSON, max_size=3),
    st.just(()) | st.just((Problem(Keyword("type"), "not a number", "$.x"),)),
)
CUT = Problem.cut_off("after 7 tokens by max_tokens; raise max_tokens")
RAW = TEXT | st.just("") | st.dictionaries(TEXT, JSON, max_size=2).map(json.dumps)
INVALID = st.builds(
    lambda name, raw: InvalidToolCallEvent(InvalidToolCall(new_call_id(), name, raw, CUT)),
    TEXT | st.none(),
    RAW,
)
ESCAPE_OR_CHARACTER = re.compile(r"\\u[dD][89abAB]..\\u....|\\u....|\\.|[^\\]", re.DOTALL)


@st.composite
def streamed_calls(draw):
    """A call whose arguments arrive in pieces, whole or cut off anywhere but in an escape, and then its end."""
    name, arguments = draw(TEXT), draw(st.dictionaries(TEXT, JSON, max_size=3))
    units = ESCAPE_OR_CHARACTER.findall(json.dumps(arguments, ensure_ascii=draw(st.booleans())))
    is_cut = draw(st.booleans())
    units = units[: draw(st.integers(1, len(units)))] if is_cut else units
    ends = sorted({*draw(st.lists(st.integers(1, len(units)), max_size=6)), len(units)})
    call_id = new_call_id()
    pieces = ["".join(units[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]
    if is_cut:
        raw = draw(RAW)
        last = InvalidToolCallEvent(InvalidToolCall(call_id, name, raw, CUT))
    else:
        last = ToolCallEvent(ToolCall(call_id, name, arguments))
    return [*(ToolCallDelta(call_id, name, piece) for piece in pieces), last]


PART = (st.builds(TextDelta, TEXT) | st.builds(ReasoningDelta, TEXT) | CALL | INVALID).map(lambda event: [event])
EVENTS = st.lists(PART | streamed_calls(), max_size=8).map(lambda parts: [event for part in parts for event in part])


def turn(events, **changes):
    """Return the events with the result that a turn would end in."""
    calls = tuple(event.call for event in events if isinstance(event, ToolCallEvent))
    result = {
        "content": "".join(event.text for event in events if isinstance(event, TextDelta)),
        "reasoning": "".join(event.text for event in events if isinstance(event, ReasoningDelta)),
        "tool_calls": calls,
        "invalid_tool_calls": tuple(event.call for event in events if isinstance(event, InvalidToolCallEvent)),
        "finish_reason": "tool_calls" if calls else "stop",
        "usage": Usage(12, 5, 8),
        "repairs": 0,
        "token_ids": (1, 2),
        "logprobs": None,
    }
    return [*events, TurnResult(**{**result, **changes})]


def chunks(events, *, as_blocks=False):
    writer = ChunkWriter("a-model", as_blocks=as_blocks)
    return [chunk for event in events for chunk in writer.chunks(event)]


def message(events, *, as_blocks=False):
    return ChunkWriter("a-model", as_blocks=as_blocks).result(events).generations[0].message


def without_errors(invalid_tool_calls):
    return [{**call, "error": None} for call in invalid_tool_calls]


@given(EVENTS, st.booleans())
def test_chunks_add_up_to_the_message(events, as_blocks):
    events = turn(events)
    whole = message(events, as_blocks=as_blocks)
    streamed = message_chunk_to_message(reduce(add, [chunk.message for chunk in chunks(events, as_blocks=as_blocks)]))
    assert streamed.content == whole.content
    assert streamed.content_blocks == whole.content_blocks
    assert streamed.tool_calls == whole.tool_calls
    assert without_errors(streamed.invalid_tool_calls) == without_errors(whole.invalid_tool_calls)
    assert streamed.response_metadata == whole.response_metadata
    assert streamed.usage_metadata == whole.usage_metadata
    assert streamed.additional_kwargs == whole.additional_kwargs


@given(EVENTS, st.booleans())
def test_the_message_says_what_the_turn_said(events, as_blocks):
    events = turn(events)
    result, whole = events[-1], message(events, as_blocks=as_blocks)
    assert whole.text == result.content
    assert [(call["id"], call["name"], call["args"]) for call in whole.tool_calls] == [
        (call.id, call.name, call.arguments) for call in result.tool_calls
    ]
    assert [
        (call["id"], call["name"], as_written(call["args"]), call["error"]) for call in whole.invalid_tool_calls
    ] == [(call.id, call.name, call.arguments, call.error) for call in result.invalid_tool_calls]
    reasoning = "".join(block["reasoning"] for block in whole.content_blocks if block["type"] == "reasoning")
    assert reasoning == result.reasoning


@given(EVENTS, st.booleans())
def test_once_a_call_is_known_to_be_invalid_no_sum_shows_it_as_a_call(events, as_blocks):
    events = turn(events)
    writer, so_far, invalid = ChunkWriter("a-model", as_blocks=as_blocks), AIMessageChunk(""), set()
    for event in events:
        for chunk in writer.chunks(event):
            so_far += chunk.message
        if isinstance(event, InvalidToolCallEvent):
            invalid.add(event.call.id)
        assert not invalid & {call["id"] for call in so_far.tool_calls}


@given(streamed_calls(), st.booleans())
def test_arguments_flow_piece_by_piece_on_one_index(events, as_blocks):
    *pieces, last = events
    shown = [chunk.message.tool_call_chunks for chunk in chunks(events, as_blocks=as_blocks)]
    assert [part["args"] for (part,) in shown[: len(pieces)]] == [piece.arguments for piece in pieces]
    assert len(shown) == len(pieces) + isinstance(last, InvalidToolCallEvent)
    assert {part["index"] for (part,) in shown} == {0}
    assert [(part["name"], part["id"]) for (part,) in shown] == [
        (last.call.name, last.call.id),
        *[(None, None)] * (len(shown) - 1),
    ]


@given(EVENTS, st.booleans())
def test_the_event_protocol_reads_the_same_calls(events, as_blocks):
    events = turn(events)
    finished = [
        event["content"]
        for event in chunks_to_events(iter(chunks(events, as_blocks=as_blocks)))
        if event["event"] == "content-block-finish"
    ]
    calls = [block for block in finished if block["type"] == "tool_call"]
    invalid = [block for block in finished if block["type"] == "invalid_tool_call"]
    assert [(call["id"], call["name"], call["args"]) for call in calls] == [
        (call.id, call.name, call.arguments) for call in events[-1].tool_calls
    ]
    assert [call["id"] for call in invalid] == [call.id for call in events[-1].invalid_tool_calls]
    assert [call["args"] for call in invalid] == [call["args"] for call in message(events).invalid_tool_calls]
    assert "".join(block["text"] for block in finished if block["type"] == "text") == events[-1].content


WRITTEN = {"path": '/home/us\\er\'s "é"', "deep": [{"a": [1.5, None]}, True], "more": "\U0001f600"}
COMPLETION = f"Wait.\n<tool_call>\n{{'arguments': {WRITTEN!r}, 'name': 'delete'}}\n</tool_call>\n" * 2
PLACE = st.integers(0, len(COMPLETION))
DELETE = {"name": "delete", "parameters": {"type": "object"}}


@settings(max_examples=40)
@given(
    st.integers(0, len(COMPLETION)),
    st.lists(st.integers(0, len(COMPLETION)), max_size=12),
    st.booleans(),
    st.booleans(),
)
def test_a_completion_cut_anywhere_is_the_same_however_it_arrives(end, cuts, is_certain, as_blocks):
    ends = sorted({*(cut for cut in cuts if cut < end), end})
    parser = StreamParser([DELETE], only_name="delete" if is_certain else None)
    events = [
        event for begin, stop in zip([0, *ends], ends, strict=False) for event in parser.feed(COMPLETION[begin:stop])
    ]
    events = turn(events + parser.close("length"), finish_reason="length")
    parts = chunks(events, as_blocks=as_blocks)
    whole = message(events, as_blocks=as_blocks)
    streamed = message_chunk_to_message(reduce(add, [chunk.message for chunk in parts]))
    assert streamed.content_blocks == whole.content_blocks
    assert streamed.tool_calls == whole.tool_calls
    assert without_errors(streamed.invalid_tool_calls) == without_errors(whole.invalid_tool_calls)
    finished = [event["content"] for event in chunks_to_events(iter(parts)) if event["event"] == "content-block-finish"]
    assert [block["args"] for block in finished if block["type"] == "tool_call"] == [
        call["args"] for call in whole.tool_calls
    ]
    assert [call["args"] for call in whole.tool_calls] == [WRITTEN] * COMPLETION[:end].count("</tool_call>")
    (answer,) = to_runtime_messages([whole])
    assert [call.arguments for call in answer.invalid_calls] == [
        call.arguments for call in events[-1].invalid_tool_calls
    ]


@given(RAW)
@example("")
@example("{}")
@example('{"path": "/home/us')
@example("{'arguments': {'path': '/home/us")
@example('["')
def test_no_json_reader_gets_past_an_unfinished_call(raw):
    events = turn([InvalidToolCallEvent(InvalidToolCall("a", "delete", raw, CUT))])
    (call,) = message(events).invalid_tool_calls
    assert parse_partial_json(call["args"]) is None
    with pytest.raises(json.JSONDecodeError):
        json.loads(call["args"])
    assert as_written(call["args"]) == raw


@given(EVENTS)
def test_indices_are_integers_that_only_one_block_has(events):
    kinds = {}
    for chunk in chunks(turn(events), as_blocks=True):
        for block in chunk.message.content:
            assert isinstance(block["index"], int)
            if block["type"] == "tool_call_chunk" and "id" not in block:
                assert block["index"] in kinds, "a later piece of a call comes after its first"
            else:
                kinds.setdefault(block["index"], set()).add((block["type"], block.get("id")))
    assert all(len(owners) == 1 for owners in kinds.values())


def test_text_after_a_call_keeps_its_place_among_the_blocks():
    call = ToolCallEvent(ToolCall("a", "f", {}))
    whole = message(turn([TextDelta("one"), call, TextDelta("two")]), as_blocks=True)
    assert [block["type"] for block in whole.content] == ["text", "tool_call", "text"]


def test_only_the_last_chunk_carries_what_must_not_be_joined_twice():
    *early, last = [chunk.message for chunk in chunks(turn([TextDelta("a"), TextDelta("b")]))]
    assert last.chunk_position == "last"
    assert last.response_metadata["model_name"] == "a-model"
    assert last.response_metadata["finish_reason"] == "stop"
    assert last.usage_metadata == {
        "input_tokens": 12,
        "output_tokens": 5,
        "total_tokens": 17,
        "input_token_details": {"cache_read": 8},
    }
    for chunk in early:
        assert chunk.response_metadata == {"model_provider": "hermes"}
        assert chunk.usage_metadata is None
        assert chunk.chunk_position is None


@given(st.text().map(Problem.read) | st.text().map(Problem.cut_off), st.none() | st.text(min_size=1))
def test_no_reader_takes_the_older_form_of_an_invalid_call_for_a_call(problem, name):
    events = turn([InvalidToolCallEvent(InvalidToolCall("a", name, '{"x": 1}', problem))])
    (older,) = message(events).additional_kwargs["tool_calls"]
    for read in (json.loads, parse_partial_json):
        with pytest.raises(ValueError, match=r"."):
            read(older["function"]["arguments"])
    assert parse_tool_calls([older], partial=True) == []
    assert problem.detail.replace('"', "'") in older["function"]["arguments"]


def test_an_empty_answer_is_one_chunk():
    assert len(chunks(turn([]))) == 1
    assert message(turn([])).content == ""
    assert message(turn([]), as_blocks=True).content == []


def test_problems_repairs_and_logprobs_stand_in_the_metadata():
    call = ToolCallEvent(ToolCall("a", "f", {}, (Problem(Keyword("required"), "is missing", "$.x"),)))
    token = TokenLogprob(7, "é", -0.5, (TokenLogprob(8, "e", -1.5),))
    metadata = message(turn([call], repairs=2, logprobs=(token,))).response_metadata
    assert metadata["tool_call_problems"] == {"a": ["required: $.x: is missing"]}
    assert metadata["repairs"] == 2
    assert metadata["logprobs"] == {
        "content": [
            {
                "token": "é",
                "bytes": [195, 169],
                "logprob": -0.5,
                "top_logprobs": [{"token": "e", "bytes": [101], "logprob": -1.5}],
            }
        ]
    }
