"""The vLLM engine's own part, over a stand-in: what is asked of vLLM, and what becomes of its answers and failures."""

from __future__ import annotations

import asyncio
import sys

import pytest

from hermes_runtime.engines.base import Usage
from hermes_runtime.engines.registry import load_engine
from hermes_runtime.engines.vllm import VLLMEngine
from hermes_runtime.errors import (
    ContextWindowExceededError,
    EngineError,
    GenerationTimeoutError,
    InvalidRequestError,
)
from hermes_runtime.options.generation import SamplingParams
from tests.support import fake_vllm
from tests.support.requests import generation_request

END = 3  # tiny-hermes' end of turn


@pytest.fixture
def opened(monkeypatch):
    """Opens engines over the stand-in and closes them."""
    engines = []

    def make(*script, version="0.32.0", **options):
        llms = fake_vllm.install(monkeypatch, script, version=version)
        engines.append(VLLMEngine("tiny-hermes", **options))
        return engines[-1], llms[-1]

    yield make
    for engine in engines:
        engine.close()


def ask(**options):
    return generation_request((1, 5, 6), **options)


def test_without_vllm_the_error_is_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(EngineError, match=r"pip install 'hermes-adapters\[vllm\]'"):
        load_engine("tiny-hermes", engine="vllm")


def test_a_vllm_that_is_too_old_is_named_with_the_line_that_installs_another(monkeypatch):
    fake_vllm.install(monkeypatch, version="0.11.2")
    with pytest.raises(EngineError, match=r"0\.32 or newer and 0\.11\.2 is installed; run: pip install"):
        load_engine("tiny-hermes", engine="vllm")


def test_a_vllm_that_lacks_what_is_used_is_an_error_too(monkeypatch):
    fake_vllm.install(monkeypatch)
    monkeypatch.setitem(sys.modules, "vllm.v1.engine.async_llm", None)
    with pytest.raises(EngineError, match=r"cannot be used .*pip install"):
        load_engine("tiny-hermes", engine="vllm")


def test_engine_options_are_passed_through_and_prefixes_are_cached(opened):
    options = {"tensor_parallel_size": 2, "distributed_executor_backend": "ray"}
    engine, llm = opened(END, context_window=48, engine_options=options)
    assert options.items() <= llm.args.items()
    assert llm.args["enable_prefix_caching"] is True
    assert llm.args["structured_outputs_config"].backend == "guidance"
    assert llm.args["model"].endswith("checkpoint")
    assert engine.context_window == llm.args["max_model_len"] == 48
    assert opened(END, engine_options={"enable_prefix_caching": False})[1].args["enable_prefix_caching"] is False


def test_options_that_vllm_does_not_know_are_refused(opened):
    with pytest.raises(InvalidRequestError, match="tensor_paralel_size"):
        opened(END, engine_options={"tensor_paralel_size": 2})


def test_a_model_that_vllm_cannot_run_is_an_error(opened):
    with pytest.raises(EngineError, match="no such memory"):
        opened(END, engine_options={"gpu_memory_utilization": 7})


def test_a_request_reaches_vllm_as_ids_grammar_and_options(opened):
    engine, llm = opened(END)
    request = ask(
        sampling=SamplingParams(temperature=0.5, top_k=7),
        constraint="start: /a/\n",
        stop=("x",),
        stop_ids=(8,),
        seed=2**31 + 4,
        logprobs=2,
    )
    list(engine.submit(request))
    prompt, params = llm.asked[0]
    assert prompt == [1, 5, 6]
    assert (params.temperature, params.top_k, params.top_p, params.repetition_penalty) == (0.5, 7, 1.0, 1.0)
    assert params.structured_outputs.grammar == "%llguidance {}\nstart: /a/\n"
    assert (params.seed, params.logprobs, params.max_tokens) == (4, 2, 61)
    assert params.stop_token_ids == [END, 8]
    assert (params.frequency_penalty, params.presence_penalty, params.logit_bias, params.min_tokens) == (0, 0, None, 0)
    assert (params.detokenize, params.output_kind) == (False, "delta")


