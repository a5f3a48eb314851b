"""Events of a turn -> cumulative responses."""

from __future__ import annotations

import asyncio
import json
import pickle
from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, TextBlock, ThinkingBlock, ToolCallBlock

from hermes_runtime.engines.base import TokenLogprob, Usage
from hermes_runtime.messages import InvalidToolCall, ToolCall
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
from llama_index_hermes._messages import calls_of, tool_selections, with_first_call
from llama_index_hermes._responses import (
    achat_response,
    achat_responses,
    chat_response,
    chat_responses,
    completion_response,
)
from tests.llama_index_contract.harness import arguments_grow


class WrittenTurn:
    """A turn whose events are written down."""

    def __init__(self, events, *, logprobs=None):
        self.events = events
        self.logprobs = logprobs

    def __iter__(self):
        yield from self.events

    async def __aiter__(self):
        for event in self.events:
            yield event

    def cancel(self):
        raise AssertionError("nothing here cancels")

    @property
    def result(self):
        def of(kind):
            return [event for event in self.events if isinstance(event, kind)]

        return TurnResult(
            content="".join(event.text for event in of(TextDelta)),
            reasoning="".join(event.text for event in of(ReasoningDelta)),
            tool_calls=tuple(event.call for event in of(ToolCallEvent)),
            invalid_tool_calls=tuple(event.call for event in of(InvalidToolCallEvent)),
            finish_reason="stop",
            usage=Usage(7, 5, 3),
            repairs=1,
            token_ids=(),
            logprobs=self.logprobs,
        )


CALL = ToolCall("c1", "add", {"a": [1]}, (Problem(Keyword("type"), "not an integer", "$.a"),))
CUT = InvalidToolCall("c2", "add", '{"a": ', Problem("truncated", "the token limit was reached"))
EVENTS = st.lists(
    st.builds(TextDelta, st.text(min_size=1))
    | st.builds(ReasoningDelta, st.text(min_size=1))
    | st.builds(ToolCallEvent, st.builds(ToolCall, st.uuids().map(str), st.just("add"), st.just({"a": [1]})))
    | st.just(InvalidToolCallEvent(CUT)),
    max_size=8,
)


async def drain(stream):
    return [response async for response in stream]


def plain(response):
    return response.model_dump(exclude={"delta"})


@settings(deadline=None)
@given(EVENTS)
def test_every_way_to_read_a_turn_gives_the_same(events):
    turn = WrittenTurn(events)
    streamed = list(chat_responses(turn, "m"))
    assert [response.model_dump() for response in asyncio.run(drain(achat_responses(turn, "m")))] == [
        response.model_dump() for response in streamed
    ]
    assert plain(chat_response(turn, "m")) == plain(asyncio.run(achat_response(turn, "m"))) == plain(streamed[-1])


@settings(deadline=None)
@given(EVENTS)
def test_stream_is_cumulative_and_its_deltas_sum_to_the_content(events):
    text = ""
    for response in chat_responses(WrittenTurn(events), "m"):
        text += response.delta
        assert (response.message.content or "") == text
    thoughts = [
        response.additional_kwargs.get("thinking_delta", "") for response in chat_responses(WrittenTurn(events), "m")
    ]
    assert "".join(thoughts) == "".join(event.text for event in events if isinstance(event, ReasoningDelta))


def test_empty_turn_still_has_a_response():
    (response,) = chat_responses(WrittenTurn([]), "m")
    assert response.message.content == ""
    assert response.raw["finish_reason"] == "stop"


def test_call_only_turn_has_no_text():
    response = chat_response(WrittenTurn([ToolCallEvent(CALL)]), "m")
    assert response.message.content is None
    assert response.message.blocks == [ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs={"a": [1]})]


def test_blocks_stand_in_the_order_thinking_text_calls():
    events = [ReasoningDelta("hm"), TextDelta("I add."), ToolCallEvent(CALL)]
    kinds = [type(block) for block in chat_response(WrittenTurn(events), "m").message.blocks]
    assert kinds == [ThinkingBlock, TextBlock, ToolCallBlock]


