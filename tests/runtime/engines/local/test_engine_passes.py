"""Single passes of the engine: what shares one, what happens when one fails, and when nobody wants it any more."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from hermes_runtime.engines.local.batch.limits import DEFAULT_LIMITS, EngineLimits
from hermes_runtime.engines.local.cache import slots
from hermes_runtime.engines.local.engine import LocalEngine
from hermes_runtime.engines.local.generate import GenerateEngine
from hermes_runtime.errors import DeviceMemoryError, EngineError, InvalidRequestError
from hermes_runtime.options.generation import SamplingParams
from tests.support.local_requests import ids_of
from tests.support.requests import generation_request
from tests.support.small_model import small_checkpoint

SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "eos_token_id",
)
PROMPTS = [(1, 600, 601), (1, *range(610, 640)), (1, 650)]


def request(prompt, tokens=10):
    return generation_request(tuple(prompt), sampling=SamplingParams(temperature=0.0), max_tokens=tokens)


@contextmanager
def opened(tokenizer, limits=DEFAULT_LIMITS, **changes):
    engine = LocalEngine(small_checkpoint(tokenizer, **changes), limits=limits)
    try:
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def expected(mistral_tokenizer):
    oracle = GenerateEngine(small_checkpoint(mistral_tokenizer))
    yield lambda prompt, tokens=10: ids_of(oracle.submit(request(prompt, tokens)))
    oracle.close()


def at_once(engine, requests, first=(1, 900)):
    """Submit while the worker is held in a pass over `first`, so that the next pass has them all."""
    entered, goes_on = threading.Event(), threading.Event()

    def hold(*_):
        entered.set()
        goes_on.wait(60)

    hook = engine._checkpoint.model.register_forward_pre_hook(hold)
    held = engine.submit(request(first, 1))
    assert entered.wait(60)
    hook.remove()
    generations = [engine.submit(item) for item in requests]
    goes_on.set()
    ids_of(held)
    return generations


def replace_forward(engine, around):
    model = engine._checkpoint.model
    forward = model.forward
    model.forward = lambda *args, **kwargs: around(forward, *args, **kwargs)


def runs_out(patch, name):
    """Let memory run out at a function's second call: the first layer's keys are made by then. Returns its calls."""
    made, calls = getattr(slots, name), []

    def run_out(*args):
        calls.append(args)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("full")
        return made(*args)

    patch.setattr(slots, name, run_out)
    return calls


def affording(monkeypatch, tokens):
    """Let the memory hold so many tokens."""
    monkeypatch.setattr("hermes_runtime.engines.local.engine.affordable_tokens", lambda _: tokens)


def test_a_batch_that_does_not_fit_the_memory_runs_one_by_one(mistral_tokenizer, expected):
    def fit_one(forward, *args, packed, **kwargs):
        if len(packed.segments) > 1:
            raise torch.OutOfMemoryError("full")
        return forward(*args, packed=packed, **kwargs)

    with opened(mistral_tokenizer) as engine:
        replace_forward(engine, fit_one)
        before = engine._cache.tokens
        generations = at_once(engine, [request(prompt) for prompt in PROMPTS])
        assert [ids_of(generation) for generation in generations] == [expected(prompt) for prompt in PROMPTS]
        assert ids_of(engine.submit(request(PROMPTS[0]))) == expected(PROMPTS[0])
        assert engine._cache.tokens < before


def test_a_request_that_breaks_its_passes_fails_alone(mistral_tokenizer, expected):
    def choke(forward, ids, **kwargs):
        if 777 in ids:
            raise ValueError("bad token")
        return forward(ids, **kwargs)

    with opened(mistral_tokenizer) as engine:
        replace_forward(engine, choke)
        good, bad, other = at_once(engine, [request(PROMPTS[0]), request((1, 777)), request(PROMPTS[1])])
        with pytest.raises(EngineError, match="bad token"):
            ids_of(bad)
        assert [ids_of(good), ids_of(other)] == [expected(PROMPTS[0]), expected(PROMPTS[1])]


def test_memory_that_runs_out_while_the_cache_grows(mistral_tokenizer, expected, monkeypatch):
    long = (1, *range(700, 1000))
    with opened(mistral_tokenizer) as engine:
        assert ids_of(engine.submit(request(PROMPTS[0]))) == expected(PROMPTS[0])
        before = engine._cache.tokens
        with monkeypatch.context() as patch:
            runs_out(patch, "_resized")
            with pytest.raises(DeviceMemoryError):
                ids_of(engine.submit(request(long)))
        assert engine._cache.tokens < before
        for prompt in (long, PROMPTS[1]):
            assert ids_of(engine.submit(request(prompt))) == expected(prompt)


@pytest.fixture
def little_memory(monkeypatch):
    """Room for two of the longest conversations, or for four short ones."""
    affording(monkeypatch, 1024)


def test_more_short_conversations_fit_the_memory_than_long_ones(mistral_tokenizer, expected, little_memory):
    together = []

    def count(forward, *args, packed, **kwargs):
        together[-1] = max(together[-1], len(packed.segments))
        return forward(*args, packed=packed, **kwargs)

    with opened(mistral_tokenizer) as engine:
        replace_forward(engine, count)
        for length in (3, 300, 4):
            together.append(0)
            prompts = [(1, 700 + number, *range(1000, 1000 + length)) for number in range(6)]
            generations = at_once(engine, [request(prompt, 30) for prompt in prompts])
            assert [ids_of(one) for one in generations] == [expected(prompt, 30) for prompt in prompts]
            assert engine._cache.slots * engine._cache.length <= 1024
    assert together == [4, 2, 4]


def test_a_conversation_that_grows_makes_the_youngest_wait(mistral_tokenizer, expected, little_memory):
    paused = []
    with opened(mistral_tokenizer) as engine:
        pause = engine._pause
        engine._pause = lambda sequence: paused.append(sequence.request.prompt_ids) or pause(sequence)
        prompts = [(1, 700 + number, 1000) for number in range(4)]
        generations = at_once(engine, [request(prompt, 260) for prompt in prompts])
        assert [ids_of(one) for one in generations] == [expected(prompt, 260) for prompt in prompts]
        assert [one.usage.prompt_tokens for one in generations] == [3] * 4
        assert all(one.usage.cached_tokens <= 3 for one in generations)
        assert engine._queued == 0
    assert paused
    assert prompts[0] not in paused


def test_memory_that_runs_out_while_the_cache_shrinks(mistral_tokenizer, expected, little_memory, monkeypatch):
    calls = runs_out(monkeypatch, "_reshaped")
    with opened(mistral_tokenizer) as engine:
        prompts = [(1, 700 + number, 1000) for number in range(4)]
        for prompt in prompts:
            ids_of(engine.submit(request(prompt)))
        long = (1, *range(1000, 1300))
        assert ids_of(engine.submit(request(long))) == expected(long)
        assert len(calls) >= 2
        assert [ids_of(engine.submit(request(prompt))) for prompt in prompts] == [
            expected(prompt) for prompt in prompts
        ]


def test_memory_that_runs_out_while_a_conversation_goes_on(mistral_tokenizer, expected, monkeypatch):
    affording(monkeypatch, 768)
    calls = runs_out(monkeypatch, "_reshaped")
    with opened(mistral_tokenizer) as engine:
        prompts = [(1, 700 + number, *range(1000, 1200)) for number in range(3)]
        for prompt in prompts:
            ids_of(engine.submit(request(prompt)))
        longer = (*prompts[0], *expected(prompts[0]), *range(1300, 1400))
        assert ids_of(engine.submit(request(longer))) == expected(longer)
        assert len(calls) >= 2


def test_a_prefix_that_was_evicted_before_it_was_copied_is_nobodys(mistral_tokenizer, expected, monkeypatch):
    affording(monkeypatch, 768)
    trunk = (1, *range(1000, 1400))
    with opened(mistral_tokenizer) as engine:
        branches = [(*trunk[:100], 700 + number) for number in range(2)]
        # There is room for both branches, but not beside the trunk that they come from.
        generations = at_once(engine, [request(branch) for branch in branches], first=trunk)
        assert [ids_of(one) for one in generations] == [expected(branch) for branch in branches]


@pytest.mark.parametrize("outside", [-1, 32032])
def test_ids_that_the_model_does_not_have_are_refused(mistral_tokenizer, expected, outside):
    with opened(mistral_tokenizer) as engine:
        with pytest.raises(InvalidRequestError, match="32032"):
            engine.submit(request((1, outside)))
        assert ids_of(engine.submit(request(PROMPTS[0]))) == expected(PROMPTS[0])


def test_cancel_ends_a_pass_between_two_layers(mistral_tokenizer, expected):
    with opened(mistral_tokenizer) as engine:
        first, second = engine._checkpoint.model.model.layers
        ran = []
        cancel = first.register_forward_hook(lambda *_: engine._running[0].channel.cancel())
        count = second.register_forward_hook(lambda *_: ran.append(1))
        deltas = list(engine.submit(request(PROMPTS[1])))
        assert [delta.finish_reason for delta in deltas] == ["cancelled"]
        assert not ran
        cancel.remove()
        count.remove()
        assert ids_of(engine.submit(request(PROMPTS[1]))) == expected(PROMPTS[1])


def test_a_long_prompt_leaves_the_streams_of_others_alone(mistral_tokenizer, expected):
    limits, passes, answers = EngineLimits(patience=0.0, draft=0), [], []
    long = (1, *range(1000, 1300))

    def look(forward, ids, **kwargs):
        passes.append(ids.shape[1])
        if len(passes) == 3:  # the stream runs, and will for longer than the prompt takes
            answers.append(engine.submit(request(long, 2)))
        return forward(ids, **kwargs)

    with opened(mistral_tokenizer, limits) as engine:
        replace_forward(engine, look)
        assert ids_of(engine.submit(request(PROMPTS[0], 80))) == expected(PROMPTS[0], 80)
        assert ids_of(answers[0]) == expected(long, 2)
    assert max(passes[3:]) == 17
    assert passes.count(17) >= 300 // 16


def test_short_prompts_share_one_pass(mistral_tokenizer, expected):
    passes = []
    with opened(mistral_tokenizer) as engine:
        replace_forward(engine, lambda forward, ids, **kwargs: passes.append(ids.shape[1]) or forward(ids, **kwargs))
        generations = at_once(engine, [request(prompt) for prompt in PROMPTS])
        assert [ids_of(generation) for generation in generations] == [expected(prompt) for prompt in PROMPTS]
    assert sum(len(prompt) - 1 for prompt in PROMPTS) in passes  # their first token, the same for all, is there already


def test_who_waits_for_a_prefix_holds_up_nobody_else(mistral_tokenizer, expected):
    trunk = (1, *range(1000, 1200))
    seen = []

    def look(forward, *args, **kwargs):
        seen.append([[item.request.prompt_ids for item in part] for part in (engine._running, engine._waiting)])
        return forward(*args, **kwargs)

    with opened(mistral_tokenizer, EngineLimits(chunk=16)) as engine:
        replace_forward(engine, look)
        prompts = [trunk, (*trunk, 900), (1, 905)]
        generations = at_once(engine, [request(prompt) for prompt in prompts])
        assert [ids_of(generation) for generation in generations] == [expected(prompt) for prompt in prompts]
        assert generations[1].usage.cached_tokens > len(trunk) - 32
    assert any(prompts[2] in running and prompts[1] in waiting for running, waiting in seen)


def test_lengths_that_vary_are_no_business_of_attention_that_is_planned_for_each(mistral_tokenizer, expected):
    """cuDNN's, which torch prefers on some GPUs; the switch is everybody's, so two engines must not mix it up."""
    seen = []
    both = threading.Barrier(2, timeout=60)

    def look(forward, *args, **kwargs):
        both.wait()
        seen.append(torch.backends.cuda.cudnn_sdp_enabled())
        both.wait()
        if len(seen) > 2:
            raise OSError("flaky")
        return forward(*args, **kwargs)

    assert torch.backends.cuda.cudnn_sdp_enabled()
    with opened(mistral_tokenizer) as one, opened(mistral_tokenizer) as other:
        for engine in (one, other):
            replace_forward(engine, look)
        for generation in [engine.submit(request(PROMPTS[0])) for engine in (one, other)]:
            with pytest.raises(EngineError, match="flaky"):
                ids_of(generation)
    assert seen == [False] * 4
    assert torch.backends.cuda.cudnn_sdp_enabled()


@pytest.mark.parametrize("window", [None, 24])
def test_rows_that_share_an_attention_call_change_nothing(mistral_tokenizer, window):
    """As on a GPU; a CPU attends row by row."""
    oracle = GenerateEngine(small_checkpoint(mistral_tokenizer, sliding_window=window))
    sizes = set()
    try:
        with opened(mistral_tokenizer, EngineLimits(draft=0), sliding_window=window) as engine:
            engine._cache._joins_rows = True
            replace_forward(
                engine,
                lambda forward, *args, packed, **kwargs: (
                    sizes.update(part.slots.stop - part.slots.start for part in packed.segments)
                    or forward(*args, packed=packed, **kwargs)
                ),
            )
            requests = [request(prompt, 40) for prompt in PROMPTS]
            generations = at_once(engine, requests)
            assert [ids_of(one) for one in generations] == [ids_of(oracle.submit(one)) for one in requests]
        assert max(sizes) == 3
    finally:
        oracle.close()


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Qwen3"])
def test_other_families_of_models_run_in_packed_passes(mistral_tokenizer, family):
    checkpoint = small_checkpoint(mistral_tokenizer)
    options = {name: getattr(checkpoint.model.config, name) for name in SIZES}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(getattr(transformers, f"{family}Config")(**options)).eval()
    checkpoint = replace(checkpoint, model=model)
    engine, oracle = LocalEngine(checkpoint), GenerateEngine(checkpoint)
    try:
        generations = at_once(engine, [request(prompt) for prompt in PROMPTS])
        assert [ids_of(one) for one in generations] == [ids_of(oracle.submit(request(prompt))) for prompt in PROMPTS]
    finally:
        engine.close()
        oracle.close()
