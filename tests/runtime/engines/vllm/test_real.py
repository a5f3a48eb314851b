"""A real vLLM, in this process and as a server of its own; skipped where vLLM is not installed (see `make test-vllm`).

Both run the embedded checkpoint with its weights written out in float32, as the local engine does for comparison: then
the same request, greedy, gives the same text everywhere.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace

import pytest

pytest.importorskip("vllm", reason="vLLM has an environment of its own")

from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from transformers import AutoTokenizer

from hermes_runtime.engines.base import Usage
from hermes_runtime.engines.registry import load_engine
from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.messages import Assistant, User
from hermes_runtime.options.generation import SamplingParams
from hermes_runtime.turn import render
from langchain_hermes import ChatHermes
from llama_index_hermes import HermesLLM
from tests.llama_index_contract.hermes import HermesContract
from tests.support.real_server import serve
from tests.support.requests import changed, generation_request, turn_request
from tests.support.server_turns import ASK, REQUESTS, finish, spelled
from tests.support.standard_suite import IntegrationSuite
from tests.support.weather import get_weather

pytestmark = pytest.mark.timeout(1200)
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
WINDOW = 2048
PLACES = ("in process", "served")


@pytest.fixture(scope="session")
def local(dense_tiny):
    return load_engine(str(dense_tiny), device="cpu", context_window=WINDOW)


@pytest.fixture(scope="session")
def served(dense_tiny):
    """The address of `vllm serve`."""
    # What `vllm serve` runs; the command itself does not start from the builds for the CPU, which have another name.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1"]
    command += ["--model", dense_tiny, "--dtype", "float32", "--max-model-len", WINDOW, "--enforce-eager"]
    command += ["--enable-prompt-tokens-details", "--port"]
    with serve(lambda port: [*command, port], "/health") as address:
        yield f"{address}/v1"


@pytest.fixture(scope="session", params=PLACES)
def where(request, dense_tiny):
    """The options of `load_engine`, and of both chat models, for one place."""
    if request.param == "served":
        return {"model": str(dense_tiny), "base_url": request.getfixturevalue("served")}
    return {
        "model": str(dense_tiny),
        "engine": "vllm",
        "context_window": WINDOW,
        "engine_options": {"dtype": "float32", "enforce_eager": True},
    }


@pytest.fixture(scope="session")
def engine(where):
    opened = load_engine(**where)
    yield opened
    opened.close()


@pytest.mark.parametrize("name", REQUESTS)
def test_greedy_turns_are_the_local_engines(local, engine, name):
    request = REQUESTS[name]
    if name == "seeded":  # every engine has its own random numbers
        request = changed(request, sampling=SamplingParams(temperature=0))
    if name == "logprobs":  # vLLM's are of what the grammar leaves, the local engine's of all
        request = replace(request, constrained=False)
    _, here = finish(local, request)
    _, there = finish(engine, request)
    assert spelled(there) == spelled(here)
    assert there.token_ids == here.token_ids
    assert there.usage.prompt_tokens == here.usage.prompt_tokens == len(render(engine, request).token_ids)
    for one, other in zip(there.logprobs or (), here.logprobs or (), strict=True):
        assert (one.id, one.text) == (other.id, other.text)
        assert one.logprob == pytest.approx(other.logprob, abs=1e-3)
        assert [top.id for top in one.top] == [top.id for top in other.top]


def test_the_same_seed_gives_the_same_answer(engine):
    request = turn_request([User("xyzzy")], sampling=SamplingParams(temperature=2.0), max_tokens=40)
    answers = [finish(engine, changed(request, seed=seed))[1].token_ids for seed in (5, 5, 6, 7)]
    assert answers[0] == answers[1]
    assert len(set(answers)) > 1


@pytest.mark.parametrize("seed", range(10))
def test_at_temperature_one_the_grammar_holds(engine, seed):
    request = changed(
        ASK, messages=[User("Hello.")], tool_choice="required", sampling=SamplingParams(temperature=1.0), seed=seed
    )
    _, result = finish(engine, changed(request, max_tokens=400, max_calls=2))
    if result.finish_reason == "length":
        return
    assert result.tool_calls
    assert not result.invalid_tool_calls
    assert not [problem for call in result.tool_calls for problem in call.problems]


@pytest.fixture(scope="module")
def tagged(dense_tiny, tmp_path_factory):
    """An engine of a vocabulary in which the tags are one token each, as Hermes 3's are."""
    folder = shutil.copytree(dense_tiny, tmp_path_factory.mktemp("tagged") / "tiny")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    spelled_first = tokenizer.encode('<tool_call>\n{"arguments": ', add_special_tokens=False)[0]
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in ("<tool_call>", "</tool_call>")])
    tokenizer.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    for name in ("lm_head.weight", "model.embed_tokens.weight"):  # as likely as what it stands for
        weights[name][tokenizer.convert_tokens_to_ids("<tool_call>")] = weights[name][spelled_first]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    options = {"dtype": "float32", "enforce_eager": True}
    opened = load_engine(str(folder), engine="vllm", context_window=WINDOW, engine_options=options)
    yield opened
    opened.close()


