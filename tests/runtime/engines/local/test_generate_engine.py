"""The engine behind `model.generate`: its own `generate` is the oracle, threads and loops are the readers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest
import torch

from hermes_runtime.engines.local.generate import GenerateEngine
from hermes_runtime.errors import (
    ContextWindowExceededError,
    DeviceMemoryError,
    EngineError,
    GenerationTimeoutError,
    InvalidRequestError,
)
from hermes_runtime.options.generation import SamplingParams
from tests.support.local_requests import GREEDY, PROMPT, WARM, ids_of
from tests.support.mistral import IM_END
from tests.support.requests import generation_request
from tests.support.small_model import small_checkpoint


@pytest.fixture(scope="module")
def engine(mistral_tokenizer):
    engine = GenerateEngine(small_checkpoint(mistral_tokenizer))
    yield engine
    engine.close()


def request(**options):
    return generation_request(PROMPT, **({"sampling": GREEDY, "max_tokens": 12} | options))


def text_of(deltas):
    return "".join(delta.text for delta in deltas)


def run(engine, **options):
    return list(engine.submit(request(**options)))


def test_greedy_equals_model_generate(engine):
    model = engine._checkpoint.model
    expected = model.generate(
        torch.tensor([PROMPT]), max_new_tokens=12, do_sample=False, eos_token_id=IM_END, pad_token_id=2
    )[0, len(PROMPT) :]
    deltas = run(engine)
    assert ids_of(deltas) == tuple(expected.tolist())
    assert text_of(deltas) == engine.tokenizer.decode(expected)
    assert deltas[-1].finish_reason == "length"
    assert all(delta.finish_reason is None for delta in deltas[:-1])


def test_usage_counts_prompt_and_completion(engine):
    generation = engine.submit(request())
    assert generation.usage is None
    list(generation)
    assert (generation.usage.prompt_tokens, generation.usage.completion_tokens) == (5, 12)


def test_a_seed_repeats_and_another_does_not(engine):
    first, second, other = (ids_of(run(engine, sampling=WARM, seed=seed)) for seed in (7, 7, 8))
    assert first == second
    assert first != other


def test_sampling_leaves_the_global_random_state_alone(engine):
    before = torch.random.get_rng_state()
    run(engine, sampling=WARM, seed=7)
    run(engine, sampling=WARM)
    assert torch.equal(before, torch.random.get_rng_state())


def test_top_k_of_one_is_greedy(engine):
    assert ids_of(run(engine, sampling=SamplingParams(temperature=1.0, top_k=1))) == ids_of(run(engine))


def test_checkpoint_defaults_fill_unset_options(mistral_tokenizer):
    warm = GenerateEngine(small_checkpoint(mistral_tokenizer, defaults=WARM))
    greedy = GenerateEngine(small_checkpoint(mistral_tokenizer, defaults=GREEDY))
    try:
        unset = {"sampling": SamplingParams(), "seed": 3}
        assert ids_of(run(warm, **unset)) == ids_of(run(greedy, sampling=WARM, seed=3))
        assert ids_of(run(greedy, **unset)) == ids_of(run(warm, sampling=GREEDY))
    finally:
        warm.close()
        greedy.close()


def test_the_models_own_generation_config_adds_nothing(mistral_tokenizer, engine):
    checkpoint = small_checkpoint(mistral_tokenizer)
    checkpoint.model.generation_config.repetition_penalty = 3.0
    other = GenerateEngine(checkpoint)
    try:
        assert ids_of(run(other)) == ids_of(run(engine))
    finally:
        other.close()


def test_context_window_may_be_smaller_than_the_checkpoints_and_not_larger(mistral_tokenizer):
    engine = GenerateEngine(small_checkpoint(mistral_tokenizer), context_window=8)
    try:
        assert len(ids_of(run(engine))) == 8 - len(PROMPT)
    finally:
        engine.close()
    with pytest.raises(InvalidRequestError, match=r"512.*513"):
        GenerateEngine(small_checkpoint(mistral_tokenizer), context_window=513)


def test_ids_above_the_tokenizers_are_never_sampled(engine):
    head = engine._checkpoint.model.lm_head
    kept = head.weight.data.clone()
    try:
        head.weight.data[32002:] = head.weight.data[:30] * 1000  # padding columns with the loudest logits
        for seed in range(3):
            assert max(ids_of(run(engine, sampling=WARM, seed=seed, max_tokens=30))) < len(engine.tokenizer)
    finally:
        head.weight.data = kept


def test_stop_string_ends_the_text_before_it(engine):
    free = text_of(run(engine, max_tokens=30))
    stop = free[10:14]
    deltas = run(engine, max_tokens=30, stop=(stop,))
    assert text_of(deltas) == free[: free.index(stop)]
    assert deltas[-1].finish_reason == "stop"


def test_stop_id_ends_and_is_not_shown(engine):
    free = ids_of(run(engine, max_tokens=30))
    stop_id = free[6]
    deltas = run(engine, max_tokens=30, stop_ids=(stop_id,))
    cut = free[: free.index(stop_id) + 1]
    assert ids_of(deltas) == cut
    assert text_of(deltas) == engine.tokenizer.decode(cut[:-1])
    assert deltas[-1].finish_reason == "stop"


def test_logprobs_are_the_models_own(engine):
    deltas = run(engine, logprobs=3, sampling=SamplingParams(temperature=2.0), seed=1)
    ids = ids_of(deltas)
    reported = [item for delta in deltas for item in delta.logprobs or ()]
    with torch.inference_mode():
        logits = engine._checkpoint.model(torch.tensor([[*PROMPT, *ids]])).logits[0, len(PROMPT) - 1 : -1]
    logits = logits.clone()
    logits[:, len(engine.tokenizer) :] = float("-inf")
    expected = logits.float().log_softmax(-1)
    for position, item in enumerate(reported):
        assert item.id == ids[position]
        assert item.logprob == pytest.approx(expected[position, ids[position]].item(), abs=1e-4)
        assert [other.id for other in item.top] == expected[position].topk(3).indices.tolist()


def test_repetition_penalty_changes_the_draw_as_transformers_does(engine):
    expected = engine._checkpoint.model.generate(
        torch.tensor([PROMPT]),
        max_new_tokens=12,
        do_sample=False,
        repetition_penalty=1.5,
        eos_token_id=IM_END,
        pad_token_id=2,
    )[0, len(PROMPT) :]
    deltas = run(engine, sampling=SamplingParams(temperature=0.0, repetition_penalty=1.5))
    assert ids_of(deltas) == tuple(expected.tolist())


def test_cancel_ends_within_one_token(engine):
    generation = engine.submit(request(max_tokens=400))
    deltas = []
    for delta in generation:
        deltas.append(delta)
        generation.cancel()
    assert deltas[-1].finish_reason == "cancelled"
    assert generation.usage.completion_tokens < 400
    assert run(engine)[-1].finish_reason == "length"


def test_closing_the_iterator_frees_the_engine_for_the_next_request(engine):
    reader = iter(engine.submit(request(max_tokens=400)))
    next(reader)
    reader.close()
    assert len(ids_of(run(engine))) == 12


async def test_async_equals_sync(engine):
    deltas = [delta async for delta in engine.submit(request())]
    assert ids_of(deltas) == ids_of(run(engine))


async def test_many_readers_get_their_own_answer(engine):
    async def read(seed):
        return ids_of([delta async for delta in engine.submit(request(sampling=WARM, seed=seed))])

    together = await asyncio.gather(*(read(seed) for seed in range(4)))
    assert together == [ids_of(run(engine, sampling=WARM, seed=seed)) for seed in range(4)]


def test_prompt_past_the_window_is_refused_with_both_numbers(engine):
    too_long = generation_request((1,) * 600, sampling=GREEDY)
    with pytest.raises(ContextWindowExceededError, match=r"600.*512"):
        engine.submit(too_long)


def test_answer_ends_with_the_window(engine):
    full = generation_request((1,) * 505, sampling=GREEDY, max_tokens=100)
    deltas = list(engine.submit(full))
    assert len(ids_of(deltas)) == 7
    assert deltas[-1].finish_reason == "length"


def test_timeout_raises_and_the_engine_goes_on(engine):
    with pytest.raises(GenerationTimeoutError, match="1e-06"):
        run(engine, timeout=1e-6)
    assert len(ids_of(run(engine))) == 12


@pytest.mark.parametrize(
    ("raised", "expected"), [(RuntimeError("boom"), EngineError), (torch.OutOfMemoryError("full"), DeviceMemoryError)]
)
def test_a_failing_step_fails_its_request_only(engine, monkeypatch, raised, expected):
    def fail(*args, **kwargs):
        raise raised

    with monkeypatch.context() as patch:
        patch.setattr(engine._checkpoint.model, "generate", fail)
        with pytest.raises(expected, match=str(raised)):
            run(engine)
    assert len(ids_of(run(engine))) == 12


def test_closed_engine_refuses_and_ends_what_waits(mistral_tokenizer):
    engine = GenerateEngine(small_checkpoint(mistral_tokenizer))
    running, waiting = engine.submit(request(max_tokens=400)), engine.submit(request())
    reader = iter(running)
    next(reader)
    engine.close()
    engine.close()
    assert list(waiting)[-1].finish_reason == "cancelled"
    assert list(reader)[-1].finish_reason == "cancelled"
    with pytest.raises(EngineError, match="closed"):
        engine.submit(request())


def test_interpreter_exits_while_a_generation_runs():
    script = (
        "from tests.support.mistral import load_mistral_tokenizer\n"
        "from tests.support.small_model import small_checkpoint\n"
        "from tests.support.requests import generation_request\n"
        "from hermes_runtime.engines.local.generate import GenerateEngine\n"
        "engine = GenerateEngine(small_checkpoint(load_mistral_tokenizer()))\n"
        "generation = engine.submit(generation_request((1, 2, 3), max_tokens=400))\n"
        "next(iter(generation))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_threads_may_share_an_engine(engine):
    results = {}

    def read(seed):
        results[seed] = ids_of(run(engine, sampling=WARM, seed=seed))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {seed: ids_of(run(engine, sampling=WARM, seed=seed)) for seed in range(4)}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"temperature": "hot"}, "hot"),
    ],
)
def test_bad_sampling_options_are_refused(options, says):
    with pytest.raises(InvalidRequestError, match=says):
        SamplingParams(**options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"seed": 1.5}, "seed"),
        ({"timeout": float("nan")}, "timeout"),
        ({"stop": ("",)}, "stop"),
        ({"logprobs": 21}, "logprobs"),
        ({"timeout": 0}, "timeout"),
    ],
)
def test_bad_request_options_are_refused(options, says):
    with pytest.raises(InvalidRequestError, match=says):
        request(**options)