def test_deltas_carry_ids_text_and_logprobs(opened):
    engine, _ = opened(40, 41, END)
    generation = engine.submit(ask(logprobs=1))
    deltas = list(generation)
    assert [delta.ids for delta in deltas] == [(40,), (41,), (END,), ()]
    assert "".join(delta.text for delta in deltas) == engine.tokenizer.decode([40, 41])
    assert deltas[0].logprobs[0].logprob == -0.5
    assert [top.id for top in deltas[0].logprobs[0].top] == [9]
    assert deltas[-1].finish_reason == "stop"
    assert generation.usage == Usage(3, 3, cached_tokens=2)


def test_a_stop_string_ends_the_request_at_vllm_too(opened):
    engine, llm = opened(40, 41, 42, "wait")
    text = engine.tokenizer.decode([40, 41, 42])
    generation = engine.submit(ask(stop=(text[-1:],)))
    deltas = list(generation)
    assert "".join(delta.text for delta in deltas) == text[: text.index(text[-1:])]
    assert deltas[-1].finish_reason == "stop"
    assert llm.aborted == 1


def test_leaving_a_stream_aborts_the_request(opened):
    engine, llm = opened(40, "wait")
    generation = engine.submit(ask())
    deltas = iter(generation)
    next(deltas)
    generation.cancel()
    assert [delta.finish_reason for delta in deltas] == ["cancelled"]
    assert llm.aborted == 1
    assert generation.usage == Usage(3, 1)


async def test_cancelling_a_task_aborts_the_request(opened):
    engine, llm = opened(40, "wait")
    started = asyncio.Event()
    generation = engine.submit(ask())

    async def read():
        async for _ in generation:
            started.set()

    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(engine.close)
    assert (llm.aborted, llm.is_shut_down) == (1, True)


def test_time_runs_out(opened):
    engine, llm = opened(40, "wait")
    with pytest.raises(GenerationTimeoutError):
        list(engine.submit(ask(timeout=0.1)))
    assert llm.aborted == 1


@pytest.mark.parametrize(
    ("failure", "error"),
    [(fake_vllm.ClientError("bad grammar"), InvalidRequestError), (RuntimeError("lost"), EngineError)],
)
def test_failures_are_typed_and_the_next_request_works(opened, failure, error):
    engine, _ = opened(failure)
    with pytest.raises(error, match=str(failure)):
        list(engine.submit(ask()))
    assert not engine.is_closed


def test_an_engine_whose_processes_died_counts_as_closed(monkeypatch):
    llms = fake_vllm.install(monkeypatch, [fake_vllm.DeadError("core died")])
    engine = load_engine("tiny-hermes", engine="vllm")
    with pytest.raises(EngineError, match="core died"):
        list(engine.submit(ask()))
    another = load_engine("tiny-hermes", engine="vllm")
    assert another is not engine
    assert len(llms) == 2
    engine.close()
    another.close()


def test_a_prompt_without_room_is_refused(opened):
    engine, llm = opened(END, context_window=3)
    with pytest.raises(ContextWindowExceededError):
        engine.submit(ask())
    assert not llm.asked


def test_penalties_biases_and_a_least_length_reach_vllm(opened):
    engine, llm = opened(7, 8, END)
    sampling = SamplingParams(frequency_penalty=0.5, presence_penalty=-0.5, logit_bias={"5": 2})
    list(engine.submit(ask(sampling=sampling, min_tokens=2)))
    _, params = llm.asked[0]
    assert (params.frequency_penalty, params.presence_penalty, params.min_tokens) == (0.5, -0.5, 2)
    assert params.logit_bias == {5: 2}


def test_a_stop_string_that_comes_too_soon_is_text_of_vllm_too(opened):
    engine, _ = opened(7, 7, 7, 7, END)
    text = engine.tokenizer.decode([7])
    deltas = list(engine.submit(ask(stop=(text,), min_tokens=2)))
    assert "".join(delta.text for delta in deltas) == text * 2
    assert deltas[-1].finish_reason == "stop"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"constraint": "start: /a/\n", "min_tokens": 2}, "engine 'vllm' keeps min_tokens without a grammar only"),
        ({"sampling": SamplingParams(logit_bias={10**6: 1})}, "logit_bias has 1000000"),
        ({"min_tokens": 62}, "min_tokens=62 is more than the 61 tokens"),
    ],
)
def test_what_vllm_cannot_keep_never_reaches_it(opened, options, said):
    engine, llm = opened(END)
    with pytest.raises(InvalidRequestError, match=said):
        engine.submit(ask(**options))
    assert not llm.asked
