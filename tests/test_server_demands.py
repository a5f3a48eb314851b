"""What only a grammar makes certain, on engines that take none: kept by asking again, by cutting, or refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hermes_runtime.demands import UnmetDemandError
from hermes_runtime.engines.base import TokenDelta
from hermes_runtime.errors import EngineError, InvalidRequestError, ToolChoiceError
from hermes_runtime.messages import Assistant, ToolSpec, User
from hermes_runtime.parser import InvalidToolCallEvent, TextDelta, ToolCallEvent
from hermes_runtime.turn import Turn, TurnRequest
from tests.scripted_engine import ScriptedEngine

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [ToolSpec("get_weather", "Weather.", CITY), ToolSpec("get_time", "Time.", CITY)]
PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


def call(name, city="Brest"):
    return f"<tool_call>\n{{'arguments': {{'city': '{city}'}}, 'name': '{name}'}}\n</tool_call>"


@pytest.fixture
def bare(mistral_tokenizer):
    """Makes engines without a grammar."""
    return lambda *replies: ScriptedEngine(mistral_tokenizer, replies, grammar_language=None)


def ask(engine, **options):
    return Turn(engine, TurnRequest([User("Weather in Brest?")], **({"tools": TOOLS} | options)))


def test_no_constraint_is_sent_to_an_engine_that_takes_none(bare):
    engine = bare("It rains.")
    list(ask(engine))
    assert engine.requests[0].constraint is None


@pytest.mark.parametrize(
    ("options", "first", "second", "told"),
    [
        ({"tool_choice": "required"}, "It rains.", call("get_weather"), "Call a function now"),
        ({"tool_choice": "get_time"}, "It rains.", call("get_time"), "Call the function get_time now"),
        ({"tool_choice": "get_time"}, call("get_weather"), call("get_time"), "get_time and no other"),
        ({"tool_choice": "none"}, call("get_time"), "It rains.", "Call no function"),
        ({"choices": ["yes", "no"], "tools": ()}, "perhaps", "no", "exactly one of: yes, no"),
        ({"schema": PERSON, "tools": ()}, '{"age": "old"}', '{"age": 7}', "follows the schema"),
        ({"schema": PERSON}, "He is seven.", '{"age": 7}', "follows the schema"),
    ],
)
def test_an_answer_that_misses_a_demand_is_asked_for_again_visibly(bare, options, first, second, told):
    engine = bare(first, second)
    turn = ask(engine, max_repairs=1, **options)
    events = list(turn)
    assert turn.result.repairs == 1
    assert told in engine.prompts[1]
    assert told not in engine.prompts[0]
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    calls = [event.call.name for event in events if isinstance(event, ToolCallEvent)]
    assert said == ("" if calls else second)
    assert len(calls) == second.count("<tool_call>")


@pytest.mark.parametrize(
    ("options", "reply"),
    [
        ({"tool_choice": "required"}, "It rains."),
        ({"tool_choice": "get_time"}, call("get_weather")),
        ({"tool_choice": "none"}, call("get_time")),
        ({"choices": ["yes", "no"], "tools": ()}, "perhaps"),
    ],
)
def test_a_demand_that_is_never_met_fails_the_turn(bare, options, reply):
    turn = ask(bare(reply, reply), max_repairs=1, **options)
    with pytest.raises(UnmetDemandError, match="asked in vain"):
        list(turn)


def test_a_schema_that_is_never_met_is_left_to_whoever_reads_the_answer(bare):
    turn = ask(bare("{}", "{}"), max_repairs=1, schema=PERSON, tools=())
    list(turn)
    assert (turn.result.content, turn.result.repairs) == ("{}", 1)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"tool_choice": "required"}, ToolChoiceError),
        ({"tool_choice": "get_time"}, ToolChoiceError),
        ({"tool_choice": "none"}, ToolChoiceError),
        ({"choices": ["yes", "no"], "tools": ()}, InvalidRequestError),
        ({"regex": "a+", "tools": (), "max_repairs": 3}, InvalidRequestError),
    ],
)
def test_what_could_be_missed_unnoticed_is_refused(bare, options, error):
    engine = bare()
    with pytest.raises(error, match="no grammar"):
        ask(engine, **options)
    assert not engine.requests


@pytest.mark.parametrize(
    ("options", "cities"),
    [
        ({"parallel_tool_calls": False}, ["A"]),
        ({"parallel_tool_calls": False, "constrained": False}, ["A"]),
        ({"max_calls": 2}, ["A", "B"]),
        ({}, ["A", "B", "C"]),
    ],
)
def test_calls_past_the_bound_are_never_made(bare, mistral_tokenizer, options, cities):
    calls = [call("get_weather", city) for city in "ABC"]
    engine = bare("\n".join(calls))
    if len(cities) < len(calls):  # what follows is made only if nobody stops it
        allowed = "\n".join(calls[: len(cities)])
        engine.pause_after = len(mistral_tokenizer.encode(allowed, add_special_tokens=False)) + 2
    turn = ask(engine, **options)
    made = [event.call.arguments["city"] for event in turn if isinstance(event, ToolCallEvent)]
    assert made == cities == [made.arguments["city"] for made in turn.result.tool_calls]
    assert turn.result.finish_reason == "tool_calls"
    engine.runs[0].wait_ended()
    assert (engine.runs[0].finish_reason == "cancelled") is (len(cities) < 3)


class BreakingEngine(ScriptedEngine):
    """Fails after a number of tokens, as a server does whose connection breaks."""

    def submit(self, request):
        generation = super().submit(request)
        self.runs[-1].wait_stalled()
        self.runs[-1].channel.fail(EngineError("the connection broke"))
        return generation


@pytest.mark.parametrize("count", range(0, 30, 3))
def test_a_stream_that_breaks_inside_a_call_leaves_an_invalid_call_and_an_error(mistral_tokenizer, count):
    engine = BreakingEngine(mistral_tokenizer, [call("get_weather")], pause_after=count)
    events = []
    turn = iter(ask(engine))
    with pytest.raises(EngineError, match="broke"):
        events.extend(turn)
    assert not [event for event in events if isinstance(event, ToolCallEvent)]
    written = mistral_tokenizer.decode(mistral_tokenizer.encode(call("get_weather"), add_special_tokens=False)[:count])
    broken = [event for event in events if isinstance(event, InvalidToolCallEvent)]
    assert len(broken) == ("<tool_call>" in written)


class Idless(ScriptedEngine):
    """Tells no token ids, nor how many an answer that was cut had, as many servers do."""

    def submit(self, request):
        generation = super().submit(request)
        channel = self.runs[-1].channel
        put = channel.put
        channel.put = lambda delta: put(TokenDelta((), delta.text, finish_reason=delta.finish_reason))
        finish = channel.finish
        channel.finish = lambda usage: finish(replace(usage, completion_tokens=0))
        return generation


def test_deltas_without_ids_are_not_remembered_as_an_empty_turn(mistral_tokenizer):
    engine = Idless(mistral_tokenizer, ["Rain.", "Sun."])
    list(ask(engine))
    list(Turn(engine, TurnRequest([User("Weather in Brest?"), Assistant("Rain."), User("And now?")], tools=TOOLS)))
    assert "Rain." in engine.prompts[1]


def test_a_wrong_answer_is_shown_again_where_its_ids_are_not_told(mistral_tokenizer):
    engine = Idless(mistral_tokenizer, ["It rains.", call("get_weather")], grammar_language=None)
    list(ask(engine, max_repairs=1, tool_choice="required"))
    assert "It rains.<|im_end|>" in engine.prompts[1]


def test_what_was_written_before_a_cut_is_counted_where_its_ids_are_not_told(mistral_tokenizer):
    first, second = call("get_weather", "A"), call("get_weather", "B")
    written = len(mistral_tokenizer.encode(first, add_special_tokens=False))
    engine = Idless(mistral_tokenizer, [f"{first}\n{second}"], grammar_language=None, pause_after=written + 2)
    turn = ask(engine, max_calls=1)
    list(turn)
    assert written <= turn.result.usage.completion_tokens <= written + 2
