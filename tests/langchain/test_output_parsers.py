"""The parsers behind any model: what a stream adds up to is what the whole message says, and a cut call never runs."""

from __future__ import annotations

import asyncio
import json
import pickle
from functools import reduce
from operator import add
from typing import TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models.fake import FakeStreamingListLLM
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, Generation
from pydantic import BaseModel, ConfigDict
from pydantic.v1 import BaseModel as BaseModelV1

from hermes_runtime import parse_completion
from langchain_hermes import (
    HermesInvalidRequestError,
    HermesJsonOutputParser,
    HermesSchemaError,
    HermesToolsOutputParser,
)
from tests.support.weather import get_weather

IVORY_COAST = "Côte d'Ivoire"
CALL = "<tool_call>\n{'name': 'get_weather', 'arguments': {'city': %r}}\n</tool_call>"
TEXT = f"Let me see.\n{CALL % 'Oslo'}\n{CALL % IVORY_COAST}"
PARSER = HermesToolsOutputParser(tools=[get_weather])


def pieces(text, cuts):
    ends = sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    return [text[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def summed(chunks):
    return message_chunk_to_message(reduce(add, chunks))


def said(message):
    return (
        message.text,
        [(call["name"], call["args"]) for call in message.tool_calls],
        [(call["name"], call["args"]) for call in message.invalid_tool_calls],
        [call["function"] for call in message.additional_kwargs.get("tool_calls", ())],
        {key: value for key, value in message.additional_kwargs.items() if key != "tool_calls"},
        message.usage_metadata,
    )


# Tool calls


def test_every_case_of_the_catalogue_reads_as_the_runtime_reads_it(parser_cases):
    for case in parser_cases:
        tools = case.get("tools") or []
        message = HermesToolsOutputParser(tools=tools).invoke(case["output"])
        expected = parse_completion(case["output"], tools)
        assert message.text == expected.content, case["id"]
        assert [(call["name"], call["args"]) for call in message.tool_calls] == [
            (call.name, call.arguments) for call in expected.tool_calls
        ], case["id"]
        assert [call["error"] for call in message.invalid_tool_calls] == [
            call.error for call in expected.invalid_tool_calls
        ], case["id"]
        assert message.additional_kwargs.get("reasoning_content", "") == expected.reasoning, case["id"]


@settings(max_examples=25)
@given(st.integers(0, 87), st.lists(st.integers(0, 300), max_size=8), st.booleans())
def test_any_chunking_adds_up_to_the_whole(parser_cases, number, cuts, as_blocks):
    case = parser_cases[number]
    parser = HermesToolsOutputParser(tools=case.get("tools") or [], output_version="v1" if as_blocks else "v0")
    streamed = summed(parser.transform(iter(pieces(case["output"], cuts))))
    whole = parser.invoke(case["output"])
    assert said(streamed) == said(whole)
    kinds = [block["type"] for block in whole.content_blocks]
    assert [block["type"] for block in streamed.content_blocks] == kinds


@settings(max_examples=25)
@given(st.integers(0, len(TEXT)), st.lists(st.integers(0, 300), max_size=6))
def test_a_message_cut_anywhere_makes_no_call_that_was_not_written_out(end, cuts):
    cut = {"finish_reason": "length"}
    chunks = [AIMessageChunk(content=piece) for piece in pieces(TEXT[:end], cuts)]
    streamed = summed(PARSER.transform(iter([*chunks, AIMessageChunk(content="", response_metadata=cut)])))
    whole = PARSER.invoke(AIMessage(TEXT[:end], response_metadata=cut))
    assert said(streamed) == said(whole)
    assert len(whole.tool_calls) == TEXT[:end].count("</tool_call>")


def test_a_message_keeps_all_it_had_beside_its_text():
    message = AIMessage(
        TEXT,
        id="run-1",
        usage_metadata={"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
        response_metadata={"model_name": "m", "model_provider": "other", "finish_reason": "stop"},
        additional_kwargs={"reasoning_content": "Hm.", "x": 1},
        tool_calls=[{"name": "native", "args": {"a": 1}, "id": "n"}],
        invalid_tool_calls=[{"name": "broken", "args": '{"a": 1', "id": "b", "error": "cut"}],
    )
    read = PARSER.invoke(message)
    assert type(read) is AIMessage
    assert (read.id, read.usage_metadata) == (message.id, message.usage_metadata)
    assert read.response_metadata == {**message.response_metadata, "tool_call_problems": {"b": ["cut"]}}
    assert read.additional_kwargs == message.additional_kwargs
    assert [call["name"] for call in read.tool_calls] == ["get_weather", "get_weather", "native"]
    assert [(call["id"], call["error"]) for call in read.invalid_tool_calls] == [("b", "cut")]
    assert read.text == "Let me see."


def test_native_calls_of_a_stream_keep_their_pieces_and_a_cut_one_is_unfinished():
    def chunk(index, args, name=None, call_id=None):
        return AIMessageChunk("", tool_call_chunks=[{"name": name, "args": args, "id": call_id, "index": index}])

    stream = [
        chunk(0, "", "f", "a"),
        chunk(0, '{"x": '),
        chunk(0, "1}"),
        chunk(None, '{"y": 2}', "g", "b"),
        chunk(None, "{}", "h", "c"),
        chunk(1, '{"path": "/home/us', "delete", "d"),
    ]
    read = summed(PARSER.transform(iter(stream)))
    assert [(call["name"], call["args"], call["id"]) for call in read.tool_calls] == [
        ("f", {"x": 1}, "a"),
        ("g", {"y": 2}, "b"),
        ("h", {}, "c"),
    ]
    assert [call["name"] for call in read.invalid_tool_calls] == ["delete"]


def test_blocks_keep_their_kinds_and_order():
    content = [
        {"type": "reasoning", "reasoning": "Hm."},
        {"type": "text", "text": f"One.\n{CALL % 'Oslo'}"},
        {"type": "citation", "source": "a"},
    ]
    read = HermesToolsOutputParser(tools=[get_weather], output_version="v1").invoke(AIMessage(content))
    assert [block["type"] for block in read.content_blocks] == ["reasoning", "text", "tool_call", "citation"]


@pytest.mark.parametrize(
    "metadata",
    [
        {"finish_reason": "length"},
        {"finish_reason": "MAX_TOKENS"},
        {"stop_reason": "max_tokens"},
        {"done_reason": "length"},
        {"incomplete_details": {"reason": "max_output_tokens"}},
    ],
)
def test_every_vendors_word_for_too_long_makes_an_unclosed_call_a_cut_one(metadata):
    unclosed = TEXT.removesuffix("</tool_call>")
    assert len(PARSER.invoke(AIMessage(unclosed, response_metadata={"finish_reason": "stop"})).tool_calls) == 2
    assert len(PARSER.invoke(AIMessage(unclosed, response_metadata=metadata)).tool_calls) == 1


def test_a_plain_models_own_reason_counts_too():
    unclosed = TEXT.removesuffix("</tool_call>")
    message = PARSER.parse_result([Generation(text=unclosed, generation_info={"finish_reason": "length"})])
    assert len(message.tool_calls) == 1


@pytest.mark.parametrize("model", [FakeStreamingListLLM(responses=[TEXT] * 4), None], ids=["text", "chat"])
def test_any_model_on_any_path(model):
    chain = (model or GenericFakeChatModel(messages=iter([AIMessage(TEXT)] * 4))) | PARSER

    async def astream():
        return summed([chunk async for chunk in chain.astream("Hi")])

    messages = [
        chain.invoke("Hi"),
        asyncio.run(chain.ainvoke("Hi")),
        summed(chain.stream("Hi")),
        asyncio.run(astream()),
    ]
    for message in messages:
        assert [call["args"]["city"] for call in message.tool_calls] == ["Oslo", IVORY_COAST]
        assert message.text == "Let me see."
    ids = [call["id"] for message in messages for call in message.tool_calls]
    assert len(set(ids)) == len(ids)


def test_text_and_arguments_flow_while_the_text_arrives():
    stream = PARSER.transform(
        iter(["Let ", "me see.\n", "<tool_call>{'name': 'get_weather', 'arguments': {'city': 'Os"])
    )
    shown = [(chunk.text, [part["args"] for part in chunk.tool_call_chunks]) for chunk in stream]
    assert shown[0] == ("Let ", [])
    assert ("", ['{"city": "Os']) in shown


def test_the_parser_pickles_and_names_what_it_cannot_take():
    twin = pickle.loads(pickle.dumps(PARSER))
    assert twin.tools == PARSER.tools
    with pytest.raises(HermesInvalidRequestError, match="web_search"):
        HermesToolsOutputParser(tools=[{"type": "web_search"}])
    with pytest.raises(HermesInvalidRequestError, match="tolls"):
        HermesToolsOutputParser(tolls=[])


# Objects


class Person(BaseModel):
    model_config = ConfigDict(strict=True)

    name: str
    age: int


class PersonV1(BaseModelV1):
    name: str
    age: int


class PersonDict(TypedDict):
    """A person."""

    name: str
    age: int


VALUE = {"name": "Anna", "age": 31}
SCHEMA = Person.model_json_schema()
ANSWERS = [
    json.dumps(VALUE),
    repr(VALUE),
    f"```json\n{json.dumps(VALUE, indent=2)}\n```",
    f"<think>{{}}</think>\n{json.dumps(VALUE)}<|im_end|>",
    f"Here it is: {json.dumps(VALUE)} I hope it helps.",
    f"{{}} is empty, so: {json.dumps(VALUE)}",
]


@pytest.mark.parametrize("schema", [Person, PersonV1, PersonDict, SCHEMA, {"name": "P", "parameters": SCHEMA}, None])
@pytest.mark.parametrize("answer", ANSWERS)
def test_the_object_in_an_answer_whole_and_streamed(schema, answer):
    parser = HermesJsonOutputParser(schema=schema)
    whole = parser.invoke(answer)
    *_, last = parser.transform(iter(answer))
    for found in (whole, last, parser.parse_result([ChatGeneration(message=AIMessage(answer))])):
        if isinstance(schema, type) and schema is not PersonDict:
            assert isinstance(found, schema)
            assert (found.name, found.age) == ("Anna", 31)
        else:
            assert found == VALUE


@pytest.mark.parametrize("answer", ANSWERS[:4])
def test_the_object_grows_on_a_stream(answer):
    parts = list(HermesJsonOutputParser(schema=SCHEMA).transform(iter(answer)))
    assert parts == [{}, {"name": ""}, {"name": "A"}, {"name": "An"}, {"name": "Ann"}, {"name": "Anna"}, VALUE]
    assert list(HermesJsonOutputParser(schema=Person).transform(iter(answer))) == [Person(**VALUE)]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ('{"name": "Anna", "age": 3', "truncated"),
        ("I do not know.", "malformed"),
        ('{"name": "Anna"}', "age"),
        ('{"name": "Anna", "age": "old"}', "age"),
    ],
)
@pytest.mark.parametrize("schema", [Person, PersonV1, SCHEMA])
def test_what_is_no_such_object_raises_whole_and_streamed(schema, answer, reason):
    parser = HermesJsonOutputParser(schema=schema)
    for read in (parser.invoke, lambda text: list(parser.transform(iter(text)))):
        with pytest.raises(OutputParserException, match=reason) as raised:
            read(answer)
        assert raised.value.llm_output == answer


async def test_objects_stream_on_the_event_loop_too():
    async def answer():
        for char in ANSWERS[0]:
            yield AIMessageChunk(content=char)

    parts = [part async for part in HermesJsonOutputParser(schema=SCHEMA).atransform(answer())]
    assert parts == list(HermesJsonOutputParser(schema=SCHEMA).transform(iter(ANSWERS[0])))


def test_instructions_are_those_that_the_models_were_trained_on():
    assert "<schema>" in HermesJsonOutputParser(schema=Person).get_format_instructions()
    with pytest.raises(HermesSchemaError):
        HermesJsonOutputParser(schema={"no": "schema"})
