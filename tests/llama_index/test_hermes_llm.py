"""HermesLLM over a scripted engine: the contract of LlamaIndex's eight endpoints."""

from __future__ import annotations

import asyncio
import copy
import pickle
import re

import pytest
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.evaluation import FaithfulnessEvaluator
from llama_index.core.llms import ChatMessage
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool

import llama_index_hermes.base
from hermes_runtime.errors import (
    ContextWindowExceededError,
    EngineError,
    GenerationTimeoutError,
    HermesError,
    InvalidRequestError,
    ToolChoiceError,
    UnmetDemandError,
)
from hermes_runtime.options.generation import SamplingParams
from llama_index_hermes import HermesLLM
from tests.llama_index.endpoints import ALL, CHAT, COMPLETE
from tests.llama_index_contract.harness import TOOL_CHAT
from tests.support.failures import FAILURES, MISREAD, UNFORESEEN, failing
from tests.support.scripted_engine import ScriptedRun

CALL = "<tool_call>\n{'arguments': {'a': 19, 'b': 23}, 'name': 'add'}\n</tool_call>"
OTHER = CALL.replace("19", "1").replace("23", "2")


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def look(city: str) -> str:
    """Look at a city."""
    return city


ADD, LOOK = FunctionTool.from_defaults(add), FunctionTool.from_defaults(look)


def without_ids(response):
    """A response as plain data, its call ids numbered."""
    data = response.model_dump(exclude={"delta"})
    for number, block in enumerate(data["message"]["blocks"]):
        if block["block_type"] == "tool_call":
            block["tool_call_id"] = number
    for key in ("tool_calls", "invalid_tool_calls"):
        for number, call in enumerate(data["message"]["additional_kwargs"].get(key, ())):
            call["id"] = number
    return data


# Construction


def test_it_is_a_function_calling_chat_model():
    llm = HermesLLM(model="m", max_tokens=99)
    assert isinstance(llm, FunctionCallingLLM)
    assert llm.metadata.model_dump() == {
        "context_window": 3900,
        "num_output": 99,
        "is_chat_model": True,
        "is_function_calling_model": True,
        "model_name": "m",
        "system_role": "system",
    }


def test_every_field_says_what_it_is():
    own = set(HermesLLM.model_fields) - set(FunctionCallingLLM.model_fields)
    assert [name for name in own if not HermesLLM.model_fields[name].description] == []


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"max_tokens": 0},
        {"timeout": 0},
        {"stop": [""]},
        {"logprobs": True, "top_logprobs": 21},
        {"top_logprobs": 21},
        {"logprobs": False, "top_logprobs": 2},
        {"dialect": "klingon"},
        {"base_url": "http://localhost:8000", "engine": "vllm"},
        {"messages_to_prompt": str},
    ],
)
def test_bad_option_is_refused_when_made_and_when_called(options, scripted):
    with pytest.raises(InvalidRequestError, match=r".{20}"):
        HermesLLM(model="m", **options)
    llm, engine = scripted(["Hello."])
    with pytest.raises(InvalidRequestError):
        llm.chat([ChatMessage("Hi")], **options)
    assert llm.chat([ChatMessage("Hi")]).message.content == "Hello."
    assert len(engine.requests) == 1


@pytest.mark.parametrize(("max_retries", "answers"), [(0, False), (1, False), (2, True)])
@pytest.mark.parametrize("endpoint", ALL)
def test_failed_engine_is_asked_again_as_often_as_allowed(endpoint, max_retries, answers, scripted):
    failures = iter([True, True, False])

    def reply(_):
        if next(failures):
            raise EngineError("a kernel failed")
        return "Hello."

    llm, _ = scripted(reply, max_retries=max_retries)
    if answers:
        assert ALL[endpoint](llm, "Hi")
    else:
        with pytest.raises(EngineError, match="a kernel failed"):
            ALL[endpoint](llm, "Hi")


def test_only_the_engine_of_a_server_is_loaded_with_retries():
    assert "max_retries" not in HermesLLM(model="m", max_retries=1)._engine_arguments
    served = HermesLLM(model="m", max_retries=1, base_url="http://localhost:1/v1", api_key="k")
    assert (served._engine_arguments["max_retries"], served._engine_arguments["api_key"]) == (1, "k")


