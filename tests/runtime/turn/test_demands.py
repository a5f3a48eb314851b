"""What only a grammar makes certain, where there is none: kept by asking again, by cutting, or by failing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_runtime.engines.base import TokenDelta
from hermes_runtime.errors import EngineError, InvalidRequestError, UnmetDemandError
from hermes_runtime.messages import Assistant, ToolSpec, User
from hermes_runtime.parser import InvalidToolCallEvent, TextDelta, ToolCallEvent
from hermes_runtime.turn import Turn, TurnRequest
from hermes_runtime.turn.demands import Demands
from tests.support.requests import turn_request
from tests.support.scripted_engine import ScriptedEngine

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [ToolSpec("get_weather", "Weather.", CITY), ToolSpec("get_time", "Time.", CITY)]
PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


def call(name, city="Brest"):
    return f"<tool_call>\n{{'arguments': {{'city': '{city}'}}, 'name': '{name}'}}\n</tool_call>"


@pytest.fixture(params=[None, "lark"], ids=["the engine takes none", "constrained=False"])
def bare(request, mistral_tokenizer):
    """Makes engines that are sent no grammar, be it that they take none or that `ask` wants none."""
    return lambda *replies: ScriptedEngine(mistral_tokenizer, replies, grammar_language=request.param)


def ask(engine, **options):
    defaults = {"tools": TOOLS, "constrained": engine.grammar_language is None}
    return Turn(engine, turn_request([User("Weather in Brest?")], **(defaults | options)))


def read(turn):
    """Return the events of a turn that fails, and why it did."""
    events = []
    with pytest.raises(UnmetDemandError) as caught:
        events.extend(turn)
    return events, str(caught.value)


def test_no_constraint_is_sent_where_there_is_none(bare):
    engine = bare("It rains.")
    list(ask(engine))
    assert engine.requests[0].constraint is None


@pytest.mark.parametrize(
    ("options", "reply"),
    [
        ({"tool_choice": "required"}, call("get_weather")),
        ({"tool_choice": "get_time"}, call("get_time")),
        ({"tool_choice": "none"}, "It rains."),
        ({"choices": ["yes", "no"], "tools": ()}, "no"),
        ({"choices": ["yes", "no"]}, call("get_weather")),
    ],
)
def test_an_answer_that_does_what_was_demanded_is_taken_without_any_repair(bare, options, reply):
    turn = ask(bare(reply), **options)
    said = "".join(event.text for event in turn if isinstance(event, TextDelta))
    assert said == turn.result.content == ("" if "<tool_call>" in reply else reply)
    assert len(turn.result.tool_calls) == reply.count("<tool_call>")


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


MISSED = [
    ({"tool_choice": "required"}, "It rains."),
    ({"tool_choice": "required"}, "<tool_call>\n{'arguments': {'city': }, 'name': 'get_time'}\n</tool_call>"),
    ({"tool_choice": "get_time"}, call("get_weather")),
    ({"tool_choice": "get_time", "dialect": "name_first"}, '<tool_call>\n{"name": "get_weather", "arguments": {}}'),
    ({"tool_choice": "none"}, call("get_time")),
    ({"tool_choice": "none", "dialect": "name_first"}, '<tool_call>\n{"name": "get_weather", "arguments": {}}'),
    ({"choices": ["yes", "no"], "tools": ()}, "perhaps"),
    ({"choices": ["yes", "no"], "tools": ()}, "yesterday"),
    ({"choices": ["yes", "no"]}, "no. Why?"),
]


@pytest.mark.parametrize("max_repairs", [0, 1])
@pytest.mark.parametrize(("options", "reply"), MISSED)
def test_a_demand_that_is_never_met_fails_the_turn_and_shows_nothing(bare, options, reply, max_repairs):
    engine = bare(*[reply] * (max_repairs + 1))
    events, why = read(ask(engine, max_repairs=max_repairs, **options))
    assert events == []
    assert len(engine.requests) == max_repairs + 1
    assert reply[:10] in why
    assert f"max_repairs, which is {max_repairs}" in why


@pytest.mark.parametrize(("options", "reply"), MISSED)
async def test_a_demand_that_is_never_met_fails_the_turn_in_an_event_loop(bare, options, reply):
    turn, events = ask(bare(reply), **options), []
    with pytest.raises(UnmetDemandError):
        events += [event async for event in turn]
    assert events == []


def test_words_of_an_answer_that_must_not_call_are_streamed_and_its_call_is_not_shown(bare):
    events, _ = read(ask(bare("It rains. " + call("get_time")), tool_choice="none"))
    assert {type(event) for event in events} == {TextDelta}
    assert "".join(event.text for event in events).strip() == "It rains."


def test_a_call_beside_the_demanded_one_that_was_not_is_not_shown(bare):
    events, why = read(ask(bare(call("get_time") + "\n" + call("get_weather")), tool_choice="get_time"))
    assert [event.call.name for event in events if isinstance(event, ToolCallEvent)] == ["get_time"]
    assert "get_time and no other" in why


def test_whoever_checks_the_answer_himself_gets_it_after_all_repairs(bare):
    engine = bare("It rains.", "It still rains.")
    turn = ask(engine, tool_choice="required", allow_unmet=True, max_repairs=1)
    assert "".join(event.text for event in turn) == turn.result.content == "It still rains."
    assert turn.result.repairs == 1


def test_an_answer_that_was_cut_off_is_told_by_its_finish_reason(bare):
    for demand in ({"tool_choice": "required"}, {"choices": ["It rains, and it will go on raining.", "no"]}):
        turn = ask(bare("It rains, and it will go on raining."), max_tokens=3, **demand)
        said = "".join(event.text for event in turn)
        assert turn.result.finish_reason == "length"
        assert "It rains, and".startswith(said.strip())
        assert said == turn.result.content


@pytest.mark.parametrize("written", ["no", " no", "no\n", "\n no\n\n"])
@pytest.mark.parametrize("tools", [(), TOOLS])
def test_a_choice_is_told_without_the_blanks_around_it(bare, written, tools):
    turn = ask(bare(written), choices=["yes", "no"], tools=tools)
    assert "".join(event.text for event in turn) == turn.result.content == "no"


def test_a_choice_that_has_blanks_keeps_them(bare):
    turn = ask(bare(" no"), choices=["no", " no"], tools=())
    assert "".join(event.text for event in turn) == turn.result.content == " no"


_TEXTS = st.text("ab \n", max_size=4)


@given(text=_TEXTS, choices=st.lists(_TEXTS.filter(bool), min_size=1, max_size=3))
def test_what_is_taken_for_a_choice_is_one(text, choices):
    chosen = Demands(choices=tuple(choices)).chosen(text)
    assert (chosen is None) is (text not in choices and text.strip() not in choices)
    assert chosen is None or (chosen in choices and chosen.strip() == text.strip())


def test_a_schema_that_is_never_met_is_left_to_whoever_reads_the_answer(bare):
    turn = ask(bare("{}", "{}"), max_repairs=1, schema=PERSON, tools=())
    list(turn)
    assert (turn.result.content, turn.result.repairs) == ("{}", 1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"regex": "a+", "tools": (), "max_repairs": 3}, "only a grammar"),
        ({"choices": "yes"}, "choices must be"),
        ({"choices": []}, "choices must be"),
        ({"choices": ["yes", ""]}, "choices must be"),
        ({"choices": ["yes"], "schema": PERSON}, "one form"),
        ({"max_calls": 0}, "max_calls"),
    ],
)
def test_what_cannot_be_checked_is_refused(bare, options, says):
    engine = bare()
    with pytest.raises(InvalidRequestError, match=says):
        ask(engine, **options)
    assert not engine.requests


def test_a_call_that_was_not_asked_for_is_answered_with_what_is_missing_alone(bare):
    engine = bare(call("get_time"), "It rains.")
    list(ask(engine, tool_choice="none", max_repairs=1))
    assert "Call no function now" in engine.prompts[1]
    assert "call this function again" not in engine.prompts[1]


@pytest.mark.parametrize(
    ("options", "cities"),
    [
        ({"parallel_tool_calls": False}, ["A"]),
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