@pytest.mark.parametrize("choice", ["required", "auto"])
def test_tags_that_are_tokens_can_be_written(tagged, choice):
    opening = tagged.tokenizer.convert_tokens_to_ids("<tool_call>")
    request = changed(
        ASK, messages=[User("Hello.")], tool_choice=choice, sampling=SamplingParams(temperature=1.5), max_tokens=300
    )
    results = [finish(tagged, changed(request, max_calls=1, seed=seed))[1] for seed in range(8)]
    ended = [result for result in results if result.finish_reason != "length"]
    assert ended
    assert not [call for result in ended for call in result.invalid_tool_calls]
    if choice == "required":
        assert all(result.tool_calls for result in ended)
        assert any(opening in result.token_ids for result in results)


def test_the_next_turn_finds_the_last_one_in_the_cache(engine):
    said = "What is the weather in " + " and in ".join(str(number) for number in range(200)) + "?"
    first = changed(ASK, messages=[User(said)], tools=(), max_tokens=40)
    _, result = finish(engine, first)
    again = [User(said), Assistant(result.content, result.tool_calls), User("And now?")]
    _, second = finish(engine, replace(first, messages=again))
    assert second.usage.cached_tokens > 0


def test_leaving_a_stream_frees_the_engine(engine):
    endless = generation_request((1, 5, 6), constraint="start: /a+/\n", sampling=SamplingParams(temperature=0))
    for _ in range(3):
        deltas = iter(engine.submit(endless))
        next(deltas)
        deltas.close()
    generation = engine.submit(changed(endless, max_tokens=5))
    assert len([token for delta in generation for token in delta.ids]) == 5
    assert generation.usage == Usage(3, 5, generation.usage.cached_tokens)


def test_a_grammar_that_is_none_is_refused_and_the_next_request_works(engine):
    with pytest.raises(InvalidRequestError):
        list(engine.submit(generation_request((1, 5, 6), constraint="start: nonsense (\n", max_tokens=4)))
    assert list(engine.submit(generation_request((1, 5, 6), max_tokens=4)))


async def test_agents_of_both_frameworks_call_their_tool(where, cities_asked):
    from langchain.agents import create_agent
    from llama_index.core.agent.workflow import FunctionAgent

    options = {"temperature": 0, "max_tokens": 200, **where}
    agent = create_agent(ChatHermes(**options), [get_weather])
    answer = await agent.ainvoke({"messages": [("user", "What is the weather in Bergen?")]})
    assert "9 degrees" in answer["messages"][-1].text
    answer = await FunctionAgent(llm=HermesLLM(**options), tools=[get_weather]).run("What is the weather in Ostend?")
    assert "17 degrees" in str(answer)
    assert cities_asked == ["Bergen", "Ostend"]


class _Placed:
    """Runs a suite in each place."""

    @pytest.fixture(scope="class", autouse=True)
    def _place(self, request, where):
        request.cls.where = where


class TestLangChain(_Placed, IntegrationSuite):
    @property
    def chat_model_params(self):
        return {"repetition_penalty": 1.1, "max_tokens": 300, **self.where}

    @property
    def model_override_value(self):
        return self.where["model"]

    @property
    def enable_vcr_tests(self):
        return "base_url" not in self.where  # they keep requests from reaching a server


class TestLlamaIndex(_Placed, HermesContract):
    scriptable = False
    thinks = False

    def llm(self, **options):
        return super().llm(**{**self.where, **options})