@pytest.mark.parametrize("options", [{}, {"model": "m", "temprature": 1}, {"model": "m", "context_window": 0}])
def test_constructor_refuses_what_it_does_not_know(options):
    with pytest.raises(InvalidRequestError, match=next(reversed(options), "model")):
        HermesLLM(**options)


@pytest.mark.parametrize("endpoint", ALL)
def test_unknown_call_option_is_named(endpoint, scripted):
    llm, engine = scripted([])
    with pytest.raises(
        InvalidRequestError, match=r"unknown option 'temprature', did you mean 'temperature'\? a call takes"
    ):
        ALL[endpoint](llm, "Hi", temprature=1)
    assert not engine.requests


def test_options_survive_serialization():
    llm = HermesLLM(model="m", temperature=0.5, stop=["END"], system_prompt="Be brief.")
    for restored in (
        HermesLLM.from_dict(llm.to_dict()),
        HermesLLM.from_json(llm.to_json()),
        pickle.loads(pickle.dumps(llm)),
    ):
        assert restored.to_dict() == llm.to_dict()


def test_copies_share_the_engine(scripted):
    llm, engine = scripted(["One.", "Two."])
    llm.chat([ChatMessage("Hi")])
    assert copy.deepcopy(llm).chat([ChatMessage("Hi")]).message.content == "Two."
    assert len(engine.requests) == 2


def test_payload_of_events_names_model_and_temperature():
    payload = HermesLLM(model="m", temperature=0.5).to_payload()
    assert (payload["class_name"], payload["model"], payload["temperature"]) == ("HermesLLM", "m", 0.5)


# One core behind eight endpoints


@pytest.mark.parametrize("reply", ["It is sunny.", "", "Let me add.\n" + CALL, CALL + "\n" + OTHER, CALL[:40]])
def test_all_chat_endpoints_give_the_same(reply, scripted):
    llm, _ = scripted(lambda _: reply)
    answers = [without_ids(call(llm, "19 + 23?", tools=[ADD])[-1]) for call in CHAT.values()]
    assert all(answer == answers[0] for answer in answers)


def test_all_completion_endpoints_give_the_same(scripted):
    llm, _ = scripted(lambda _: "It is sunny.")
    answers = [call(llm, "Weather?")[-1].model_dump(exclude={"delta"}) for call in COMPLETE.values()]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["text"] == "It is sunny."


@pytest.mark.parametrize("endpoint", ["stream_complete", "astream_complete"])
def test_completion_stream_is_cumulative(endpoint, scripted):
    llm, _ = scripted(["It is sunny."])
    text = ""
    for response in ALL[endpoint](llm, "Weather?"):
        text += response.delta
        assert response.text == text
    assert text == "It is sunny."


@pytest.mark.parametrize("endpoint", ALL)
def test_tokens_are_counted_once_and_exactly(endpoint, scripted):
    llm, engine = scripted(["It is sunny."])
    counter = TokenCountingHandler(tokenizer=lambda _: [0] * 1000)
    llm.callback_manager = CallbackManager([counter])
    ALL[endpoint](llm, "Weather?")
    (event,) = counter.llm_token_counts
    assert event.prompt_token_count == len(engine.requests[0].prompt_ids)
    assert event.completion_token_count == engine.runs[0].tokens_made


def test_every_option_reaches_the_engine_and_a_call_overrides(scripted):
    llm, engine = scripted(
        lambda _: "x", temperature=0.3, top_p=0.9, top_k=4, min_p=0.1, repetition_penalty=1.1, max_tokens=7, stop="END",
        seed=3, timeout=9.0, logprobs=True, top_logprobs=2,
    )  # fmt: skip
    llm.chat([ChatMessage("Hi")])
    llm.chat([ChatMessage("Hi")], temperature=0, stop=["A", "B"], seed=None, logprobs=False)
    first, second = (request.options for request in engine.requests)
    assert first.sampling == SamplingParams(0.3, 0.9, 4, 0.1, 1.1)
    assert (first.max_tokens, first.stop, first.seed, first.timeout, first.logprobs) == (7, ("END",), 3, 9.0, 2)
    assert second.sampling == SamplingParams(0, 0.9, 4, 0.1, 1.1)
    assert (second.stop, second.seed, second.logprobs) == (("A", "B"), 3, None)