def test_changing_one_response_changes_no_other():
    events = [ToolCallEvent(CALL), TextDelta("x"), TextDelta("y")]
    seen = []
    for response in chat_responses(WrittenTurn(events), "m"):
        seen.append(response.model_dump())
        for block in response.message.blocks:
            if isinstance(block, ToolCallBlock):
                block.tool_kwargs["a"].append("changed")
            else:
                block.text = "changed"
        response.additional_kwargs["changed"] = True
    assert "changed" not in str(seen)
    assert CALL.arguments == {"a": [1]}


def test_usage_stands_where_counters_look_and_only_at_the_end():
    *earlier, last = chat_responses(WrittenTurn([TextDelta("x")]), "m")
    assert all(response.raw is None and not response.additional_kwargs for response in earlier)
    assert last.raw["usage"] == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12, "cached_tokens": 3}
    assert last.additional_kwargs == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    assert (last.raw["model"], last.raw["repairs"]) == ("m", 1)


def test_problems_of_a_call_are_named_by_its_id():
    assert chat_response(WrittenTurn([ToolCallEvent(CALL)]), "m").raw["tool_call_problems"] == {
        "c1": ["type: $.a: not an integer"]
    }


def test_cut_call_is_told_of_and_is_no_tool_call():
    response = chat_response(WrittenTurn([InvalidToolCallEvent(CUT)]), "m")
    assert not [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
    restored = ChatMessage.model_validate_json(response.message.model_dump_json())
    assert calls_of(restored) == ((), (CUT,))


def test_logprobs_hold_the_chosen_token_and_then_its_alternatives():
    chosen = TokenLogprob(5, "a", -0.1)
    token = TokenLogprob(5, "a", -0.1, (chosen, TokenLogprob(6, "é", -3.0)))
    ((first, second),) = chat_response(WrittenTurn([TextDelta("a")], logprobs=(token,)), "m").logprobs
    assert (first.token, first.logprob, first.bytes) == ("a", -0.1, [97])
    assert (second.token, second.logprob, second.bytes) == ("é", -3.0, [195, 169])


# Calls that are being written

ARGUMENTS = st.dictionaries(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=4))


def written(arguments, *, cut, step):
    """The turn of a model that writes a call name first, in pieces, and may be cut at any place."""
    text = f'<tool_call>{{"name": "add", "arguments": {json.dumps(arguments)}}}</tool_call>'
    parser = StreamParser([{"name": "add"}])
    events = [event for at in range(0, len(text[:cut]), step) for event in parser.feed(text[:cut][at : at + step])]
    return WrittenTurn(events + parser.close("stop" if cut >= len(text) else "length"))


def blocks(response):
    return [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]


@settings(deadline=None)
@given(ARGUMENTS, st.integers(1, 400), st.integers(1, 9))
def test_arguments_grow_and_only_a_whole_call_can_run(arguments, cut, step):
    turn = written(arguments, cut=cut, step=step)
    *earlier, last = chat_responses(turn, "m")
    whole = [(call.id, call.arguments) for call in turn.result.tool_calls]
    shown = ""
    for response in earlier:
        runnable = [(call.tool_id, call.tool_kwargs) for call in tool_selections(response.message)]
        assert runnable == whole[: len(runnable)]
        for block in blocks(response):
            if isinstance(block.tool_kwargs, dict):
                assert block.tool_kwargs == arguments
                continue
            assert block.tool_kwargs.startswith(shown)
            assert arguments_grow(block.tool_kwargs, arguments)
            with pytest.raises(ValueError, match=r"."):
                json.loads(block.tool_kwargs)
            shown = block.tool_kwargs
    assert [(block.tool_call_id, block.tool_kwargs) for block in blocks(last)] == whole
    assert [call.tool_kwargs for call in tool_selections(last.message)] == [call for _, call in whole]


def test_arguments_show_while_they_are_written():
    responses = list(chat_responses(written({"a": 19, "b": "x"}, cut=1000, step=3), "m"))
    shown = [block.tool_kwargs for response in responses for block in blocks(response)]
    assert len([arguments for arguments in shown if isinstance(arguments, str)]) > 3
    assert shown[-1] == {"a": 19, "b": "x"}
    assert len({block.tool_call_id for response in responses for block in blocks(response)}) == 1
    assert all(response.delta == "" for response in responses)


