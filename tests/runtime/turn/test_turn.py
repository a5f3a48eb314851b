"""One turn: prompt, constraint, engine and parser joined, in a thread and in an event loop."""

from __future__ import annotations

import asyncio

import pytest

from hermes_runtime.errors import (
    ContextWindowExceededError,
    InvalidRequestError,
    SchemaError,
    ToolChoiceError,
)
from hermes_runtime.messages import Assistant, ToolResult, ToolSpec, User
from hermes_runtime.options.generation import SamplingParams
from hermes_runtime.parser import InvalidToolCallEvent, ReasoningDelta, TextDelta, ToolCallEvent
from hermes_runtime.turn import Turn, TurnRequest, render
from tests.support.requests import turn_request
from tests.support.scripted_engine import ScriptedEngine

WEATHER = ToolSpec(
    "get_weather",
    "Weather of a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
CALL = "<tool_call>\n{'arguments': {'city': 'Brest'}, 'name': 'get_weather'}\n</tool_call>"
WRONG = "<tool_call>\n{'arguments': {'town': 'Brest'}, 'name': 'get_weather'}\n</tool_call>"
BROKEN = "<tool_call>\n{'arguments': {'city': }, 'name': 'get_weather'}\n</tool_call>"


def ask(engine, question="Weather in Brest?", **options):
    return Turn(engine, turn_request([User(question)], **({"tools": [WEATHER]} | options)))


def finish(turn):
    return list(turn), turn.result


def text(events):
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_plain_answer_streams_and_ends_with_stop(mistral_tokenizer):
    events, result = finish(ask(ScriptedEngine(mistral_tokenizer, ["It is sunny."])))
    assert len(events) > 1
    assert text(events) == result.content == "It is sunny."
    assert (result.finish_reason, result.tool_calls, result.repairs) == ("stop", (), 0)
    assert result.usage.completion_tokens == len(result.token_ids)


def test_call_becomes_an_event_and_a_finish_reason(mistral_tokenizer):
    events, result = finish(ask(ScriptedEngine(mistral_tokenizer, ["Let me look.\n" + CALL])))
    assert [event.call.arguments for event in events if isinstance(event, ToolCallEvent)] == [{"city": "Brest"}]
    assert result.finish_reason == "tool_calls"
    assert result.content == text(events) == "Let me look."


def test_call_cut_by_max_tokens_is_invalid(mistral_tokenizer):
    events, result = finish(ask(ScriptedEngine(mistral_tokenizer, [CALL]), max_tokens=15))
    (problem,) = [event.call.problem for event in events if isinstance(event, InvalidToolCallEvent)]
    assert (problem.reason, problem.is_cut_off) == ("truncated", True)
    assert (result.finish_reason, result.tool_calls) == ("length", ())


async def test_async_gives_the_same_events_and_result(mistral_tokenizer):
    reply = "Let me look.\n" + CALL
    sync = ask(ScriptedEngine(mistral_tokenizer, [reply]))
    turn = ask(ScriptedEngine(mistral_tokenizer, [reply]))
    events = [event async for event in turn]
    sync_events, sync_result = finish(sync)
    assert text(events) == text(sync_events)
    assert turn.result.token_ids == sync_result.token_ids
    assert turn.result.usage == sync_result.usage


def test_every_option_reaches_the_engine(mistral_tokenizer):
    engine = ScriptedEngine(mistral_tokenizer, ["Yes"])
    options = {"sampling": SamplingParams(temperature=0.3), "max_tokens": 7, "stop": ("END",), "seed": 3}
    finish(ask(engine, timeout=9.0, logprobs=2, **options))
    (request,) = engine.requests
    asked = request.options
    assert (asked.sampling, asked.max_tokens, asked.stop, asked.seed) == tuple(options.values())
    assert (asked.timeout, asked.logprobs) == (9.0, 2)
    assert request.constraint is not None


TALK = f"  Use the <tool_call> tag:\n\n{CALL}\nClose it with </tool_call>.\n"


@pytest.mark.parametrize(
    "options",
    [{"tools": ()}, {"tools": (), "constrained": False}, {"tool_choice": "none"}],
    ids=["no tools", "no constraint", "none of the tools"],
)
def test_without_tools_an_answer_is_text_to_the_last_character(mistral_tokenizer, options):
    events, result = finish(ask(ScriptedEngine(mistral_tokenizer, [TALK]), **options))
    assert text(events) == result.content == TALK
    assert (result.finish_reason, result.tool_calls, result.invalid_tool_calls) == ("stop", (), ())


def test_a_call_that_no_tool_could_answer_any_more_is_text(mistral_tokenizer):
    engine = ScriptedEngine(mistral_tokenizer, [CALL, CALL])
    _, first = finish(ask(engine))
    history = [User("Brest?"), Assistant("", first.tool_calls), ToolResult(first.tool_calls[0].id, "rain")]
    _, result = finish(Turn(engine, TurnRequest(history)))
    assert (result.content, result.tool_calls, result.finish_reason) == (CALL, (), "stop")


def test_without_tools_a_model_still_thinks_before_it_answers(mistral_tokenizer):
    events, result = finish(ask(ScriptedEngine(mistral_tokenizer, ["<think>\nHm.\n</think>\n\nYes"]), tools=()))
    assert (result.reasoning, result.content) == ("Hm.\n", "Yes")
    assert len([event for event in events if isinstance(event, ReasoningDelta)]) > 1


def test_an_answer_with_white_space_around_it_is_replayed(mistral_tokenizer):
    engine = ScriptedEngine(mistral_tokenizer, ["  two\n"])
    _, result = finish(ask(engine, tools=()))
    after = [User("Weather in Brest?"), Assistant(result.content), User("Thanks")]
    asked = engine.requests[0].prompt_ids
    again = render(engine, TurnRequest(after)).token_ids
    assert again[: len(asked) + len(result.token_ids)] == (*asked, *result.token_ids)


def test_tags_inside_an_answer_of_a_given_form_are_text(mistral_tokenizer):
    answer = '{"note": "write <tool_call>{}</tool_call>, or <think>"}'
    _, result = finish(ask(ScriptedEngine(mistral_tokenizer, [answer]), tools=(), schema={"type": "object"}))
    assert (result.content, result.tool_calls, result.invalid_tool_calls) == (answer, (), ())


def test_unconstrained_turn_sends_no_grammar(mistral_tokenizer):
    engine = ScriptedEngine(mistral_tokenizer, ["Yes"])
    finish(ask(engine, constrained=False))
    assert engine.requests[0].constraint is None


def test_next_prompt_extends_the_last_token_for_token(mistral_tokenizer):
    engine = ScriptedEngine(mistral_tokenizer, [CALL, "Sunny in Brest."])
    _, first = finish(ask(engine))
    history = [
        User("Weather in Brest?"),
        Assistant(first.content, first.tool_calls),
        ToolResult(first.tool_calls[0].id, "sunny"),
    ]
    _, second = finish(Turn(engine, TurnRequest(history, tools=[WEATHER])))
    asked, answered = (request.prompt_ids for request in engine.requests)
    assert answered[: len(asked) + len(first.token_ids)] == (*asked, *first.token_ids)
    third = render(
        engine, TurnRequest([*history, Assistant(second.content), User("Thanks")], tools=[WEATHER])
    ).token_ids
    assert third[: len(answered) + len(second.token_ids)] == (*answered, *second.token_ids)


def test_repair_shows_the_model_its_error_and_counts(mistral_tokenizer):
    engine = ScriptedEngine(mistral_tokenizer, [BROKEN, WRONG, CALL])
    events, result = finish(ask(engine, max_repairs=2, constrained=False))
    assert [event.call.arguments for event in events] == [{"city": "Brest"}]
    assert result.repairs == 2
    assert result.usage.completion_tokens > len(result.token_ids)
    assert "There was an error parsing function calls" in engine.prompts[1]
    assert "error validating function call against function signature: get_weather" in engine.prompts[2]
    assert "required: $: 'city' is a required property" in engine.prompts[2]
    assert engine.prompts[1].startswith(engine.prompts[0])


def test_repairs_stop_at_the_limit_with_the_problem_in_sight(mistral_tokenizer):
    events, result = finish(ask(ScriptedEngine(mistral_tokenizer, [WRONG, WRONG]), max_repairs=1, constrained=False))
    assert result.repairs == 1
    assert [problem.reason for problem in result.tool_calls[0].problems] == ["required"]
    assert len(events) == 1


def test_a_truncated_call_is_not_repaired(mistral_tokenizer):
    engine = ScriptedEngine(mistral_tokenizer, [CALL, CALL])
    _, result = finish(ask(engine, max_repairs=1, max_tokens=15))
    assert (len(engine.requests), result.repairs, result.finish_reason) == (1, 0, "length")


def test_closing_the_stream_stops_the_engine(mistral_tokenizer):
    engine = ScriptedEngine(mistral_tokenizer, ["one two three four"], pause_after=2)
    reader = iter(ask(engine))
    next(reader)
    reader.close()
    engine.runs[0].wait_ended()
    assert engine.runs[0].finish_reason == "cancelled"


async def test_cancelling_the_task_stops_the_engine(mistral_tokenizer):
    engine = ScriptedEngine(mistral_tokenizer, ["one two three four"], pause_after=2)
    turn = ask(engine)
    begun = asyncio.Event()

    async def read():
        async for _ in turn:
            begun.set()

    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(engine.runs[0].wait_ended)
    assert engine.runs[0].finish_reason == "cancelled"


def test_cancel_ends_the_turn_with_what_it_has(mistral_tokenizer):
    engine = ScriptedEngine(mistral_tokenizer, ["one two three four"], pause_after=2)
    turn = ask(engine)
    events = []
    for event in turn:
        events.append(event)
        turn.cancel()
    assert turn.result.finish_reason == "cancelled"
    assert turn.result.content == text(events)


def test_a_cancelled_turn_is_not_replayed(mistral_tokenizer):
    engine = ScriptedEngine(mistral_tokenizer, ["one two three four", "x"], pause_after=2)
    turn = ask(engine)
    for _ in turn:
        turn.cancel()
    history = [User("Weather in Brest?"), Assistant(turn.result.content), User("go on")]
    plain = ScriptedEngine(mistral_tokenizer, [])
    assert render(engine, TurnRequest(history)) == render(plain, TurnRequest(history))


def test_result_before_the_end_is_an_error(mistral_tokenizer):
    with pytest.raises(RuntimeError, match="iterated"):
        _ = ask(ScriptedEngine(mistral_tokenizer, ["x"])).result


def test_prompt_past_the_window_is_refused_before_the_engine_is_asked(mistral_tokenizer):
    engine = ScriptedEngine(mistral_tokenizer, ["x"], context_window=64)
    with pytest.raises(ContextWindowExceededError, match="64") as caught:
        ask(engine)
    assert caught.value.prompt_tokens > 64
    assert not engine.requests


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"tools": [{"name": "f", "parameters": {"type": "objekt"}}]}, SchemaError, "'f'"),
        ({"schema": {"type": "strange"}}, SchemaError, "response schema"),
        ({"schema": ["a"]}, SchemaError, "list"),
        ({"max_repairs": -1}, InvalidRequestError, "max_repairs"),
        ({"tool_choice": "nope"}, ToolChoiceError, "nope"),
        ({"tool_choice": ["get_weather", "nope"]}, ToolChoiceError, "nope"),
        ({"tool_choice": []}, ToolChoiceError, "form"),
        ({"max_calls": 0}, InvalidRequestError, "max_calls"),
        ({"max_calls": 0, "constrained": False}, InvalidRequestError, "max_calls"),
        ({"regex": "y", "constrained": False}, InvalidRequestError, "constrained is False"),
        ({"choices": ["yes"], "regex": "y"}, InvalidRequestError, "choices"),
        ({"regex": "("}, SchemaError, "regular expression"),
        ({"dialect": "nope"}, InvalidRequestError, "nope"),
    ],
)
def test_bad_options_are_refused_before_any_computation(mistral_tokenizer, options, error, says):
    engine = ScriptedEngine(mistral_tokenizer, ["x", "fine"])
    with pytest.raises(error, match=says):
        ask(engine, **options)
    assert not engine.requests
    assert finish(ask(engine))[1].content == "x"
