"""The batching engine against `model.generate`: whatever joins, leaves, is shared or drafted, the tokens stay."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_runtime.engines.local.batch.limits import EngineLimits, affordable_tokens
from hermes_runtime.engines.local.engine import LocalEngine
from hermes_runtime.engines.local.generate import GenerateEngine
from hermes_runtime.errors import DeviceMemoryError, EngineError, GenerationTimeoutError, InvalidRequestError
from hermes_runtime.options.generation import SamplingParams
from tests.support.local_requests import CALLS, GREEDY, PROMPT, REQUESTS, RESHAPED, WARM, WARM_RESHAPED, ids_of, request
from tests.support.mistral import IM_END
from tests.support.small_model import small_checkpoint


@pytest.fixture(scope="module")
def oracle(mistral_tokenizer):
    engine = GenerateEngine(small_checkpoint(mistral_tokenizer))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def engine(mistral_tokenizer):
    limits = EngineLimits(slots=3, chunk=16)
    engine = LocalEngine(small_checkpoint(mistral_tokenizer), limits=limits)
    yield engine
    engine.close()


def run(engine, prompt=PROMPT, **options):
    return list(engine.submit(request(prompt, **options)))


@settings(max_examples=25)
@given(st.lists(REQUESTS, min_size=1, max_size=6))
def test_a_batch_equals_model_generate_request_by_request(engine, oracle, batch):
    together = [engine.submit(item) for item in batch]
    for item, generation in zip(batch, together, strict=True):
        deltas, expected = list(generation), list(oracle.submit(item))
        assert ids_of(deltas) == ids_of(expected)
        assert "".join(delta.text for delta in deltas) == "".join(delta.text for delta in expected)
        assert deltas[-1].finish_reason == expected[-1].finish_reason
        assert generation.usage.completion_tokens == len(ids_of(deltas))


@settings(max_examples=10)
@given(st.lists(st.tuples(REQUESTS, st.integers(0, 5)), min_size=2, max_size=6))
def test_requests_that_leave_early_change_nothing_for_the_others(engine, oracle, batch):
    generations = [engine.submit(item) for item, _ in batch]
    for (item, patience), generation in zip(batch, generations, strict=True):
        if patience == 0:
            generation.cancel()
        deltas, expected = list(generation), ids_of(oracle.submit(item))
        assert expected[: len(ids_of(deltas))] == ids_of(deltas)
        if patience:
            assert ids_of(deltas) == expected


def test_forced_tokens_are_verified_in_fewer_passes(mistral_tokenizer, oracle):
    """And without logits, which nobody would look at."""
    passes, logits = Counter(), Counter()

    def counted(engine):
        model = engine._checkpoint.model
        model.register_forward_hook(lambda *_: passes.update([engine]))
        model.lm_head.register_forward_hook(lambda _, rows, *__: logits.update({engine: rows[0].shape[1]}))
        return ids_of(run(engine, constraint=CALLS, max_tokens=80))

    drafting = LocalEngine(small_checkpoint(mistral_tokenizer))
    plain = LocalEngine(small_checkpoint(mistral_tokenizer), limits=EngineLimits(draft=0))
    try:
        assert counted(drafting) == counted(plain) == ids_of(run(oracle, constraint=CALLS, max_tokens=80))
        assert passes[drafting] < 0.6 * passes[plain]
        assert logits[drafting] < 0.75 * logits[plain]
    finally:
        drafting.close()
        plain.close()


def test_drafts_leave_the_distribution_alone(mistral_tokenizer):
    """Every position draws from its own state, so with and without drafts the very same tokens are drawn."""
    drafting = LocalEngine(small_checkpoint(mistral_tokenizer))
    plain = LocalEngine(small_checkpoint(mistral_tokenizer), limits=EngineLimits(draft=0))
    try:
        for seed in range(10):
            options = {"constraint": CALLS, "max_tokens": 80, "sampling": WARM, "seed": seed}
            assert ids_of(run(drafting, **options)) == ids_of(run(plain, **options))
    finally:
        drafting.close()
        plain.close()


@pytest.mark.parametrize("constraint", [None, CALLS])
@pytest.mark.parametrize("sampling", [RESHAPED, WARM_RESHAPED])
def test_what_changes_scores_by_what_was_generated_bears_drafts(mistral_tokenizer, oracle, sampling, constraint):
    """Penalties, biases and a least length: the oracle's tokens, with drafts that are verified many at a time."""
    drafting = LocalEngine(small_checkpoint(mistral_tokenizer))
    plain = LocalEngine(small_checkpoint(mistral_tokenizer), limits=EngineLimits(draft=0))
    asked = {"sampling": sampling, "constraint": constraint, "max_tokens": 60, "min_tokens": 20, "seed": 5}
    # What repeats itself is drafted by copying.
    prompt = (1, *(600, 601, 602, 603) * 6)
    try:
        expected = ids_of(run(oracle, prompt, **asked))
        assert ids_of(run(drafting, prompt, **asked)) == ids_of(run(plain, prompt, **asked)) == expected
        assert sampling is not RESHAPED or expected != ids_of(run(oracle, prompt, **{**asked, "sampling": GREEDY}))
    finally:
        drafting.close()
        plain.close()


