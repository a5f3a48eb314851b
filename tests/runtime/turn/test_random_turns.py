"""The first promise, on the worst models there are: no malformed tool call can exist."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.random_turns import ASKED, random_engines, random_request, run_turns


@pytest.fixture(scope="module")
def engines(mistral_tokenizer):
    with random_engines(mistral_tokenizer) as engines:
        yield engines


def test_random_weights_write_only_valid_calls_from_prompt_to_parser(engines):
    judged = run_turns(engines, [random_request(seed, max_tokens=300) for seed in range(100)])
    assert not [(turn.turn.request.options.seed, turn.wrong) for turn in judged if turn.wrong]
    finished = Counter(turn.turn.asked for turn in judged if turn.result.finish_reason != "length")
    assert all(finished[asked] >= 14 for asked in ASKED), finished
    assert sum(len(turn.result.tool_calls) for turn in judged) > 60


def test_turns_that_are_cut_early_leave_nothing_runnable_behind(engines):
    judged = run_turns(engines, [random_request(seed, max_tokens=5 + seed, unbounded=0.5) for seed in range(50)])
    assert not [(turn.turn.request.options.seed, turn.wrong) for turn in judged if turn.wrong]
    cut = [turn for turn in judged if turn.result.finish_reason == "length"]
    assert sum(bool(turn.result.invalid_tool_calls) for turn in cut) > 10
