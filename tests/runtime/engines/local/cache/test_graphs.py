"""Passes of fixed shape: filled up, replayed and captured anew, always the logits of a packed pass.

There is no CUDA here. What takes the place of a graph computes the same over the same tensors, and fails where a real
one would read memory that is gone.
"""

from __future__ import annotations

import warnings
from collections import Counter

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hermes_runtime.engines.local.batch.costs import PassCosts
from hermes_runtime.engines.local.batch.limits import EngineLimits
from hermes_runtime.engines.local.cache import graphs
from hermes_runtime.engines.local.cache.attention import use_slot_attention
from hermes_runtime.engines.local.cache.graphs import FixedPasses
from hermes_runtime.engines.local.cache.slots import SlotCache, SlotRow
from hermes_runtime.engines.local.engine import LocalEngine
from hermes_runtime.engines.local.generate import GenerateEngine
from hermes_runtime.options.generation import SamplingParams
from tests.support.local_requests import REQUESTS, ids_of
from tests.support.requests import generation_request
from tests.support.small_model import small_checkpoint, small_model

DRAFT = 5
GREEDY = SamplingParams(temperature=0.0)
NO_MASK = torch.empty(1, 1, 1, 1)


@pytest.fixture
def counts(monkeypatch):
    """Captures and replays; a replay fails where the cache is no longer where it was."""
    counted, caches = Counter(), []
    prepare_fixed = SlotCache.prepare_fixed

    def addresses():
        return [kept.data_ptr() for layer in caches[-1]._layers for kept in (layer.keys, layer.values)]

    def noted(cache, *args):
        caches.append(cache)
        return prepare_fixed(cache, *args)

    def capture(compute):
        counted["captures"] += 1
        compute()
        captured = addresses()

        def replay():
            counted["replays"] += 1
            assert addresses() == captured
            return compute()

        return replay

    monkeypatch.setattr(SlotCache, "prepare_fixed", noted)
    monkeypatch.setattr(graphs, "cuda_capture", lambda _: capture)
    return counted


class Bench:
    """A small float64 model over a cache, and passes over it of both kinds."""

    def __init__(self, window=None):
        self.model = small_model(sliding_window=window).double()
        use_slot_attention(self.model)
        self.cache = SlotCache(
            2, longest=2048, tokens=4 * 2048, window=window, device=torch.device("cpu"), dtype=torch.float64
        )
        self.fixed = FixedPasses(self.cache, self.run_fixed, draft=DRAFT)

    def forward(self, packed):
        return self.model(
            packed.input_ids,
            attention_mask=NO_MASK,
            position_ids=packed.position_ids,
            past_key_values=self.cache,
            packed=packed,
        ).logits[0]

    def run_fixed(self, numbers, slots, length):
        return self.forward(self.cache.prepare_fixed(numbers, slots, length))

    @torch.inference_mode()
    def packed(self, rows):
        return self.forward(self.cache.prepare(rows))

    @torch.inference_mode()
    def run(self, rows, kept=None):
        return self.fixed.run(rows, range(sum(len(row.ids) for row in rows)) if kept is None else kept)

    def replayed(self, rows, kept=None):
        for _ in range(graphs._WORTH_CAPTURING - 1):
            assert self.run(rows, kept) is None
        return self.run(rows, kept)


def filled(lengths):
    """A bench whose slots hold random tokens, and the same once more."""
    benches = Bench(), Bench()
    for slot, length in enumerate(lengths):
        ids = torch.randint(500, 900, (length,), generator=torch.Generator().manual_seed(slot)).tolist()
        for bench in benches:
            bench.packed([SlotRow(slot, 0, tuple(ids))])
    return benches


def test_a_chunk_whose_logits_nobody_wants_is_replayed_too(counts):
    fixed, packed = filled([20])
    rows = [SlotRow(0, 20, tuple(range(600, 600 + DRAFT)))]
    assert fixed.replayed(rows, kept=[]).shape == (0, 32032)
    later = [SlotRow(0, 20 + DRAFT, (700,))]
    packed.packed(rows)
    torch.testing.assert_close(fixed.packed(later), packed.packed(later), atol=1e-12, rtol=1e-9)


ROWS = st.tuples(st.integers(1, 300), st.lists(st.integers(500, 900), max_size=DRAFT + 1))


@settings(max_examples=12)
@given(st.lists(ROWS, min_size=1, max_size=4).filter(lambda rows: any(ids for _, ids in rows)))
def test_logits_are_those_of_a_packed_pass_and_other_slots_stay_as_they_are(counts, described):
    fixed, packed = filled([length for length, _ in described])
    rows = [SlotRow(slot, length, tuple(ids)) for slot, (length, ids) in enumerate(described) if ids]
    assume(fixed.fixed._shape(rows))
    torch.testing.assert_close(fixed.replayed(rows), packed.packed(rows), atol=1e-12, rtol=1e-9)
    for ours, theirs in zip(fixed.cache._layers, packed.cache._layers, strict=True):
        for slot, (length, ids) in enumerate(described):
            end = length + len(ids)
            torch.testing.assert_close(ours.keys[slot, :, :end], theirs.keys[slot, :, :end], atol=1e-12, rtol=1e-9)


