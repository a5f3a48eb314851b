"""Options, errors and everything else around a call: what is honored arrives, what is not raises."""

from __future__ import annotations

import asyncio
import copy
import pickle
from dataclasses import replace

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.exceptions import ContextOverflowError, ModelAPIError, ModelInvalidRequestError, ModelNotFoundError
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage, trim_messages
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import ConfigurableField
from pydantic import BaseModel, create_model

import hermes_runtime.errors as runtime
from hermes_runtime.engines import registry
from hermes_runtime.options.generation import SamplingParams
from langchain_hermes import (
    ChatHermes,
    HermesContextOverflowError,
    HermesEngineError,
    HermesInvalidRequestError,
    HermesUnmetDemandError,
)
from langchain_hermes._errors import as_langchain_error
from tests.support.scripted_engine import ScriptedEngine


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def negate(a: int) -> int:
    """Negate a number."""
    return -a


def test_fields_and_options_of_a_call_arrive_and_the_call_wins(scripted):
    llm, engine = scripted(
        lambda prompt: "x", temperature=0.5, top_p=0.9, seed=1, max_tokens=9, stop=["\n"], timeout=30
    )
    llm.invoke("Hi")
    llm.invoke("Hi", temperature=0.0, top_k=5, min_p=0.1, repetition_penalty=1.2, seed=2, max_tokens=3, stop=["."])
    llm.invoke("Hi", temperature=None, stop=[])
    first, second, third = (request.options for request in engine.requests)
    assert first.sampling == SamplingParams(temperature=0.5, top_p=0.9)
    assert (first.seed, first.max_tokens, first.stop, first.timeout) == (1, 9, ("\n",), 30)
    assert second.sampling == SamplingParams(0.0, 0.9, 5, 0.1, 1.2)
    assert (second.seed, second.max_tokens, second.stop) == (2, 3, (".",))
    assert (third.sampling, third.stop) == (first.sampling, ())


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_k": -1},
        {"min_p": 2.0},
        {"repetition_penalty": 0.0},
        {"max_tokens": 0},
        {"timeout": 0.0},
        {"max_retries": -1},
        {"max_repairs": -1},
        {"logprobs": True, "top_logprobs": 21},
        {"logprobs": False, "top_logprobs": 2},
        {"stop": [""]},
        {"dialect": "klingon"},
        {"temperature": "hot"},
        {"base_url": "http://localhost:8000/v1", "engine": "vllm"},
        {"kernel": "fast", "engine": "vllm"},
        {"engine_options": 3},
        {"temprature": 0.5},
    ],
)
def test_a_bad_option_is_refused_by_name_at_construction(options):
    with pytest.raises(HermesInvalidRequestError, match=next(iter(options))):
        ChatHermes(model="tiny-hermes", **options)


def test_a_model_is_needed():
    with pytest.raises(HermesInvalidRequestError, match="model"):
        ChatHermes()


@pytest.mark.parametrize("options", [{"n": 2}, {"temprature": 0.5}, {"frequency_penalty": 1.0, "nonsense": "me"}])
def test_an_option_that_cannot_be_honored_in_a_call_is_refused_by_name(scripted, options):
    llm, engine = scripted(["Hello"])
    with pytest.raises(HermesInvalidRequestError) as raised:
        llm.invoke("Hi", **options)
    assert all(name in str(raised.value) for name in options)
    assert engine.requests == []
    assert llm.invoke("Hi").content == "Hello"


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1},
        {"temperature": "hot"},
        {"max_tokens": "many"},
        {"timeout": "long"},
        {"seed": "lucky"},
        {"max_repairs": "some"},
        {"max_retries": True},
        {"constrained": "yes"},
        {"parallel_tool_calls": 1},
        {"dialect": "klingon"},
        {"model": 3},
        {"stop": [3]},
    ],
)
def test_a_bad_option_of_a_call_is_refused_before_any_computation(scripted, options):
    llm, engine = scripted(["Hello"])
    with pytest.raises(HermesInvalidRequestError, match=next(iter(options))):
        llm.invoke("Hi", **options)
    assert engine.requests == []
    assert llm.invoke("Hi").content == "Hello"


def _astreamed(model, seen):
    async def read():
        async for chunk in model.astream("Hi"):
            seen.append(chunk)

    asyncio.run(read())


