"""Every path through ChatHermes says the same, and stopping a path stops the engine."""

from __future__ import annotations

import asyncio
import threading
from functools import reduce
from operator import add

import pytest
from langchain_core.callbacks import BaseCallbackHandler, get_usage_metadata_callback
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage, message_chunk_to_message
from langchain_core.utils.json import parse_partial_json

from hermes_runtime.problems import Problem
from langchain_hermes import ChatHermes, HermesTimeoutError
from tests.support.scripted_engine import ScriptedEngine
from tests.support.weather import get_weather, weather_calls

PLAIN = "Good evening, wörld 😀."
TWO_CALLS = f"Let me see.\n{weather_calls('Oslo', 'Rome')}"
PATHS = {}


def path(function):
    PATHS[function.__name__] = function
    return function


@path
def invoked(llm, text):
    return llm.invoke(text)


@path
def streamed(llm, text):
    return message_chunk_to_message(reduce(add, llm.stream(text)))


@path
def ainvoked(llm, text):
    return asyncio.run(llm.ainvoke(text))


@path
def astreamed(llm, text):
    async def run():
        return [chunk async for chunk in llm.astream(text)]

    return message_chunk_to_message(reduce(add, asyncio.run(run())))


@path
def invoked_as_stream(llm, text):
    return llm.invoke(text, stream=True)


def said(message):
    """Return what must be equal on every path; ids and the errors that chunks cannot carry are left out."""
    metadata = {key: value for key, value in message.response_metadata.items() if key != "tool_call_problems"}
    return {
        "content": [
            {key: value for key, value in block.items() if key not in ("id", "index", "error")}
            for block in message.content_blocks
        ],
        "calls": [(call["name"], call["args"]) for call in message.tool_calls],
        "invalid": [(call["name"], call["args"]) for call in message.invalid_tool_calls],
        "usage": message.usage_metadata,
        "metadata": metadata,
        "additional": without_ids(message.additional_kwargs),
    }


def without_ids(additional_kwargs):
    """Return `additional_kwargs` with the calls of the older form without their ids."""
    older = [{**call, "id": None} for call in additional_kwargs.get("tool_calls", ())]
    return {**additional_kwargs, "tool_calls": older}


@pytest.mark.parametrize("output_version", ["v0", "v1"])
@pytest.mark.parametrize(
    ("reply", "options"),
    [
        (PLAIN, {}),
        ("", {}),
        (TWO_CALLS, {}),
        (weather_calls("Oslo"), {}),
        (weather_calls("Oslo"), {"max_tokens": 25}),
        (TWO_CALLS, {"max_tokens": 55}),
        (PLAIN, {"stop": ["wörld"]}),
        (PLAIN, {"logprobs": True, "top_logprobs": 2}),
        ("<scratch_pad>\nLet me think.\n</scratch_pad>\n" + weather_calls("Oslo"), {"dialect": "scratch_pad"}),
        ("<think>Hm.</think>" + weather_calls("Oslo"), {"max_tokens": 33}),
    ],
)
def test_all_paths_give_the_same_message(scripted, reply, options, output_version):
    llm, engine = scripted(lambda prompt: reply, output_version=output_version, **options)
    bound = llm.bind_tools([get_weather])
    expected = said(bound.invoke("How is the weather?"))
    for name, run in PATHS.items():
        assert said(run(bound, "How is the weather?")) == expected, name
    assert len({request.constraint for request in engine.requests}) == 1