def test_ragged_rows_fill_up_and_only_what_is_kept_comes_back(counts):
    fixed, packed = filled([40, 7, 90])
    rows = [SlotRow(0, 40, (600,)), SlotRow(1, 7, (601, 602, 603)), SlotRow(2, 90, (604, 605))]
    kept = [0, 3, 5]
    torch.testing.assert_close(fixed.replayed(rows, kept), packed.packed(rows)[kept], atol=1e-12, rtol=1e-9)
    assert counts == {"captures": 1, "replays": 1}


def assert_computes_alike(fixed, packed, rows):
    """A pass as the engine would run it: in a fixed shape where there is one, else packed."""
    expected, found = packed.packed(rows), fixed.run(rows)
    if found is None:
        fixed.packed(rows)
    else:
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-9)


def test_one_capture_serves_every_pass_of_its_shape(counts):
    fixed, packed = filled([30, 31])
    for step in range(20):
        rows = [SlotRow(slot, 30 + slot + step, (600 + step,)) for slot in range(2)]
        assert_computes_alike(fixed, packed, rows)
    assert counts == {"captures": 1, "replays": 20 - graphs._WORTH_CAPTURING + 1}


def test_a_cache_that_grew_is_captured_anew(counts):
    fixed, packed = filled([250])
    for step in range(16):
        rows = [SlotRow(0, 250 + step, (600 + step,))]
        assert_computes_alike(fixed, packed, rows)
    assert counts["captures"] == 2


def test_a_window_hides_what_it_hides_in_a_packed_pass(counts):
    fixed, packed = Bench(window=16), Bench(window=16)
    for bench in (fixed, packed):
        bench.packed([SlotRow(0, 0, tuple(range(500, 540)))])
    rows = [SlotRow(0, 40, (600, 601))]
    torch.testing.assert_close(fixed.replayed(rows), packed.packed(rows), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize(
    "rows",
    [
        [SlotRow(0, 40, tuple(range(600, 600 + DRAFT + 2)))],  # a prompt
        [SlotRow(0, 40, tuple(range(600, 600 + DRAFT))), SlotRow(9, 40, (600,))],  # mostly filling
    ],
    ids=["longer than a draft", "mostly empty"],
)
def test_passes_of_other_shapes_are_left_to_packing(counts, rows):
    fixed, _ = filled([40] * 10)
    assert [fixed.run(rows, [0]) for _ in range(5)] == [None] * 5
    assert not counts


def test_where_capturing_fails_decoding_goes_on_without_and_says_so_once(monkeypatch):
    tried = []

    def fail():
        tried.append(1)
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graphs, "cuda_capture", lambda _: lambda compute: fail())
    fixed, _ = filled([40] * 9)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for slots in range(1, 9):
            rows = [SlotRow(slot, 40, (600,)) for slot in range(slots)]
            assert [fixed.run(rows) for _ in range(9)] == [None] * 9
    assert [str(warning.message) for warning in caught] == [
        "some passes run without CUDA graphs, which takes longer: operation not permitted when stream is capturing"
    ]
    assert len(tried) == graphs._ENOUGH_REFUSED  # no shape twice, and no end of shapes


def test_a_shape_that_cannot_be_captured_leaves_the_others_alone(counts, monkeypatch):
    capture = graphs.cuda_capture(None)

    def picky(compute):
        if len(compute()) == 2:
            raise RuntimeError("no plan for this shape")
        return capture(compute)

    monkeypatch.setattr(graphs, "cuda_capture", lambda _: picky)
    fixed, packed = filled([40, 40])
    refused = [SlotRow(0, 40, (600,)), SlotRow(1, 40, (601,))]
    with pytest.warns(RuntimeWarning, match="some passes run without CUDA graphs"):
        assert fixed.replayed(refused) is None
    rows = [SlotRow(0, 40, (600,))]
    torch.testing.assert_close(fixed.replayed(rows), packed.packed(rows), atol=1e-12, rtol=1e-9)
    assert fixed.run(refused) is None
    assert fixed.run(rows) is not None
    assert fixed.fixed.passes == {"eager": 6, "captured": 1, "replayed": 1}