@pytest.mark.parametrize("which", ["engine", "oracle"])
def test_no_end_and_no_stop_string_comes_before_the_least_length(which, request, mistral_tokenizer):
    engine = request.getfixturevalue(which)
    ends = SamplingParams(temperature=0.0, logit_bias={engine._end_ids[0]: 100})
    assert len(ids_of(run(engine, sampling=ends))) == 1
    longer = run(engine, sampling=ends, min_tokens=4)
    assert len(ids_of(longer)) == 5
    assert longer[-1].finish_reason == "stop"
    text = "".join(delta.text for delta in run(engine, max_tokens=12))
    assert text
    whole = run(engine, max_tokens=12, stop=tuple(set(text)), min_tokens=12)
    assert "".join(delta.text for delta in whole) == text
    assert whole[-1].finish_reason == "length"
    cut = run(engine, max_tokens=12, stop=tuple(set(text)), min_tokens=6)
    assert text.startswith("".join(delta.text for delta in cut))
    assert len(ids_of(cut)) == 7


@pytest.mark.parametrize("which", ["engine", "oracle"])
def test_a_grammar_that_can_only_end_ends(which, request):
    engine = request.getfixturevalue(which)
    deltas = run(engine, constraint='start: "yes" | "no"\n', min_tokens=10)
    assert "".join(delta.text for delta in deltas) in ("yes", "no")
    assert deltas[-1].finish_reason == "stop"


@pytest.mark.parametrize("which", ["engine", "oracle"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sampling": SamplingParams(logit_bias={10**6: 1})}, "logit_bias has 1000000, and token ids are below"),
        ({"max_tokens": None, "min_tokens": 10**6}, "min_tokens=1000000 is more than the .* tokens"),
    ],
)
def test_what_this_model_cannot_keep_is_refused_at_once(which, options, said, request):
    engine = request.getfixturevalue(which)
    with pytest.raises(InvalidRequestError, match=said):
        run(engine, **options)


def test_next_turn_computes_only_what_is_new(mistral_tokenizer, oracle):
    engine = LocalEngine(small_checkpoint(mistral_tokenizer), limits=EngineLimits(slots=2))
    try:
        first_prompt = (1, *range(600, 700))
        first = ids_of(run(engine, first_prompt))
        longer = (*first_prompt, *first, *range(700, 720))
        generation = engine.submit(request(longer))
        answer = ids_of(generation)
        # The last generated token was never fed back, so it is computed with the new ones.
        assert generation.usage.cached_tokens == len(first_prompt) + len(first) - 1
        assert answer == ids_of(run(oracle, longer))
    finally:
        engine.close()


def test_branches_share_a_prefix_and_leave_it_whole(mistral_tokenizer, oracle):
    engine = LocalEngine(small_checkpoint(mistral_tokenizer), limits=EngineLimits(slots=4))
    try:
        trunk = (1, *range(600, 660))
        run(engine, trunk)
        branches = [(*trunk, 900 + number, 901) for number in range(3)]
        for branch in [*branches, trunk]:
            generation = engine.submit(request(branch))
            assert ids_of(generation) == ids_of(run(oracle, branch))
            assert generation.usage.cached_tokens >= len(trunk) - 1
    finally:
        engine.close()


