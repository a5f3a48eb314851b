"""A turn whose only call cannot run says so: in the call's error, and once in the log."""

from __future__ import annotations

import asyncio
import logging

import pytest

from hermes_runtime.errors import EngineError
from hermes_runtime.messages import InvalidToolCall, User
from hermes_runtime.problems import Problem
from hermes_runtime.turn import Turn, TurnRequest
from hermes_runtime.turn.lost_calls import cut_off, length_limit, lost_calls
from tests.support.requests import turn_request
from tests.support.scripted_engine import ScriptedEngine

WEATHER = {
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALL = "<tool_call>\n{'arguments': {'city': 'Brest'}, 'name': 'get_weather'}\n</tool_call>"
NAME_FIRST = "<tool_call>\n{'name': 'get_weather', 'arguments': {'city': 'Brest'}}\n</tool_call>"
BROKEN = "<tool_call>\n{'arguments': {'city': }, 'name': 'get_weather'}\n</tool_call>"


@pytest.fixture
def finish(mistral_tokenizer, caplog):
    """Run a turn over replies to its end; return its result and what was logged."""

    def run(*replies, asynchronous=False, engine=None, **options):
        made = ScriptedEngine(mistral_tokenizer, replies, **(engine or {}))
        turn = Turn(made, turn_request([User("Weather?")], tools=[WEATHER], **options))

        async def drain():
            async for _ in turn:
                pass

        with caplog.at_level(logging.WARNING):
            asyncio.run(drain()) if asynchronous else list(turn)
        return turn.result, [record.getMessage() for record in caplog.records]

    return run


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("text", ["", "Let me look.\n"])
def test_a_turn_with_nothing_but_a_cut_call_warns_once(finish, text, asynchronous):
    result, (warning,) = finish(text + NAME_FIRST, max_tokens=22, asynchronous=asynchronous)
    (call,) = result.invalid_tool_calls
    assert call.error == "truncated: cut off after 22 tokens by max_tokens; raise max_tokens"
    assert warning == (
        "the answer has no call that can run: the call of 'get_weather' was cut off after 22 tokens by max_tokens; "
        "raise max_tokens"
    )


def test_a_call_cut_by_the_window_does_not_ask_for_more_tokens(finish):
    probe, _ = finish("Yes.")
    prompt = probe.usage.prompt_tokens
    result, (warning,) = finish(NAME_FIRST, max_tokens=50, engine={"context_window": prompt + 20})
    assert f"cut off after 20 tokens by the context window of {prompt + 20}, {prompt} of which" in warning
    assert "raise max_tokens" not in warning
    assert warning.endswith(result.invalid_tool_calls[0].problem.detail)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"constrained": False}, "constrained=True makes malformed calls impossible; max_repairs=1 shows"),
        ({"constrained": True}, "max_repairs=1 shows"),
        ({"constrained": False, "max_repairs": 1}, "max_repairs=2 shows"),
    ],
)
def test_a_malformed_call_warns_of_what_is_wrong_and_what_helps(finish, options, remedy):
    result, (warning,) = finish(BROKEN, BROKEN, **options)
    assert f"the call of 'get_weather' cannot be read: {result.invalid_tool_calls[0].error}" in warning
    assert remedy in warning
    assert ("constrained=True" in warning) is not options["constrained"]


def test_a_call_that_ends_with_the_answer_is_not_called_cut_off(finish):
    _, (warning,) = finish("<tool_call>\n{'name': 'get_weather', 'arguments': {'city'", constrained=False)
    assert "the call of 'get_weather' is not complete" in warning
    assert "max_tokens" not in warning
    assert "max_repairs=1" in warning


@pytest.mark.parametrize(
    ("replies", "options"),
    [
        (["It is sunny."], {}),
        (["It is sunny and warm."], {"max_tokens": 3}),
        ([CALL], {}),
        ([BROKEN, CALL], {"max_repairs": 1, "constrained": False}),
    ],
)
def test_what_is_no_lost_answer_does_not_warn(finish, replies, options):
    result, warnings = finish(*replies, **options)
    assert result.content or result.tool_calls
    assert warnings == []


def test_a_cut_call_beside_one_that_runs_does_not_warn(finish):
    result, warnings = finish(CALL + NAME_FIRST, max_tokens=55)
    assert (len(result.tool_calls), len(result.invalid_tool_calls)) == (1, 1)
    assert warnings == []


def test_a_turn_that_was_cancelled_does_not_warn(mistral_tokenizer, caplog):
    engine = ScriptedEngine(mistral_tokenizer, [NAME_FIRST], pause_after=22)
    turn = Turn(engine, TurnRequest([User("Weather?")], tools=[WEATHER], dialect="name_first"))
    events = iter(turn)
    next(events)
    turn.cancel()
    list(events)
    (call,) = turn.result.invalid_tool_calls
    assert (call.problem.reason, call.problem.is_cut_off) == ("truncated", False)
    assert "max_tokens" not in call.error
    assert not caplog.records


def test_a_turn_that_fails_raises_and_does_not_warn(mistral_tokenizer, caplog):
    engine = ScriptedEngine(mistral_tokenizer, [NAME_FIRST], pause_after=22)
    turn = Turn(engine, TurnRequest([User("Weather?")], tools=[WEATHER]))
    events = iter(turn)
    next(events)
    engine.runs[0].channel.fail(EngineError("the device was lost"))
    with pytest.raises(EngineError):
        list(events)
    assert not caplog.records


def test_the_lower_limit_is_the_one_that_is_told():
    assert length_limit(100, 10, 110) == "by max_tokens; raise max_tokens"
    assert length_limit(100, 11, 110).startswith("by the context window of 110, 100 of which the prompt takes")
    assert length_limit(100, None, 110).startswith("by the context window of 110")


def test_only_a_truncated_call_is_cut_off():
    malformed = InvalidToolCall("a", None, "{]", Problem("malformed", "unexpected bracket"))
    assert cut_off(malformed, 5, "by max_tokens") is malformed
    truncated = InvalidToolCall("b", None, "{", Problem("truncated", "the text ends inside the call"))
    assert cut_off(truncated, 0, "by max_tokens").error == "truncated: cut off by max_tokens"
    assert lost_calls([malformed, cut_off(truncated, 7, "by max_tokens")]) == (
        "a call cannot be read: malformed: unexpected bracket; a call was cut off after 7 tokens by max_tokens"
    )
