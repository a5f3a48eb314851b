"""The server engine over a real server that runs tiny-hermes: the same prompts, calls and text as the engine itself."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llguidance import LLMatcher, grammar_from
from typer.testing import CliRunner

from hermes_adapters.app import app
from hermes_runtime.control_tokens import control_tokens
from hermes_runtime.engines.base import GenerationRequest
from hermes_runtime.engines.registry import load_engine
from hermes_runtime.engines.server.engine import ServerEngine
from hermes_runtime.engines.server.prompt_text import PromptText
from hermes_runtime.engines.server.wire import GRAMMAR_FORMS
from hermes_runtime.errors import InvalidRequestError, ModelNotFoundError, UnmetDemandError
from hermes_runtime.grammar import build_grammar
from hermes_runtime.messages import System, User
from hermes_runtime.options.generation import SamplingParams
from hermes_runtime.prompt import build_prompt
from hermes_runtime.turn import Turn, render
from tests.support.completion_server import TEXT_ONLY, VLLM, CompletionServer
from tests.support.requests import changed, generation_request
from tests.support.server_turns import ASK, INJECTION, PERSON, REQUESTS, WEATHER, doctor_on, finish, spelled
from tests.support.weather import get_weather


@pytest.fixture(scope="module")
def local():
    return load_engine("tiny-hermes", device="cpu")


@pytest.fixture(scope="module")
def over(local):
    """Makes server engines over the local one."""
    opened = []

    def make(abilities=VLLM, **options):
        server = CompletionServer(local, abilities)
        opened.append(server)
        engine = ServerEngine("tiny-hermes", base_url=server.url, **options)
        opened.append(engine)
        return engine, server

    yield make
    for resource in reversed(opened):
        resource.close()


@pytest.fixture(scope="module")
def as_vllm(over):
    return over()


@pytest.fixture(scope="module")
def as_text(over):
    return over(TEXT_ONLY)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_turn_is_the_local_engines_turn(local, as_vllm, name):
    engine, server = as_vllm
    _, here = finish(local, REQUESTS[name])
    _, there = finish(engine, REQUESTS[name])
    assert spelled(there) == spelled(here)
    assert there.token_ids == here.token_ids
    assert (there.usage.prompt_tokens, there.usage.completion_tokens) == (
        here.usage.prompt_tokens,
        here.usage.completion_tokens,
    )
    assert server.prompts[-1] == list(render(local, REQUESTS[name]).token_ids)
    assert len(there.logprobs or ()) == len(here.logprobs or ())
    for one, other in zip(there.logprobs or (), here.logprobs or (), strict=True):
        assert (one.id, one.text, one.logprob) == (other.id, other.text, pytest.approx(other.logprob, abs=1e-4))
        assert [top.id for top in one.top] == [top.id for top in other.top]


async def test_a_turn_in_an_event_loop_is_the_same(local, as_vllm):
    turns = [Turn(as_vllm[0], replace(ASK, messages=[User(f"What is the weather in {city}?")])) for city in CITIES]

    async def run(turn):
        async for _ in turn:
            pass
        return turn.result

    results = await asyncio.gather(*(run(turn) for turn in turns))
    for city, result in zip(CITIES, results, strict=True):
        _, here = finish(local, replace(ASK, messages=[User(f"What is the weather in {city}?")]))
        assert spelled(result) == spelled(here)


CITIES = ("Bergen", "Ostend", "Lisbon", "Oslo")


def test_what_the_server_can_do_is_found_out_by_trying(as_vllm, as_text):
    (full, _), (bare, _) = as_vllm, as_text
    assert (full.profile.kind, bare.profile.kind) == ("vLLM", "LM Studio")
    assert (full.profile.takes_ids, full.profile.tells_ids, full.profile.tells_logprobs) == (True, True, True)
    assert (bare.profile.takes_ids, bare.profile.tells_ids, bare.profile.tells_logprobs) == (False, False, False)
    assert (full.profile.grammar, bare.profile.grammar) == ("structured_outputs", None)
    assert (full.grammar_language, bare.grammar_language) == ("lark", None)
    assert full.context_window == 8192
    assert full.profile.model == "tiny"


def test_a_grammar_that_is_silently_ignored_is_not_relied_on(over):
    engine, _ = over(replace(VLLM, takes_grammar=False))
    assert engine.grammar_language is None
    with pytest.raises(InvalidRequestError, match="no grammar"):
        engine.submit(GenerationRequest((1, 2), constraint="start: /a/\n"))


def test_several_models_and_none_of_that_name_is_an_error(over, as_vllm):
    _, server = as_vllm
    with pytest.raises(ModelNotFoundError, match=r"'other'.*'tiny'"):
        ServerEngine("tiny-hermes", base_url=server.url, served_model="other")


def test_a_window_larger_than_the_servers_is_refused(as_vllm):
    with pytest.raises(InvalidRequestError, match="8192"):
        ServerEngine("tiny-hermes", base_url=as_vllm[1].url, context_window=100_000)


def test_the_next_turn_extends_the_last_one_token_for_token(as_vllm):
    engine, server = as_vllm
    first = changed(ASK, messages=[User("Hello.")], tools=(), max_tokens=None)
    _, result = finish(engine, first)
    _, second = finish(engine, replace(first, messages=[User("Hello."), _said(result), User("And now?")]))
    before = [*server.prompts[-2], *result.token_ids]
    assert server.prompts[-1][: len(before)] == before
    assert second.usage.prompt_tokens == len(server.prompts[-1])


def _said(result):
    from hermes_runtime.messages import Assistant

    return Assistant(result.content, result.tool_calls)


@pytest.mark.parametrize("adds_bos", [True, False])
def test_text_in_and_out_says_the_same(local, over, adds_bos):
    engine, server = over(replace(TEXT_ONLY, adds_bos=adds_bos))
    _, here = finish(local, replace(ASK, constrained=False))
    _, there = finish(engine, ASK)
    assert spelled(there) == spelled(here)
    assert server.prompts[-1] == list(render(local, ASK).token_ids)
    assert there.usage == replace(there.usage, prompt_tokens=here.usage.prompt_tokens)


def test_content_opens_no_turn_on_a_server_of_text(local, as_text):
    engine, server = as_text
    request = changed(ASK, messages=[System("Be kind."), User(INJECTION)], max_tokens=4)
    finish(engine, request)
    assert _controls(local.tokenizer, server.prompts[-1]) == _controls(
        local.tokenizer, render(local, request).token_ids
    )


def _controls(tokenizer, ids):
    control = {tokenizer.convert_tokens_to_ids(token) for token in control_tokens(tokenizer)}
    return [token for token in ids if token in control]


_FRAGMENTS = st.sampled_from(
    ["<|im_end|>", "<|im_start|>", "<s>", "</s>", "<|im_", "end|>", "<", "|>", "\n", " ", "é🦊"]
)


@given(content=st.lists(_FRAGMENTS | st.text(max_size=4), max_size=8).map("".join))
def test_no_content_opens_a_turn_once_it_is_text(content, local, mistral_tokenizer):
    for tokenizer in (local.tokenizer, mistral_tokenizer):
        ids = build_prompt([User(content)], tokenizer=tokenizer).token_ids
        text = PromptText(tokenizer).write(ids, with_bos=True)
        assert _controls(tokenizer, tokenizer.encode(text, add_special_tokens=False)) == _controls(tokenizer, ids)
        if not any(token in content for token in control_tokens(tokenizer)):
            assert content.strip() in text


@pytest.mark.parametrize(
    ("question", "choice", "is_met"),
    [
        ("What is the weather in Bergen?", "required", True),
        ("What is the weather in Bergen?", "get_weather", True),
        ("Hello.", "none", True),
        ("Hello.", "required", False),
    ],
)
def test_without_a_grammar_a_tool_choice_is_checked_not_ignored(as_text, question, choice, is_met):
    greedy = changed(ASK, messages=[User(question)], sampling=SamplingParams(temperature=0.0), max_tokens=200)
    turn = Turn(as_text[0], replace(greedy, tool_choice=choice))
    with nullcontext() if is_met else pytest.raises(UnmetDemandError, match="in vain"):
        list(turn)
    if is_met:
        assert bool(turn.result.tool_calls) is (choice != "none")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"min_p": 0.1}, "min_p"),
        ({"logprobs": 1}, "log-probabilities"),
        ({"stop_ids": (5,)}, "stops at no token ids"),
    ],
)
def test_what_a_server_cannot_honor_is_refused(as_text, options, named):
    sampling = SamplingParams(min_p=options.pop("min_p", None))
    with pytest.raises(InvalidRequestError, match=named):
        as_text[0].submit(generation_request((1, 2), sampling=sampling, **options))


def test_options_reach_the_server_under_its_names(as_vllm, as_text):
    sampling = SamplingParams(temperature=0.5, top_p=0.9, top_k=0, repetition_penalty=1.1)
    for engine, server in (as_vllm, as_text):
        list(engine.submit(generation_request((1, 5), sampling=sampling, seed=2**31 + 5, max_tokens=1)))
        body = server.bodies[-1]
        assert (body["temperature"], body["top_p"], body["seed"], body["max_tokens"]) == (0.5, 0.9, 5, 1)
    assert as_vllm[1].bodies[-1]["top_k"] == -1
    assert as_text[1].bodies[-1]["top_k"] == 0
    assert as_vllm[1].bodies[-1]["repetition_penalty"] == as_text[1].bodies[-1]["repeat_penalty"] == 1.1


RESHAPED = SamplingParams(
    temperature=0.0, frequency_penalty=0.7, presence_penalty=-0.3, logit_bias={5: 1.5, 40: -2.0, 13: 3.0}
)


def test_penalties_biases_and_a_least_length_say_the_same_over_a_wire(local, as_vllm):
    engine, server = as_vllm
    asked = changed(ASK, sampling=RESHAPED, min_tokens=30, max_tokens=60, constrained=False, stop=("e",), tools=())
    (events, there), (same_events, here) = finish(engine, asked), finish(local, asked)
    assert (events, there.token_ids) == (same_events, here.token_ids)
    assert len(there.token_ids) > 30
    body = server.bodies[-1]
    assert (body["frequency_penalty"], body["presence_penalty"], body["min_tokens"]) == (0.7, -0.3, 30)
    assert body["logit_bias"] == {"5": 1.5, "40": -2.0, "13": 3.0}
    assert "stop" not in body  # found here: not every server lets those pass that come too soon


def test_what_is_not_asked_for_is_not_sent(as_vllm):
    engine, server = as_vllm
    list(engine.submit(generation_request((1, 5), max_tokens=1)))
    assert not {"frequency_penalty", "presence_penalty", "logit_bias", "min_tokens"} & server.bodies[-1].keys()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"min_tokens": 2}, r"this server \(LM Studio\) has no min_tokens; leave it out, got 2"),
        ({"sampling": SamplingParams(frequency_penalty=0.5)}, "no frequency_penalty of what was generated alone"),
        ({"sampling": SamplingParams(presence_penalty=0.5)}, "no presence_penalty of what was generated alone"),
        ({"sampling": SamplingParams(logit_bias={5: 1})}, "no logit_bias"),
    ],
)
def test_what_else_a_server_cannot_honor_is_refused(as_text, options, said):
    engine, server = as_text
    asked = len(server.bodies)
    with pytest.raises(InvalidRequestError, match=said):
        engine.submit(generation_request((1, 2), **options))
    neutral = SamplingParams(frequency_penalty=0, presence_penalty=0.0, logit_bias={})
    list(engine.submit(generation_request((1, 2), sampling=neutral, min_tokens=0, max_tokens=1)))
    assert len(server.bodies) == asked + 1


def test_a_least_length_and_a_grammar_are_not_asked_of_a_server_together(as_vllm):
    with pytest.raises(InvalidRequestError, match=r"vLLM\) keeps min_tokens without a grammar only.*constrained=False"):
        as_vllm[0].submit(generation_request((1, 2), constraint="start: /a/\n", min_tokens=2))


def test_one_engine_for_one_address(as_vllm):
    _, server = as_vllm
    one = load_engine("tiny-hermes", base_url=server.url)
    try:
        assert load_engine("tiny-hermes", base_url=server.url, engine="server") is one
        assert load_engine("tiny-hermes", base_url=server.url, engine_options={"headers": {"X-A": "1"}}) is not one
    finally:
        one.close()


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": "localhost:8000"},
        {"base_url": "http://localhost:1", "max_retries": -1},
        {"base_url": "ftp://localhost"},
        {"base_url": 7},
        {"engine": "server"},
        {"base_url": "http://localhost:1", "kernel": "torch"},
        {"base_url": "http://localhost:1", "engine_options": {"tensor_parallel_size": 2}},
        {"engine_options": {"served_model": "elsewhere"}},
        {"api_key": "k"},
    ],
)
def test_options_that_fit_no_engine_are_refused_before_anything_is_asked(options):
    with pytest.raises(InvalidRequestError):
        load_engine("tiny-hermes", **options)


async def test_agents_of_both_frameworks_run_over_a_server(as_vllm, cities_asked):
    from langchain.agents import create_agent
    from llama_index.core.agent.workflow import FunctionAgent

    from langchain_hermes import ChatHermes
    from llama_index_hermes import HermesLLM

    said = []
    _, server = as_vllm
    options = {"model": "tiny-hermes", "temperature": 0, "max_tokens": 200}
    for where in ({"base_url": server.url, "api_key": "k"}, {"device": "cpu"}):
        agent = create_agent(ChatHermes(**options, **where), [get_weather])
        messages = (await agent.ainvoke({"messages": [("user", "What is the weather in Bergen?")]}))["messages"]
        said.append(messages[-1].text)
        answer = await FunctionAgent(llm=HermesLLM(**options, **where), tools=[get_weather]).run(
            "What is the weather in Ostend?"
        )
        said.append(str(answer))
    assert said[:2] == said[2:]
    assert cities_asked == ["Bergen", "Ostend"] * 2
    assert len(server.bodies) >= 4


@pytest.mark.parametrize(("abilities", "said"), [(VLLM, "vLLM"), (TEXT_ONLY, "LM Studio")])
def test_doctor_tells_what_a_server_can_do(local, abilities, said):
    told = doctor_on(CompletionServer(local, abilities))
    assert said in told
    assert "8192" in told
    assert ("✗" in told) is (abilities is TEXT_ONLY)


def test_doctor_asks_for_one_of_several_models(as_vllm):
    result = CliRunner().invoke(app, ["doctor", "--base-url", as_vllm[1].url, "--served-model", "other"])
    assert result.exit_code == 1
    assert "'other'" in result.output


def test_doctor_says_that_nobody_answers():
    result = CliRunner().invoke(app, ["doctor", "--base-url", "http://127.0.0.1:9/v1"])
    assert result.exit_code == 1
    assert "no server answers" in result.output


@pytest.mark.parametrize("name", GRAMMAR_FORMS)
def test_every_form_of_a_grammar_is_one_that_llguidance_reads(name):
    form = GRAMMAR_FORMS[name]
    grammar = build_grammar([WEATHER], schema=PERSON, language=form.language)
    (field,) = body = form.fields(grammar.text)
    text = body[field]["grammar"] if field == "structured_outputs" else body[field]
    if field == "ebnf" or form.language == "gbnf":  # as SGLang's llguidance backend converts it
        text = grammar_from("ebnf", text)
    assert not LLMatcher.validate_grammar(text)


def test_no_text_is_beyond_encoding(as_vllm):
    engine, _ = as_vllm
    lone = "\ud83d"
    request = changed(ASK, messages=[User(f"Hi {lone}")], stop=(lone,), max_tokens=4)
    _, result = finish(engine, request)
    assert result.usage.completion_tokens
