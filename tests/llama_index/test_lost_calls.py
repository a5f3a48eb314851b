"""Calls that were cut off or are malformed: whoever needs a call is told what became of it, and the log tells all."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.program import FunctionCallingProgram
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from llama_index_hermes import NoToolCallError, StructuredOutputError
from tests.llama_index.endpoints import CHAT

PROMPT = PromptTemplate("Tell me of {name}.")
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 19, "b": 23}}\n</tool_call>'
BROKEN = '<tool_call>\n{"name": "add", "arguments": {"a": }}\n</tool_call>'
PERSON = '<tool_call>\n{"name": "Person", "arguments": {"age": 34, "name": "Alexander"}}\n</tool_call>'
CUT_OFF = r"the call of '\w+' was cut off after 20 tokens by max_tokens; raise max_tokens"


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


ADD = FunctionTool.from_defaults(add)


def program(llm, **options):
    return FunctionCallingProgram.from_defaults(Person, prompt=PROMPT, llm=llm, **options)


async def drain(stream):
    return [each async for each in await stream]


PROGRAMS = {
    "call": lambda llm: [program(llm)(name="A")],
    "acall": lambda llm: [asyncio.run(program(llm).acall(name="A"))],
    "stream_call": lambda llm: list(program(llm).stream_call(name="A")),
    "astream_call": lambda llm: asyncio.run(drain(program(llm).astream_call(name="A"))),
}
STREAMED = ("stream_call", "astream_call")


@pytest.fixture
def warnings(caplog):
    """What the runtime warns of, as a list that fills."""
    caplog.set_level(logging.WARNING, "hermes_runtime")
    return lambda: [record.getMessage() for record in caplog.records if record.name.startswith("hermes_runtime")]


@pytest.mark.parametrize("endpoint", CHAT)
def test_every_endpoint_warns_once_of_a_cut_call(endpoint, scripted, warnings):
    llm, _ = scripted([CALL], max_tokens=20)
    CHAT[endpoint](llm, "19 + 23?", tools=[ADD])
    (warning,) = warnings()
    assert "the call of 'add' was cut off after 20 tokens by max_tokens; raise max_tokens" in warning


@pytest.mark.parametrize("streaming", [True, False])
def test_an_agent_that_ends_with_a_cut_call_leaves_a_warning(streaming, scripted, warnings):
    llm, _ = scripted([CALL], max_tokens=20)

    async def main():
        return await FunctionAgent(llm=llm, tools=[ADD], streaming=streaming).run("19 + 23?")

    output = asyncio.run(main())
    assert str(output) == ""
    assert output.tool_calls == []
    assert len(warnings()) == 1
    (invalid,) = output.response.additional_kwargs["invalid_tool_calls"]
    assert "cut off after 20 tokens" in invalid["error"]


def test_the_error_of_a_cut_call_is_our_own_and_a_value_error(scripted):
    llm, _ = scripted([CALL], max_tokens=20)
    response = llm.chat_with_tools([ADD], user_msg="19 + 23?")
    assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
    with pytest.raises(NoToolCallError, match=f"^Expected at least one tool call, but {CUT_OFF}") as caught:
        llm.get_tool_calls_from_response(response)
    assert isinstance(caught.value, ValueError)


def test_who_needs_a_call_is_told_what_was_malformed(scripted):
    llm, _ = scripted([BROKEN], constrained=False)
    response = llm.chat_with_tools([ADD], user_msg="19 + 23?")
    with pytest.raises(NoToolCallError, match="the call of 'add' cannot be read: malformed: "):
        llm.get_tool_calls_from_response(response)


def test_who_needs_a_call_is_told_that_there_is_none(scripted):
    llm, _ = scripted(["It is 42."])
    with pytest.raises(NoToolCallError, match=r"but the model made none\.$"):
        llm.get_tool_calls_from_response(llm.chat([ChatMessage("19 + 23?")]))


@pytest.mark.parametrize("predict", ["predict_and_call", "apredict_and_call"])
def test_predict_and_call_says_that_the_call_was_cut(predict, scripted):
    llm, _ = scripted([CALL], max_tokens=20)

    async def main():
        made = getattr(llm, predict)([ADD], user_msg="19 + 23?")
        return await made if asyncio.iscoroutine(made) else made

    with pytest.raises(NoToolCallError, match=CUT_OFF):
        asyncio.run(main())


@pytest.mark.parametrize("way", PROGRAMS)
def test_a_program_says_that_its_call_was_cut(way, scripted):
    llm, _ = scripted([PERSON], max_tokens=20)
    with pytest.raises(ValueError, match=CUT_OFF):
        PROGRAMS[way](llm)


@pytest.mark.parametrize("way", PROGRAMS)
def test_a_program_says_that_its_call_was_malformed(way, scripted):
    llm, _ = scripted([PERSON.replace("34", "")])
    with pytest.raises(ValueError, match="the call of 'Person' cannot be read: malformed"):
        PROGRAMS[way](llm)


@pytest.mark.parametrize("mode", ["function", "default"])
def test_structured_predict_says_that_the_answer_was_cut(mode, scripted):
    reply = PERSON if mode == "function" else '{"name": "Alexander the Great, of Macedon", "age": 34}'
    llm, _ = scripted([reply], max_tokens=20 if mode == "function" else 8, pydantic_program_mode=mode)
    with pytest.raises(StructuredOutputError, match="cut off after"):
        llm.structured_predict(Person, PROMPT, name="A")


@pytest.mark.parametrize("way", STREAMED)
def test_a_program_streams_the_object_as_it_grows(way, scripted):
    llm, _ = scripted([PERSON])
    *partials, last = PROGRAMS[way](llm)
    assert last == Person(name="Alexander", age=34)
    shown = [(partial.age, partial.name) for partial in partials]
    assert {age for age, _ in shown} == {None, 34}, "half a number is none"
    names = [name or "" for _, name in shown]
    assert set(names) == {"", "Alex", "Alexander"}
    assert all(later.startswith(earlier) for earlier, later in pairwise(names))


@pytest.mark.parametrize("way", STREAMED)
def test_a_program_streams_several_objects(way, scripted):
    llm, _ = scripted([PERSON + PERSON.replace("Alexander", "Bo").replace("34", "5")])
    made = program(llm, allow_parallel_tool_calls=True)
    last = list(made.stream_call(name="A"))[-1] if way == "stream_call" else asyncio.run(drain(made.astream_call()))[-1]
    assert last == [Person(name="Alexander", age=34), Person(name="Bo", age=5)]


def test_a_streamed_program_that_is_left_stops_the_model(scripted):
    llm, engine = scripted([PERSON], engine={"pause_after": 25})
    objects = program(llm).stream_call(name="A")
    next(objects)
    objects.close()
    engine.runs[0].wait_ended()
    assert engine.runs[0].finish_reason == "cancelled"


def test_a_tool_of_another_kind_is_never_given_half_a_call(scripted):
    llm, _ = scripted([CALL])
    given = [
        llm.get_tool_calls_from_response(response, error_on_no_tool_call=False)
        for response in llm.stream_chat_with_tools([ADD], user_msg="19 + 23?")
    ]
    assert {str([call.tool_kwargs for call in calls]) for calls in given} == {"[]", "[{'a': 19, 'b': 23}]"}