@pytest.mark.parametrize("window", [8, 24])
def test_sliding_window_is_exact_past_the_window(mistral_tokenizer, window):
    engine = LocalEngine(small_checkpoint(mistral_tokenizer, sliding_window=window), limits=EngineLimits(chunk=7))
    oracle = GenerateEngine(small_checkpoint(mistral_tokenizer, sliding_window=window))
    try:
        prompt = (1, *range(600, 650))
        assert ids_of(run(engine, prompt, max_tokens=40)) == ids_of(run(oracle, prompt, max_tokens=40))
        longer = (*prompt, *range(700, 705))
        assert ids_of(run(engine, longer, max_tokens=40)) == ids_of(run(oracle, longer, max_tokens=40))
    finally:
        engine.close()
        oracle.close()


def test_logprobs_equal_the_oracles(engine, oracle):
    options = {"logprobs": 3, "constraint": CALLS, "max_tokens": 40, "sampling": WARM, "seed": 5}
    ours, expected = (
        [item for delta in run(which, **options) for item in delta.logprobs or ()] for which in (engine, oracle)
    )
    assert [item.id for item in ours] == [item.id for item in expected]
    for item, other in zip(ours, expected, strict=True):
        assert item.logprob == pytest.approx(other.logprob, abs=1e-3)
        assert [top.id for top in item.top] == [top.id for top in other.top]


def test_stop_string_and_stop_id(engine, oracle):
    free = run(oracle, max_tokens=30)
    text = "".join(delta.text for delta in free)
    for options in ({"stop": (text[10:14],)}, {"stop_ids": (ids_of(free)[6],)}):
        ours, expected = (run(which, max_tokens=30, **options) for which in (engine, oracle))
        assert ids_of(ours) == ids_of(expected)
        assert "".join(delta.text for delta in ours) == "".join(delta.text for delta in expected)
        assert ours[-1].finish_reason == "stop"


def test_more_requests_than_slots_wait_their_turn(engine, oracle):
    prompts = [(1, 600 + number, 700) for number in range(9)]
    generations = [engine.submit(request(prompt)) for prompt in prompts]
    assert [ids_of(generation) for generation in generations] == [ids_of(run(oracle, prompt)) for prompt in prompts]


def test_full_queue_refuses_and_goes_on(mistral_tokenizer):
    engine = LocalEngine(small_checkpoint(mistral_tokenizer), limits=EngineLimits(slots=1, waiting=2))
    try:
        running = iter(engine.submit(request(max_tokens=400)))
        next(running)
        waiting = [engine.submit(request()) for _ in range(2)]
        with pytest.raises(EngineError, match="2 requests wait"):
            engine.submit(request())
        running.close()
        assert all(len(ids_of(generation)) == 12 for generation in waiting)
        assert len(ids_of(run(engine))) == 12
    finally:
        engine.close()


def test_cancel_ends_a_stream_and_keeps_its_slot_as_a_prefix(engine):
    prompt = (1, *range(800, 840))
    reader = iter(engine.submit(request(prompt, max_tokens=400)))
    next(reader)
    reader.close()
    generation = engine.submit(request(prompt))
    list(generation)
    assert generation.usage.cached_tokens == len(prompt) - 1


def test_timeout_raises_and_the_engine_goes_on(engine):
    with pytest.raises(GenerationTimeoutError):
        run(engine, timeout=1e-6)
    assert len(ids_of(run(engine))) == 12


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (RuntimeError("boom"), EngineError),
        (torch.OutOfMemoryError("full"), DeviceMemoryError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), DeviceMemoryError),
    ],
)
def test_a_failing_step_fails_its_requests_and_the_engine_goes_on(mistral_tokenizer, oracle, raised, expected):
    engine = LocalEngine(small_checkpoint(mistral_tokenizer))
    model = engine._checkpoint.model
    forward = model.forward

    def fail(*args, **kwargs):
        model.forward = forward
        raise raised

    try:
        model.forward = fail
        with pytest.raises(expected, match=str(raised)):
            run(engine)
        assert ids_of(run(engine)) == ids_of(run(oracle))
    finally:
        engine.close()