def test_two_calls_have_ids_of_their_own_and_no_markup_stays(scripted):
    llm, _ = scripted([TWO_CALLS])
    message = llm.bind_tools([get_weather]).invoke("Oslo and Rome?")
    assert message.content == "Let me see."
    assert [call["args"] for call in message.tool_calls] == [{"city": "Oslo"}, {"city": "Rome"}]
    assert len({call["id"] for call in message.tool_calls}) == 2
    assert message.response_metadata["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("output_version", ["v0", "v1"])
def test_without_tools_an_answer_is_text_to_the_last_character(scripted, output_version):
    talk = f"  Use the <tool_call> tag:\n\n{weather_calls('Oslo')}\nThen <think> again.\n"
    llm, _ = scripted(lambda _: talk, output_version=output_version)
    for run in PATHS.values():
        message = run(llm, "Explain the format")
        assert (message.text, message.tool_calls, message.invalid_tool_calls) == (talk, [], [])


@pytest.mark.parametrize("output_version", ["v0", "v1"])
def test_event_protocol_gives_text_and_parallel_calls(scripted, output_version):
    llm, _ = scripted([TWO_CALLS, TWO_CALLS], output_version=output_version)
    bound = llm.bind_tools([get_weather])
    stream = bound.stream_events("Oslo and Rome?", version="v3")
    assert "".join(stream.text) == "Let me see."
    message = stream.output
    assert [call["args"] for call in message.tool_calls] == [{"city": "Oslo"}, {"city": "Rome"}]
    assert message.usage_metadata["output_tokens"] > 0

    async def run():
        return await (await bound.astream_events("Oslo and Rome?", version="v3")).output

    assert [call["args"] for call in asyncio.run(run()).tool_calls] == [{"city": "Oslo"}, {"city": "Rome"}]


@pytest.mark.parametrize("max_tokens", [*range(6, 24, 3), 25, 26])
def test_a_call_cut_anywhere_is_a_call_on_no_path(scripted, max_tokens):
    llm, engine = scripted(lambda prompt: weather_calls("Oslo"), max_tokens=max_tokens)
    bound = llm.bind_tools([get_weather])
    messages = [streamed(bound, "x"), invoked(bound, "x"), bound.stream_events("x", version="v3").output]
    for message in messages:
        assert message.tool_calls == []
        assert message.response_metadata["finish_reason"] == "length"
    assert {run.tokens_made for run in engine.runs} == {max_tokens}


def test_an_invalid_call_says_why_and_has_an_id(scripted):
    llm, _ = scripted([weather_calls("Oslo")], max_tokens=25)
    message = llm.bind_tools([get_weather]).invoke("x")
    (invalid,) = message.invalid_tool_calls
    assert Problem.read(invalid["error"]).is_cut_off
    assert message.response_metadata["tool_call_problems"] == {invalid["id"]: [invalid["error"]]}


def test_text_flows_token_by_token(scripted):
    llm, engine = scripted([PLAIN], engine_options={"pause_after": 3})
    stream = llm.stream("Hi")
    first = next(stream)
    assert PLAIN.startswith(first.text)
    assert first.text
    engine.resume()
    assert first.text + "".join(chunk.text for chunk in stream) == PLAIN


def test_streamed_tokens_reach_callbacks(scripted):
    class Listener(BaseCallbackHandler):
        def __init__(self):
            self.tokens = []

        def on_llm_new_token(self, token, **kwargs):
            self.tokens.append(token)

    llm, _ = scripted([PLAIN, PLAIN])
    listener = Listener()
    list(llm.stream("Hi", config={"callbacks": [listener]}))
    assert "".join(listener.tokens) == PLAIN
    llm.stream_events("Hi", version="v3", config={"callbacks": [listener]}).output  # noqa: B018 - reading it runs the stream
    assert "".join(listener.tokens) == PLAIN * 2


def test_usage_reaches_the_callback_that_sums_it(scripted):
    llm, _ = scripted(lambda prompt: PLAIN)
    with get_usage_metadata_callback() as callback:
        first = llm.invoke("Hi").usage_metadata
        list(llm.stream("Hi"))
    assert callback.usage_metadata["scripted"]["total_tokens"] == 2 * first["total_tokens"]


class Outputs(BaseCallbackHandler):
    """Keeps what callbacks are told of answers."""

    def __init__(self):
        self.told = []

    def on_llm_end(self, response, **kwargs):
        self.told.append(response.llm_output)


@pytest.mark.parametrize("generate", ["generate", "agenerate"])
def test_the_output_of_a_batch_sums_the_tokens_of_its_answers(scripted, generate):
    llm, _ = scripted(lambda prompt: PLAIN, engine_options={"cached_tokens": 2})
    outputs, batch = Outputs(), [[HumanMessage("Hi")], [HumanMessage("Good evening!")]]
    made = getattr(llm, generate)(batch, callbacks=[outputs])
    result = asyncio.run(made) if asyncio.iscoroutine(made) else made
    usages = [answers[0].message.usage_metadata for answers in result.generations]
    assert result.llm_output == {
        "token_usage": {
            "prompt_tokens": sum(usage["input_tokens"] for usage in usages),
            "completion_tokens": sum(usage["output_tokens"] for usage in usages),
            "total_tokens": sum(usage["total_tokens"] for usage in usages),
            "prompt_tokens_details": {"cached_tokens": 4},
        },
        "model_name": "scripted",
    }
    each = [output["token_usage"]["total_tokens"] for output in outputs.told]
    assert sorted(each) == sorted(usage["total_tokens"] for usage in usages)


def test_the_output_of_a_streamed_answer_can_be_asked_for_tokens(scripted):
    llm, _ = scripted(lambda prompt: PLAIN, streaming=True)
    result = llm.generate([[HumanMessage("Hi")]])
    assert result.llm_output == {"token_usage": {}, "model_name": "scripted"}
    assert result.generations[0][0].message.usage_metadata["total_tokens"] > 0


def test_counts_in_several_places_are_summed_once(scripted):
    llm, _ = scripted(lambda prompt: PLAIN)
    with get_usage_metadata_callback() as callback:
        message = llm.batch(["Hi", "Hi"])[0]
    usage = message.response_metadata["token_usage"]
    assert usage["total_tokens"] == message.usage_metadata["total_tokens"]
    assert callback.usage_metadata["scripted"]["total_tokens"] == 2 * usage["total_tokens"]


@pytest.mark.parametrize("path", PATHS)
def test_every_path_warns_once_of_a_cut_call_and_no_parser_takes_it_for_one(path, scripted, caplog):
    llm, _ = scripted(lambda prompt: weather_calls("Oslo"), max_tokens=25)
    message = PATHS[path](llm.bind_tools([get_weather]), "Oslo?")
    (warning,) = [record.getMessage() for record in caplog.records if record.name.startswith("hermes_runtime")]
    assert "the call of 'get_weather' was cut off after 25 tokens by max_tokens; raise max_tokens" in warning
    (older,) = message.additional_kwargs["tool_calls"]
    assert older["id"] == message.invalid_tool_calls[0]["id"]
    with pytest.raises(ValueError, match=r"."):
        parse_partial_json(older["function"]["arguments"])
    assert AIMessage(**message.model_dump()).tool_calls == []


def test_calls_that_run_have_no_other_form_beside_them(scripted):
    llm, _ = scripted([TWO_CALLS], max_tokens=60)
    message = llm.bind_tools([get_weather]).invoke("Oslo and Rome?")
    assert (len(message.tool_calls), len(message.invalid_tool_calls)) == (1, 1)
    assert "tool_calls" not in message.additional_kwargs


async def test_the_older_event_protocol_tells_every_token(scripted):
    llm, _ = scripted([PLAIN])
    events = [event async for event in llm.astream_events("Hi", version="v2")]
    assert "".join(event["data"]["chunk"].text for event in events if event["event"] == "on_chat_model_stream") == PLAIN
    assert events[-1]["event"] == "on_chat_model_end"
    assert events[-1]["data"]["output"].content == PLAIN


@pytest.mark.parametrize("options", [{"streaming": False}, {"disable_streaming": True}])
def test_where_streaming_is_off_a_stream_is_one_whole_message(scripted, options):
    llm, _ = scripted([PLAIN], **options)
    (message,) = llm.stream("Hi")
    assert message.content == PLAIN


def test_streaming_can_be_off_for_tools_alone_and_on_for_invoke(scripted):
    class Listener(BaseCallbackHandler):
        tokens = 0

        def on_llm_new_token(self, token, **kwargs):
            type(self).tokens += 1

    llm, _ = scripted(lambda prompt: PLAIN, disable_streaming="tool_calling")
    assert len(list(llm.bind_tools([get_weather]).stream("Hi"))) == 1
    assert len(list(llm.stream("Hi"))) > 3
    eager = llm.model_copy(update={"streaming": True, "disable_streaming": False})
    assert eager.invoke("Hi", config={"callbacks": [Listener()]}).content == PLAIN
    assert Listener.tokens > 3


@pytest.mark.parametrize("output_version", ["v0", "v1"])
def test_the_event_protocol_tells_arguments_while_they_are_written(scripted, output_version):
    llm, _ = scripted([weather_calls("a long name of a city")], output_version=output_version)
    events = list(llm.bind_tools([get_weather]).stream_events("x", version="v3"))
    pieces = [event["delta"]["args"] for event in events if event.get("delta", {}).get("type") == "tool-call-delta"]
    assert len(pieces) > 3
    assert "".join(pieces) == '{"city": "a long name of a city"}'


def test_arguments_that_stand_before_an_uncertain_name_come_whole(scripted):
    def get_tide(port: str) -> str:
        """Say how the tide is."""
        return port

    llm, _ = scripted([weather_calls("Oslo")])
    bound = llm.bind_tools([get_weather, get_tide])
    shown = [part["args"] for chunk in bound.stream("x") for part in chunk.tool_call_chunks]
    assert shown == ['{"city": "Oslo"}']


def test_usage_counts_the_prompt_the_answer_and_what_was_cached(scripted):
    llm, engine = scripted([PLAIN], engine_options={"cached_tokens": 4})
    usage = llm.invoke("Hi").usage_metadata
    assert usage["input_tokens"] == len(engine.requests[0].prompt_ids)
    assert usage["output_tokens"] == engine.runs[0].tokens_made
    assert usage["input_token_details"] == {"cache_read": 4}


def test_the_next_prompt_extends_the_last_one_token_for_token(scripted):
    llm, engine = scripted([TWO_CALLS, "Rain in both."])
    bound = llm.bind_tools([get_weather])
    history = [HumanMessage("Oslo and Rome?")]
    answer = bound.invoke(history)
    results = [ToolMessage("rain", tool_call_id=call["id"]) for call in answer.tool_calls]
    bound.invoke([*history, answer, *results])
    first, second = (request.prompt_ids for request in engine.requests)
    made = tuple(engine.tokenizer.encode(TWO_CALLS, add_special_tokens=False))
    assert second[: len(first) + len(made)] == first + made


# Stopping


def test_closing_a_stream_stops_the_engine(scripted):
    llm, engine = scripted([PLAIN], engine_options={"pause_after": 3})
    stream = llm.stream("Hi")
    next(stream)
    stream.close()
    engine.runs[0].wait_ended()
    assert engine.runs[0].finish_reason == "cancelled"


def test_leaving_a_loop_stops_the_engine(scripted):
    llm, engine = scripted([PLAIN], engine_options={"pause_after": 3})
    for _ in llm.stream("Hi"):
        break
    engine.runs[0].wait_ended()
    assert engine.runs[0].finish_reason == "cancelled"


async def test_closing_an_async_stream_stops_the_engine(scripted):
    llm, engine = scripted([PLAIN], engine_options={"pause_after": 3})
    stream = llm.astream("Hi")
    await anext(stream)
    await stream.aclose()
    await asyncio.to_thread(engine.runs[0].wait_ended)
    assert engine.runs[0].finish_reason == "cancelled"


@pytest.mark.parametrize("options", [{}, {"stream": True}])
async def test_cancelling_a_task_stops_the_engine(scripted, options):
    llm, engine = scripted([PLAIN], engine_options={"pause_after": 2})
    task = asyncio.create_task(llm.ainvoke("Hi", **options))
    await asyncio.to_thread(engine.wait_requests, 1)
    await asyncio.to_thread(engine.runs[0].wait_stalled)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(engine.runs[0].wait_ended)
    assert engine.runs[0].finish_reason == "cancelled"


def test_a_timeout_is_the_frameworks_timeout_and_the_model_still_answers(scripted):
    from langchain_core.exceptions import ModelTimeoutError

    llm, engine = scripted([PLAIN, PLAIN], engine_options={"pause_after": 2}, max_retries=3)
    with pytest.raises(ModelTimeoutError) as raised:
        llm.invoke("Hi", timeout=0.01)
    assert isinstance(raised.value, HermesTimeoutError)
    assert isinstance(raised.value, TimeoutError)
    assert len(engine.requests) == 1
    engine.resume()
    assert llm.invoke("Hi").content == PLAIN


# Concurrency


async def test_calls_run_side_by_side_on_one_loop_without_threads_of_their_own(scripted):
    llm, engine = scripted(lambda prompt: PLAIN, engine_options={"pause_after": 1})
    await llm.ainvoke("Hi", max_tokens=1)  # the engine is loaded in a thread
    before = {thread.name for thread in threading.enumerate()}
    tasks = [asyncio.create_task(llm.ainvoke("Hi")) for _ in range(20)]
    await asyncio.to_thread(engine.wait_requests, 21)
    new = {thread.name for thread in threading.enumerate()} - before
    shared = {name for name in new if not name.startswith("scripted-")}
    assert all(name.startswith("hermes-off-loop") for name in shared)
    assert len(shared) <= 4
    engine.resume()
    assert [message.content for message in await asyncio.gather(*tasks)] == [PLAIN] * 20


def test_a_batch_keeps_its_order(scripted):
    llm, _ = scripted(lambda prompt: prompt.rsplit("user\n")[-1].partition("<|im_end|>")[0])
    assert [message.content for message in llm.batch([f"number {i}" for i in range(6)])] == [
        f"number {i}" for i in range(6)
    ]


async def test_the_loop_goes_on_while_the_engine_loads(scripted, load_by):
    llm, engine = scripted([PLAIN])
    may_load = threading.Event()

    def load(model, **options):
        assert may_load.wait(30), "the loop was blocked"
        return engine

    load_by(load)
    task = asyncio.create_task(llm.ainvoke("Hi"))
    await asyncio.sleep(0)
    may_load.set()
    assert (await task).content == PLAIN


def test_a_stream_may_call_the_model_while_it_is_read(scripted):
    llm, _ = scripted(lambda prompt: PLAIN)
    inner = [llm.invoke("again").content for _ in llm.stream("Hi")]
    assert set(inner) == {PLAIN}


def test_two_models_of_one_name_share_one_engine(load_by, mistral_tokenizer):
    loads = []

    def load(model, **options):
        loads.append((model, options))
        return ScriptedEngine(mistral_tokenizer, lambda prompt: PLAIN)

    load_by(load)
    for _ in range(2):
        ChatHermes(model="one", device="cpu", context_window=4096).invoke("Hi")
    ChatHermes(model="one").invoke("Hi", model="other")
    assert loads == [("one", {"device": "cpu", "context_window": 4096}), ("other", {})]


def test_answers_are_what_the_type_says(scripted):
    llm, _ = scripted([PLAIN])
    assert type(llm.invoke("Hi")) is AIMessage