WAYS = {
    "invoke": lambda model, seen: seen.append(model.invoke("Hi")),
    "ainvoke": lambda model, seen: seen.append(asyncio.run(model.ainvoke("Hi"))),
    "stream": lambda model, seen: seen.extend(model.stream("Hi")),
    "astream": _astreamed,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_demanded_call_that_never_comes_is_an_error_and_is_not_retried(scripted, way):
    llm, engine = scripted(["It is 3.", "I said 3."], constrained=False, max_repairs=1, max_retries=3)
    bound, seen = llm.bind_tools([add], tool_choice="any"), []
    with pytest.raises(HermesUnmetDemandError, match="in vain"):
        WAYS[way](bound, seen)
    assert seen == []
    assert len(engine.requests) == 2


@pytest.mark.parametrize("way", WAYS)
def test_a_demanded_call_is_made_without_a_grammar(scripted, way):
    call = "<tool_call>\n{'arguments': {'a': 1, 'b': 2}, 'name': 'add'}\n</tool_call>"
    llm, engine = scripted([call], constrained=False)
    seen = []
    WAYS[way](llm.bind_tools([add], tool_choice="any"), seen)
    assert [made["args"] for chunk in seen for made in chunk.tool_calls] == [{"a": 1, "b": 2}]
    assert engine.requests[0].constraint is None
    assert not llm.profile["structured_output"]


def test_the_model_may_be_named_as_others_name_it():
    assert ChatHermes(model_name="tiny-hermes").model == ChatHermes(model="tiny-hermes").model_name == "tiny-hermes"


# Errors


def test_a_prompt_too_long_is_the_frameworks_overflow_with_both_numbers(scripted):
    llm, engine = scripted(["Hello"], engine_options={"context_window": 64})
    with pytest.raises(ContextOverflowError) as raised:
        llm.invoke("word " * 100)
    assert isinstance(raised.value, HermesContextOverflowError)
    assert raised.value.context_window == 64
    assert raised.value.prompt_tokens > 100
    assert engine.requests == []
    assert llm.invoke("Hi").content == "Hello"


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in vars(runtime).values()
        if isinstance(kind, type) and issubclass(kind, runtime.HermesError) and kind is not runtime.HermesError
    ],
)
def test_every_error_of_the_runtime_has_its_twin(kind):
    error = kind(5, 4) if kind is runtime.ContextWindowExceededError else kind("what was wrong")
    twin = as_langchain_error(error)
    assert isinstance(twin, kind)
    assert type(twin) is not kind
    assert str(twin) == str(error)
    assert as_langchain_error(twin) is twin


def test_a_model_that_does_not_exist_is_the_frameworks_not_found(tmp_path):
    with pytest.raises(ModelNotFoundError, match="nowhere"):
        ChatHermes(model=str(tmp_path / "nowhere")).invoke("Hi")


def test_an_image_is_refused_by_its_type(scripted):
    llm, engine = scripted(["Hello"])
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    with pytest.raises(ModelInvalidRequestError, match="image"):
        llm.invoke([HumanMessage([{"type": "text", "text": "Look:"}, image])])
    with pytest.raises(ModelInvalidRequestError, match="empty"):
        llm.invoke([])
    assert engine.requests == []
    assert llm.invoke("Hi").content == "Hello"


@pytest.mark.parametrize(("max_retries", "answers"), [(0, False), (1, False), (2, True)])
def test_a_failed_engine_is_asked_again_as_often_as_allowed(scripted, max_retries, answers):
    failures = iter([True, True, False])

    def reply(prompt):
        if next(failures):
            raise runtime.EngineError("a kernel failed")
        return "Hello"

    llm, _ = scripted(reply, max_retries=max_retries)
    if answers:
        assert llm.invoke("Hi").content == "Hello"
    else:
        with pytest.raises(ModelAPIError, match="a kernel failed") as raised:
            llm.invoke("Hi")
        assert isinstance(raised.value, HermesEngineError)


def test_an_answer_that_has_begun_is_not_begun_again(scripted):
    llm, engine = scripted(["Hello there"], max_retries=2, engine_options={"pause_after": 2})
    stream = llm.stream("Hi")
    next(stream)
    engine.runs[0].channel.fail(runtime.EngineError("a kernel failed"))
    with pytest.raises(HermesEngineError):
        list(stream)
    assert len(engine.requests) == 1


def test_a_call_that_breaks_its_schema_is_repaired_on_request(scripted):
    broken = "<tool_call>\n{'arguments': {'a': 'one'}, 'name': 'negate'}\n</tool_call>"
    replies = [broken, broken.replace("'one'", "1")]
    llm, engine = scripted(replies, max_repairs=1, constrained=False)
    message = llm.bind_tools([negate]).invoke("Hi")
    assert message.tool_calls[0]["args"] == {"a": 1}
    assert message.response_metadata["repairs"] == 1
    assert len(engine.requests) == 2