@pytest.mark.parametrize("window", [1, 16, 64, None])
@pytest.mark.parametrize("length", [256, 512])
def test_a_token_that_fills_up_always_sees_a_key(window, length):
    bench = Bench(window=window)
    bench.packed([SlotRow(0, 0, tuple(range(500, 500 + length - 10)))])
    bench.packed([SlotRow(1, 0, (500, 501))])
    numbers = torch.tensor([[600, 0, 0], [2, *[bench.cache.spare] * 2], [1, 1, 1]])
    (segment,) = bench.cache.prepare_fixed(numbers, slice(1, 2), 256).segments
    assert torch.isfinite(segment.hidden).any(-1).all()


def test_what_fills_up_spoils_no_conversation_where_attention_has_no_answer_to_nothing(counts, monkeypatch):
    """As with attentions that compute a softmax over nothing as 0 / 0."""

    def naive(query, keys, values, attn_mask=None, scale=None, **_):
        scores = query @ keys.transpose(-1, -2) * (scale or query.shape[-1] ** -0.5)
        return torch.softmax(scores if attn_mask is None else scores + attn_mask, -1) @ values

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", naive)
    bench = Bench(window=64)
    bench.packed([SlotRow(0, 0, tuple(range(500, 1000)))])  # so long that a short one's window ends before it
    bench.packed([SlotRow(1, 0, tuple(range(500, 540)))])
    assert torch.isfinite(bench.replayed([SlotRow(1, 40, (600, 601, 602))])).all()
    bench.packed([SlotRow(0, 500, tuple(range(500, 520)))])  # what was the spare position is an ordinary one now
    assert torch.isfinite(bench.packed([SlotRow(0, 520, (600,)), SlotRow(1, 43, (604,))])).all()


def test_memory_that_runs_out_is_seen_through_the_error_of_the_capture_that_it_broke(monkeypatch):
    def capture(compute):
        try:
            raise torch.OutOfMemoryError("full")
        finally:
            raise RuntimeError("the capture was invalidated")  # as ending a broken capture does

    monkeypatch.setattr(graphs, "cuda_capture", lambda _: capture)
    fixed, _ = filled([40])
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        fixed.replayed([SlotRow(0, 40, (600,))])


def test_memory_that_runs_out_while_capturing_is_no_reason_to_give_up(monkeypatch):
    outcomes = iter([torch.OutOfMemoryError("full"), None])

    def capture(compute):
        if (error := next(outcomes)) is not None:
            raise error
        return compute

    monkeypatch.setattr(graphs, "cuda_capture", lambda _: capture)
    fixed, packed = filled([40])
    rows = [SlotRow(0, 40, (600,))]
    with pytest.raises(torch.OutOfMemoryError):
        fixed.replayed(rows)
    torch.testing.assert_close(fixed.run(rows), packed.packed(rows), atol=1e-12, rtol=1e-9)


@pytest.fixture(scope="module")
def oracle(mistral_tokenizer):
    engine = GenerateEngine(small_checkpoint(mistral_tokenizer))
    yield engine
    engine.close()


@pytest.fixture
def fixed_everywhere(counts, monkeypatch):
    """Engines decode in fixed shapes here too."""
    monkeypatch.setattr(EngineLimits, "graphs_on", lambda *_: True)
    return counts


@settings(max_examples=8)
@given(st.lists(REQUESTS, min_size=1, max_size=6))
def test_a_batch_that_decodes_in_fixed_shapes_equals_model_generate(fixed_everywhere, oracle, mistral_tokenizer, batch):
    engine = LocalEngine(small_checkpoint(mistral_tokenizer), limits=EngineLimits(slots=3, chunk=16))
    try:
        for item, generation in [(item, engine.submit(item)) for item in batch]:
            assert ids_of(generation) == ids_of(oracle.submit(item))
    finally:
        engine.close()


@pytest.mark.parametrize("draft", [0, 16])
def test_long_answers_are_decoded_by_replay(fixed_everywhere, oracle, mistral_tokenizer, draft):
    requests = [generation_request((1, 600 + i), sampling=GREEDY, max_tokens=270) for i in range(2)]
    engine = LocalEngine(small_checkpoint(mistral_tokenizer), limits=EngineLimits(draft=draft))
    try:
        for item, generation in [(item, engine.submit(item)) for item in requests]:
            assert ids_of(generation) == ids_of(oracle.submit(item))
    finally:
        engine.close()
    assert fixed_everywhere["replays"] > (10 if draft else 200)
    assert fixed_everywhere["captures"] < 12


def test_what_a_capture_takes_is_no_cost_of_passes(fixed_everywhere, mistral_tokenizer, monkeypatch):
    noted = Counter()
    monkeypatch.setattr(PassCosts, "note", lambda *_: noted.update(["notes"]))
    engine = LocalEngine(small_checkpoint(mistral_tokenizer), limits=EngineLimits(draft=0))
    try:
        ids = ids_of(engine.submit(generation_request((1, 600), sampling=GREEDY, max_tokens=20)))
    finally:
        engine.close()
    assert fixed_everywhere["captures"] == 1
    assert noted["notes"] == len(ids) - 1