def test_a_call_leaves_the_options_as_they_were(scripted):
    llm, _ = scripted(["x"], temperature=0.3)
    before = llm.to_dict()
    llm.chat([ChatMessage("Hi")], temperature=0, tools=[ADD])
    assert llm.to_dict() == before


def test_length_limit_is_told(scripted):
    llm, _ = scripted(["one two three four"])
    response = llm.chat([ChatMessage("Count.")], max_tokens=2)
    assert response.raw["finish_reason"] == "length"
    assert response.raw["usage"]["completion_tokens"] == 2


def test_logprobs_cover_every_token(scripted):
    llm, engine = scripted(["It is sunny."])
    response = llm.chat([ChatMessage("Hi")], logprobs=True, top_logprobs=2)
    assert len(response.logprobs) == engine.runs[0].tokens_made


TALK = "  Use the <tool_call> tag:\n\n<tool_call>{'name': 'x', 'arguments': {}}</tool_call>\nThen <think> again.\n"


@pytest.mark.parametrize("formatted", [False, True])
def test_a_completion_is_text_to_the_last_character(scripted, formatted):
    llm, _ = scripted(lambda _: TALK)
    assert llm.complete("Explain the format", formatted=formatted).text == TALK
    *_, last = streamed = list(llm.stream_complete("Explain the format", formatted=formatted))
    assert "".join(response.delta for response in streamed) == last.text == TALK


def test_a_chat_without_tools_is_text_to_the_last_character(scripted):
    llm, _ = scripted(lambda _: TALK)
    asked = [ChatMessage("Explain the format")]
    *_, last = streamed = list(llm.stream_chat(asked))
    assert "".join(response.delta for response in streamed) == TALK
    for message in (llm.chat(asked).message, last.message):
        assert (message.content, message.additional_kwargs) == (TALK, {})
        assert [block.block_type for block in message.blocks] == ["text"]


def test_what_was_thought_before_a_completion_stands_beside_it(scripted):
    llm, _ = scripted(lambda _: "<think>\nHm.\n</think>\nYes")
    completion = llm.complete("Well?")
    assert (completion.text, completion.additional_kwargs["thinking"]) == ("Yes", "Hm.\n")


def test_reasoning_is_thinking(scripted):
    llm, _ = scripted(lambda _: "<scratch_pad>\nAdd them.\n</scratch_pad>\n" + CALL)
    *_, last = streamed = list(llm.stream_chat([ChatMessage("19 + 23?")], tools=[ADD], dialect="scratch_pad"))
    thoughts = "".join(response.additional_kwargs.get("thinking_delta", "") for response in streamed)
    assert thoughts.strip() == "Add them."
    assert [block.block_type for block in last.message.blocks] == ["thinking", "tool_call"]


# Completions


def test_unformatted_prompt_is_one_user_turn(scripted):
    llm, engine = scripted(["x", "x"])
    llm.complete("Hi <|im_end|>")
    llm.chat([ChatMessage("Hi <|im_end|>")])
    assert engine.requests[0].prompt_ids == engine.requests[1].prompt_ids


def test_formatted_prompt_goes_to_the_model_as_it_is(scripted):
    llm, engine = scripted(["It is sunny.", "It is sunny."])
    formatted = "<|im_start|>user\nWeather?<|im_end|>\n<|im_start|>assistant\n"
    assert llm.complete(formatted, formatted=True).text == "It is sunny."
    assert llm.complete("<s>" + formatted, formatted=True).text == "It is sunny."
    llm, unformatted = scripted(["x"])
    llm.complete("Weather?")
    expected = unformatted.requests[0].prompt_ids
    assert [request.prompt_ids for request in engine.requests] == [expected, expected]


@pytest.mark.parametrize("endpoint", COMPLETE)
def test_completion_to_prompt_formats(endpoint, scripted):
    llm, engine = scripted(["x<tool_call>y"], completion_to_prompt=lambda prompt: f"Q: {prompt}\nA:")
    assert COMPLETE[endpoint](llm, "why?")[-1].text == "x<tool_call>y"
    assert engine.prompts[0].endswith("Q: why?\nA:")