def test_a_server_is_given_its_address_key_and_retries_and_a_local_engine_is_not(monkeypatch, mistral_tokenizer):
    made = []

    def load(model, **options):
        made.append(options)
        return ScriptedEngine(mistral_tokenizer, lambda prompt: "Hello")

    monkeypatch.setattr(registry, "_ENGINES", {})
    for kind in ("local", "server"):
        monkeypatch.setitem(registry._KINDS, kind, replace(registry._KINDS[kind], make=load))
    shared = {"model": "m", "api_key": "sk-secret", "max_retries": 3}
    served = ChatHermes(**shared, base_url="http://localhost:1/v1", engine_options={"served_model": "x"})
    for llm in (served, ChatHermes(**shared)):
        assert llm.invoke("Hi").content == "Hello"
        assert "sk-secret" not in repr(llm) + str(llm.asdict())
    to_server = {"base_url": "http://localhost:1/v1", "api_key": "sk-secret", "max_retries": 3}
    assert made == [{**to_server, "engine_options": {"served_model": "x"}}, {}]


def test_log_probabilities_are_turned_off_for_one_call(scripted):
    llm, engine = scripted(lambda prompt: "Hello", top_logprobs=2)
    llm.invoke("Hi")
    llm.invoke("Hi", logprobs=False)
    assert [request.options.logprobs for request in engine.requests] == [2, None]


# Counting


def test_counts_are_those_of_the_prompt_that_is_sent(scripted):
    llm, engine = scripted(lambda prompt: "Hello")
    call = {"name": "add", "args": {"a": 1, "b": 2}, "id": "x"}
    history = [
        SystemMessage("Be brief."),
        HumanMessage("1 + 2?"),
        AIMessage("", tool_calls=[call]),
        ToolMessage("3", tool_call_id="x"),
    ]
    for tools in ([], [add], [add, negate]):
        usage = llm.bind_tools(tools).invoke(history).usage_metadata
        assert llm.get_num_tokens_from_messages(history, tools=tools) == usage["input_tokens"]
    assert llm.get_num_tokens_from_messages([]) == 0
    assert llm.get_num_tokens_from_messages([("human", "Hi")]) == llm.invoke("Hi").usage_metadata["input_tokens"]
    assert llm.get_token_ids("one two") == engine.tokenizer.encode("one two", add_special_tokens=False)
    assert llm.get_num_tokens("one two") == 2


def test_messages_can_be_trimmed_by_the_models_own_count(scripted):
    llm, _ = scripted([])
    history = [HumanMessage("word " * 50), AIMessage("yes"), HumanMessage("And now?")]
    trimmed = trim_messages(history, max_tokens=30, token_counter=llm, strategy="last", start_on="human")
    assert trimmed == history[2:]


# What LangChain asks beside


def test_tracing_names_provider_model_and_options(scripted):
    llm, _ = scripted([], temperature=0.5, stop="\n")
    params = llm._get_ls_params(max_tokens=3, model="other")
    assert params == {
        "ls_provider": "hermes",
        "ls_model_type": "chat",
        "ls_model_name": "other",
        "ls_temperature": 0.5,
        "ls_max_tokens": 3,
        "ls_stop": ["\n"],
    }
    assert llm._get_ls_params(stop=["a"])["ls_stop"] == ["a"]


def test_the_metadata_names_the_same_provider_and_the_model_of_the_call(scripted):
    llm, _ = scripted(lambda prompt: "Hello")
    metadata = llm.invoke("Hi", model="other").response_metadata
    assert (metadata["model_provider"], metadata["model_name"]) == ("hermes", "other")
    assert metadata["model_provider"] == llm._get_ls_params()["ls_provider"]


def test_the_cache_tells_models_and_options_apart(scripted):
    replies = iter(["one", "two", "three", "four"])
    cache = InMemoryCache()
    llm, engine = scripted(lambda prompt: next(replies), cache=cache)
    same = llm.model_copy()
    answers = [llm.invoke("Hi").content, same.invoke("Hi").content]
    assert answers == ["one", "one"]
    assert llm.model_copy(update={"model": "other"}).invoke("Hi").content == "two"
    assert llm.model_copy(update={"seed": 3}).invoke("Hi").content == "three"
    assert llm.bind_tools([add]).invoke("Hi").content == "four"
    assert len(engine.requests) == 4


def test_the_cache_knows_stop_strings_and_what_none_means(scripted):
    replies = iter(["one", "two", "three", "four"])
    llm, engine = scripted(lambda prompt: next(replies), cache=InMemoryCache())
    warm = llm.model_copy(update={"temperature": 1.0})
    stopping = llm.model_copy(update={"stop": "\n"})
    answers = [model.invoke("Hi", temperature=None).content for model in (llm, warm, stopping, stopping)]
    assert answers == ["one", "two", "three", "three"]
    assert stopping.invoke("Hi", stop=["\n"]).content == "three"
    assert len(engine.requests) == 3