def test_a_failing_copy_of_a_prefix_fails_its_request_only(mistral_tokenizer, oracle):
    engine = LocalEngine(small_checkpoint(mistral_tokenizer))
    trunk = (1, *range(600, 660))
    copy = engine._cache.copy_prefix

    def fail(placement):
        engine._cache.copy_prefix = copy
        raise RuntimeError("no copy")

    try:
        run(engine, trunk)
        engine._cache.copy_prefix = fail
        with pytest.raises(EngineError, match="no copy"):
            run(engine, (*trunk[:40], 900))
        for prompt in ((*trunk[:40], 900), trunk):
            assert ids_of(run(engine, prompt)) == ids_of(run(oracle, prompt))
    finally:
        engine.close()


def test_a_constraint_that_fails_at_the_start_fails_its_request_only(engine, oracle, monkeypatch):
    def fail(_):
        raise EngineError("the parser gave up")

    with monkeypatch.context() as patch:
        patch.setattr("hermes_runtime.engines.local.decoding.constraint.Constraint.forced", fail)
        with pytest.raises(EngineError, match="gave up"):
            run(engine, constraint=CALLS)
    assert ids_of(run(engine)) == ids_of(run(oracle))


def test_an_error_of_one_request_leaves_its_batch_alone(engine, oracle, monkeypatch):
    bad = engine.submit(request((1, 611), max_tokens=30))
    good = engine.submit(request((1, 612), max_tokens=30))
    bad._channel.put = lambda _: (_ for _ in ()).throw(ValueError("consumer"))
    assert ids_of(good) == ids_of(run(oracle, (1, 612), max_tokens=30))
    with pytest.raises(EngineError, match="consumer"):
        list(bad)


async def test_threads_and_tasks_share_the_engine(engine, oracle):
    requests = [request((1, 600 + seed), sampling=WARM, seed=seed) for seed in range(6)]
    expected = [ids_of(oracle.submit(item)) for item in requests]
    results = {}

    def read(number):
        results[number] = ids_of(engine.submit(requests[number]))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()

    async def aread(number):
        results[number] = ids_of([delta async for delta in engine.submit(requests[number])])

    await asyncio.gather(*(aread(number) for number in range(3, 6)))
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert [results[number] for number in range(6)] == expected


def test_many_mixed_requests_a_third_cancelled(engine, oracle):
    chance = random.Random(1)
    finished = 0
    pending = []
    for number in range(60):
        item = request((1, *chance.choices(range(600, 606), k=chance.randint(1, 40))), max_tokens=chance.randint(1, 20))
        pending.append((item, engine.submit(item), number % 3 == 0))
    for item, generation, leaves in pending:
        if leaves:
            generation.cancel()
            list(generation)
        else:
            assert ids_of(generation) == ids_of(oracle.submit(item))
            finished += 1
    assert finished == 40


def test_the_cache_takes_half_of_the_free_memory(mistral_tokenizer, monkeypatch):
    token_bytes = 2 * 2 * 2 * 16 * 4  # keys and values, layers, heads, width, float32
    monkeypatch.setattr("hermes_runtime.engines.local.batch.limits.free_bytes", lambda _: 2 * 700 * token_bytes)
    assert affordable_tokens(small_checkpoint(mistral_tokenizer)) == 700


def test_closed_engine_refuses_and_ends_what_waits(mistral_tokenizer):
    engine = LocalEngine(small_checkpoint(mistral_tokenizer), limits=EngineLimits(slots=1))
    running, waiting = engine.submit(request(max_tokens=400)), engine.submit(request())
    reader = iter(running)
    next(reader)
    engine.close()
    engine.close()
    assert list(waiting)[-1].finish_reason == "cancelled"
    assert list(reader)[-1].finish_reason == "cancelled"
    with pytest.raises(EngineError, match="closed"):
        engine.submit(request())


def test_constrained_output_is_a_valid_call(engine):
    deltas = run(engine, constraint=CALLS, max_tokens=120, sampling=WARM, seed=3)
    text = "".join(delta.text for delta in deltas)
    assert ids_of(deltas)[-1] == IM_END
    assert text.startswith('<tool_call>\n{"arguments": {"city": "')
    assert text.endswith("</tool_call>")