def test_formatted_prompt_past_the_window_is_refused(scripted):
    llm, engine = scripted([], engine={"context_window": 8})
    with pytest.raises(ContextWindowExceededError, match="8"):
        llm.complete("one two three four five six seven eight nine", formatted=True)
    assert not engine.requests


@pytest.mark.parametrize("formatted", [False, True])
def test_completion_with_tools_is_refused(formatted, scripted):
    llm, _ = scripted([])
    with pytest.raises(InvalidRequestError, match="chat"):
        llm.complete("Hi", formatted=formatted, tools=[ADD])


# Tools


def prepared(*args, **kwargs):
    return HermesLLM(model="m")._prepare_chat_with_tools(*args, **kwargs)


def test_history_is_never_changed():
    history = [ChatMessage("a")]
    messages = prepared([ADD], user_msg="b", chat_history=history)["messages"]
    assert [message.content for message in messages] == ["a", "b"]
    assert [message.content for message in history] == ["a"]


def test_user_message_may_be_a_message():
    message = ChatMessage("b", role="user")
    assert prepared([ADD], user_msg=message)["messages"] == [message]


@pytest.mark.parametrize(
    ("options", "choice"),
    [
        ({}, "auto"),
        ({"tool_choice": None}, "auto"),
        ({"tool_choice": None, "tool_required": True}, "required"),
        ({"tool_choice": "add"}, {"type": "function", "function": {"name": "add"}}),
        ({"tool_choice": "none"}, "none"),
        ({"tool_choice": "none", "tool_required": True}, "none"),
    ],
)
def test_tool_choice_is_named_and_none_is_unset(options, choice):
    assert prepared([ADD, LOOK], user_msg="x", **options)["tool_choice"] == choice


def test_choice_without_tools_is_refused():
    with pytest.raises(ToolChoiceError):
        prepared([], user_msg="x", tool_choice="add")


def test_requirement_without_tools_is_none():
    assert prepared([], user_msg="x", tool_required=True)["tool_choice"] == "auto"


def test_an_empty_list_of_tools_makes_the_request_of_a_plain_chat(scripted):
    llm, engine = scripted(["Hello.", "Hello."])
    llm.chat_with_tools([], user_msg="Hi")
    llm.chat([ChatMessage("Hi")])
    assert engine.requests[0] == engine.requests[1]


@pytest.mark.parametrize(
    ("options", "allowed", "refused"),
    [
        ({}, ["Hello.", CALL], [CALL + "\n" + CALL]),
        ({"tool_required": True}, [CALL], ["Hello."]),
        ({"tool_choice": "look"}, [], ["Hello.", CALL]),
        ({"tool_choice": "none"}, ["Hello."], [CALL]),
        ({"allow_parallel_tool_calls": True}, [CALL + "\n" + CALL], []),
    ],
)
def test_choice_becomes_the_constraint(options, allowed, refused, scripted):
    matches = _matcher()
    llm, engine = scripted(lambda _: "x")
    llm.chat_with_tools([ADD, LOOK], user_msg="19 + 23?", **options)
    grammar = engine.requests[0].constraint
    json_form = [text.replace("'", '"') for text in (*allowed, *refused)]
    assert [matches(grammar, text) for text in json_form] == [True] * len(allowed) + [False] * len(refused)


def _matcher():
    import llguidance

    vocabulary = llguidance.LLTokenizer("byte")

    def matches(grammar, text):
        matcher = llguidance.LLMatcher(vocabulary, grammar)
        return matcher.consume_tokens(vocabulary.tokenize_str(text)) and matcher.is_accepting()

    return matches


def test_calls_come_back_with_unique_ids(scripted):
    llm, _ = scripted([CALL + "\n" + CALL])
    response = llm.chat_with_tools([ADD], user_msg="Twice.", allow_parallel_tool_calls=True)
    first, second = llm.get_tool_calls_from_response(response)
    assert (first.tool_name, first.tool_kwargs) == ("add", {"a": 19, "b": 23})
    assert first.tool_id != second.tool_id