def test_the_cache_tells_classes_of_one_name_apart(scripted):
    llm, engine = scripted(lambda prompt: "{}", cache=InMemoryCache())
    for default in (1, 2):
        form = create_model("Form", __base__=BaseModel, number=(int, default), **{f"field_{default}": (int, 0)})
        llm.bind_tools([add], response_format=form).invoke("Hi")
    assert len(engine.requests) == 2


def test_headers_are_shown_to_nobody():
    options = {"headers": {"X-Key": "s3cret"}, "retry_delay": 1.0}
    llm = ChatHermes(model="tiny-hermes", base_url="http://localhost:1/v1", engine_options=options)
    assert "s3cret" not in repr(llm) + str(llm.asdict()) + str(llm.to_json()) + llm._get_llm_string()
    assert llm._identifying_params["engine_options"] == {"retry_delay": 1.0}


def test_the_profile_is_corrected_by_the_engine(scripted, mistral_tokenizer, monkeypatch):
    engine = ScriptedEngine(mistral_tokenizer, lambda prompt: "Hello", context_window=640)
    monkeypatch.setattr(registry, "_ENGINES", {})
    monkeypatch.setitem(
        registry._KINDS, "local", replace(registry._KINDS["local"], make=lambda model, **options: engine)
    )
    own, given = ChatHermes(model="tiny-hermes"), ChatHermes(model="tiny-hermes", profile={"max_input_tokens": 99})
    assert own.profile["max_input_tokens"] == 8192
    for llm in (own, given):
        llm.invoke("Hi")
    assert (own.profile["max_input_tokens"], given.profile["max_input_tokens"]) == (640, 99)


def test_every_field_that_changes_an_answer_is_in_the_cache_key():
    own = set(ChatHermes.model_fields) - set(BaseChatModel.model_fields)
    without_effect = {"api_key", "timeout", "max_retries", "streaming"}
    assert set(ChatHermes(model="tiny-hermes")._identifying_params) == (own | {"output_version"}) - without_effect


@pytest.mark.parametrize("kind", [runtime.ContextWindowExceededError, HermesContextOverflowError])
def test_an_overflow_survives_the_way_to_another_process(kind):
    error = pickle.loads(pickle.dumps(kind(700, 640)))
    assert type(error) is kind
    assert (error.prompt_tokens, error.context_window) == (700, 640)
    assert "700" in str(error)


def test_a_rate_limiter_is_asked(scripted):
    class Limiter(InMemoryRateLimiter):
        asked = 0

        def acquire(self, *, blocking=True):
            type(self).asked += 1
            return True

    llm, _ = scripted(lambda prompt: "Hello", rate_limiter=Limiter())
    llm.invoke("Hi")
    list(llm.stream("Hi"))
    assert Limiter.asked == 2


def test_the_object_is_light_copies_and_pickles_and_keeps_secrets(scripted):
    llm, engine = scripted(lambda prompt: "Hello", api_key="sk-secret", temperature=0.5)
    llm.invoke("Hi")
    assert "sk-secret" not in repr(llm)
    assert "sk-secret" not in str(llm.asdict())
    for twin in (copy.deepcopy(llm), pickle.loads(pickle.dumps(llm))):
        assert twin.temperature == 0.5
        assert twin.invoke("Hi").content == "Hello"
    assert len(engine.requests) == 3


def test_fields_can_be_configured_at_run_time(scripted):
    llm, engine = scripted(lambda prompt: "Hello")
    configurable = llm.configurable_fields(temperature=ConfigurableField(id="warmth"))
    configurable.invoke("Hi", config={"configurable": {"warmth": 0.25}})
    assert engine.requests[0].options.sampling.temperature == 0.25


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"context_window": 2048}, 2048), ({}, 8192)],
)
def test_the_profile_states_the_window_and_what_the_model_cannot_read(scripted, options, expected):
    llm, _ = scripted([], **options)
    if not options:
        registry.load_engine("scripted")
        llm = ChatHermes(model="scripted")
    assert llm.profile["max_input_tokens"] == expected
    assert llm.profile["tool_calling"]
    assert llm.profile["structured_output"]
    assert not llm.profile["image_inputs"]


def test_the_profile_reads_the_window_of_a_folder_without_loading_it(tmp_path):
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 4321}')
    assert ChatHermes(model=str(tmp_path)).profile["max_input_tokens"] == 4321
    assert "max_input_tokens" not in ChatHermes(model=str(tmp_path / "nowhere")).profile
