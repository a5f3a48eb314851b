"""`benchmarks.engine` runs, and what it counts, rather than times, reaches its goals on any model."""

from __future__ import annotations

import pytest

from benchmarks._engine_scenarios import Bench, agent, calls, concurrent, stream
from tests.support.small_model import small_checkpoint


@pytest.fixture(scope="module")
def bench(mistral_tokenizer):
    checkpoint = small_checkpoint(mistral_tokenizer, context_window=4096, max_position_embeddings=4096)
    return Bench(checkpoint, turns=3, calls=3, tokens=6, repeats=1)


def test_an_agents_next_turn_computes_only_what_is_new(bench):
    _, computed, _ = agent(bench)
    assert computed.holds, computed


def test_calls_take_less_than_half_a_pass_a_token(bench):
    _, passes, _ = calls(bench)
    assert passes.holds, passes


@pytest.mark.parametrize(("scenario", "count"), [(concurrent, 6), (stream, 1)])
def test_rates_are_measured_beside_something(bench, scenario, count):
    results = scenario(bench)
    assert len(results) == count
    assert all(result.value > 0 and result.ratio > 0 for result in results)