@pytest.mark.parametrize("reply", ["Hello.", CALL[:40]])
def test_the_error_without_a_whole_call_says_what_was_expected(reply, scripted):
    llm, _ = scripted([reply])
    response = llm.chat_with_tools([ADD], user_msg="Hi")
    assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
    with pytest.raises(ValueError, match="at least one tool call"):
        llm.get_tool_calls_from_response(response)


@pytest.mark.parametrize("endpoint", TOOL_CHAT)
def test_unconstrained_answer_ends_with_the_one_call(endpoint, scripted):
    llm, _ = scripted(lambda _: CALL + "\n" + OTHER, constrained=False)
    one = TOOL_CHAT[endpoint](llm, [ADD], user_msg="x")[-1]
    both = TOOL_CHAT[endpoint](llm, [ADD], user_msg="x", allow_parallel_tool_calls=True)[-1]
    assert [call.tool_kwargs["a"] for call in llm.get_tool_calls_from_response(one)] == [19]
    assert [call.tool_kwargs["a"] for call in llm.get_tool_calls_from_response(both)] == [19, 1]
    assert llm.predict_and_call([ADD], user_msg="x").response == "42"


@pytest.mark.parametrize("endpoint", TOOL_CHAT)
@pytest.mark.parametrize("demand", [{"tool_required": True}, {"tool_choice": "add"}])
def test_a_required_call_needs_no_grammar(endpoint, demand, scripted):
    llm, engine = scripted(["It is 42.", CALL], constrained=False, max_repairs=1)
    response = TOOL_CHAT[endpoint](llm, [ADD], user_msg="x", **demand)[-1]
    assert [call.tool_kwargs["a"] for call in llm.get_tool_calls_from_response(response)] == [19]
    assert response.raw["repairs"] == 1
    assert {request.constraint for request in engine.requests} == {None}


@pytest.mark.parametrize("endpoint", TOOL_CHAT)
@pytest.mark.parametrize(("demand", "reply"), [({"tool_required": True}, "It is 42."), ({"tool_choice": "none"}, CALL)])
def test_a_demand_that_is_not_met_is_an_error(endpoint, demand, reply, scripted):
    llm, _ = scripted([reply], constrained=False)
    with pytest.raises(UnmetDemandError, match="in vain"):
        TOOL_CHAT[endpoint](llm, [ADD], user_msg="x", **demand)


@pytest.mark.parametrize("name", ["my tool", "Box[int]"])
def test_predict_and_call_finds_tools_of_any_name(name, scripted):
    llm, _ = scripted(lambda _: CALL.replace("'add'", f"'{name}'"))
    tool = FunctionTool.from_defaults(add, name=name)
    assert llm.predict_and_call([tool], user_msg="19 + 23?", tool_required=True).response == "42"
    assert asyncio.run(llm.apredict_and_call([tool], user_msg="19 + 23?", tool_required=True)).response == "42"


def test_repair_is_counted(scripted):
    wrong = CALL.replace("'b'", "'c'")
    llm, _ = scripted([wrong, CALL], constrained=False, max_repairs=1)
    response = llm.chat_with_tools([ADD], user_msg="19 + 23?")
    assert response.raw["repairs"] == 1
    assert llm.get_tool_calls_from_response(response)[0].tool_kwargs == {"a": 19, "b": 23}


# Context, engine, prompts


@pytest.mark.parametrize("endpoint", ALL)
def test_prompt_past_the_window_is_refused_before_anything_runs(endpoint, scripted):
    llm, engine = scripted([], engine={"context_window": 16})
    with pytest.raises(ContextWindowExceededError, match="16") as caught:
        ALL[endpoint](llm, "word " * 40)
    assert caught.value.prompt_tokens > 40
    assert not engine.requests


@pytest.mark.parametrize("endpoint", ALL)
def test_answer_that_takes_too_long_is_an_error_and_stops(endpoint, scripted):
    llm, engine = scripted(["one two three", "Hello."], engine={"pause_after": 1})
    with pytest.raises(GenerationTimeoutError):
        ALL[endpoint](llm, "Count.", timeout=0.01)
    engine.runs[0].wait_ended()
    engine.resume()
    assert llm.chat([ChatMessage("Hi")]).message.content == "Hello."