def test_call_that_was_cut_shows_until_it_is_known_to_be():
    responses = list(chat_responses(written({"a": 19, "b": "x"}, cut=50, step=3), "m"))
    assert blocks(responses[-3])
    assert blocks(responses[-1]) == []
    (invalid,) = responses[-1].message.additional_kwargs["invalid_tool_calls"]
    assert invalid["id"] == blocks(responses[-3])[0].tool_call_id


@settings(deadline=None)
@given(ARGUMENTS, st.integers(1, 400), st.integers(1, 9))
def test_the_older_form_of_calls_keeps_in_step_with_the_blocks(arguments, cut, step):
    shown = ""
    for response in chat_responses(written(arguments, cut=cut, step=step), "m"):
        older = response.message.additional_kwargs.get("tool_calls", [])
        assert [(call.id, call.function.name) for call in older] == [
            (block.tool_call_id, block.tool_name) for block in blocks(response)
        ]
        for call, block in zip(older, blocks(response), strict=True):
            assert call["function"]["arguments"].startswith(shown)
            shown = call.function.arguments
            if isinstance(block.tool_kwargs, dict):
                assert json.loads(shown) == block.tool_kwargs
            else:
                assert shown == block.tool_kwargs
    assert ("tool_calls" in response.message.additional_kwargs) == bool(blocks(response))


def test_the_older_form_of_calls_is_plain_data_that_survives_every_way_of_keeping_it():
    message = chat_response(WrittenTurn([ToolCallEvent(CALL), InvalidToolCallEvent(CUT)]), "m").message
    plain_call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": [1]}'}}
    assert message.additional_kwargs["tool_calls"] == [plain_call]
    restored = ChatMessage.model_validate_json(message.model_dump_json())
    assert restored == message
    assert json.loads(json.dumps(message.additional_kwargs))["tool_calls"] == [plain_call]
    for kept in (deepcopy(message), pickle.loads(pickle.dumps(message)), message.model_copy(deep=True)):
        assert kept == message
        assert kept.additional_kwargs["tool_calls"][0].function.arguments == '{"a": [1]}'


def test_a_call_in_both_forms_is_one_call_of_a_history():
    message = chat_response(WrittenTurn([ToolCallEvent(CALL)]), "m").message
    calls, invalid = calls_of(message)
    assert [(call.id, call.arguments) for call in calls] == [("c1", {"a": [1]})]
    assert invalid == ()


def test_the_first_of_several_calls_is_kept_in_both_forms():
    other = ToolCall("c9", "add", {"a": [1]})
    response = chat_response(WrittenTurn([TextDelta("x"), ToolCallEvent(CALL), ToolCallEvent(other)]), "m")
    first = with_first_call(response.message)
    assert [block.tool_call_id for block in first.blocks if isinstance(block, ToolCallBlock)] == ["c1"]
    assert [call.id for call in first.additional_kwargs["tool_calls"]] == ["c1"]
    assert first.content == "x"
    assert len(blocks(response)) == len(response.message.additional_kwargs["tool_calls"]) == 2


def test_call_without_arguments_yet_cannot_run():
    (response, *_) = chat_responses(WrittenTurn([ToolCallDelta("c1", "add", "")]), "m")
    assert blocks(response)[0].tool_kwargs == "{"
    assert tool_selections(response.message) == []


def test_message_of_a_stream_that_was_left_is_an_invalid_call_in_a_history():
    (response, *_) = chat_responses(WrittenTurn([ToolCallDelta("c1", "add", '{"a": 1}')]), "m")
    calls, (invalid,) = calls_of(response.message)
    assert calls == ()
    assert (invalid.id, invalid.name, invalid.problem.reason) == ("c1", "add", "truncated")


@pytest.mark.parametrize("delta", [None, "x"])
def test_completion_says_what_the_chat_response_says(delta):
    (chat, *_) = chat_responses(WrittenTurn([TextDelta("x")]), "m")
    chat = chat.model_copy(update={"delta": delta})
    completion = completion_response(chat)
    assert (completion.text, completion.delta) == ("x", delta)