def test_token_count_is_the_prompts_length(scripted):
    llm, engine = scripted(["x"])
    messages = [ChatMessage("Be brief.", role="system"), ChatMessage("19 + 23?")]
    llm.chat(messages, tools=[ADD])
    assert llm.count_tokens(messages, [ADD]) == len(engine.requests[0].prompt_ids)
    assert llm.count_tokens(messages) < llm.count_tokens(messages, [ADD])


def test_tokenizer_counts_text(scripted):
    llm, engine = scripted([])
    assert llm.tokenizer("It is sunny.") == engine.tokenizer.encode("It is sunny.", add_special_tokens=False)


def test_metadata_follows_the_engine_once_it_is_there(scripted):
    llm, _ = scripted(["x"], engine={"context_window": 512})
    assert llm.metadata.context_window == 3900
    llm.chat([ChatMessage("Hi")])
    assert llm.metadata.context_window == 512


def test_engine_is_asked_for_with_every_option_and_only_when_needed(scripted, monkeypatch):
    _, engine = scripted(["x"])
    asked = []
    monkeypatch.setattr(
        llama_index_hermes.base, "load_engine", lambda *args, **options: asked.append((args, options)) or engine
    )
    llm = HermesLLM(model="m", device="cpu", kernel="torch", context_window=64)
    assert llm.metadata.context_window == 64
    assert asked == []
    llm.chat([ChatMessage("Hi")])
    ((args, options),) = asked
    assert args == ()
    assert {name: value for name, value in options.items() if value is not None} == {
        "model": "m", "engine": "local", "device": "cpu", "kernel": "torch", "context_window": 64
    }  # fmt: skip


async def test_loading_does_not_block_the_event_loop(scripted, monkeypatch):
    import threading

    _, engine = scripted(["x"])
    loop_ran = threading.Event()

    def load(*_, **__):
        assert loop_ran.wait(30), "the event loop was blocked while the engine loaded"
        return engine

    monkeypatch.setattr(llama_index_hermes.base, "load_engine", load)
    call = asyncio.create_task(HermesLLM(model="m").achat([ChatMessage("Hi")]))
    await asyncio.sleep(0)
    loop_ran.set()
    assert (await call).message.content == "x"


def test_the_system_prompt_stands_in_what_predict_sends(scripted):
    llm, engine = scripted(["Brest.", "Oslo."], system_prompt="Name a port.")
    assert llm.predict(PromptTemplate("Near {place}?"), place="Quimper") == "Brest."
    assert asyncio.run(llm.apredict(PromptTemplate("Near {place}?"), place="Drammen")) == "Oslo."
    assert all("Name a port." in prompt for prompt in engine.prompts)


# Failures


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("endpoint", ALL)
def test_no_failure_of_a_call_is_of_a_kind_that_frameworks_misread(endpoint, name, scripted):
    llm, _ = scripted(failing(name))
    with pytest.raises(HermesError) as caught:
        ALL[endpoint](llm, "Hello")
    assert not isinstance(caught.value, MISREAD)
    assert str(FAILURES[name]()) in str(caught.value)


@pytest.mark.parametrize("name", UNFORESEEN)
@pytest.mark.parametrize("endpoint", ALL)
def test_no_failure_amid_an_answer_is_of_a_kind_that_frameworks_misread(endpoint, name, scripted, monkeypatch):
    def fail(_):
        error = UNFORESEEN[name]()
        raise error

    monkeypatch.setattr(ScriptedRun, "_produce", fail)
    llm, _ = scripted(["never said"])
    with pytest.raises(EngineError, match=re.escape(name)) as caught:
        ALL[endpoint](llm, "Hello")
    assert not isinstance(caught.value, MISREAD)


@pytest.mark.parametrize("name", FAILURES)
def test_blocking_code_over_async_code_raises_the_failure_and_not_advice_about_event_loops(name, scripted):
    llm, _ = scripted(failing(name))
    with pytest.raises(HermesError, match=re.escape(str(FAILURES[name]()))):
        FaithfulnessEvaluator(llm=llm).evaluate(response="Oslo.", contexts=["Oslo is the capital of Norway."])
