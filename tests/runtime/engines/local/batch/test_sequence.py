"""A request while it runs, on its own: what it holds, and what a row of logits makes of it."""

from __future__ import annotations

import pytest
import torch

from hermes_runtime.engines.local.batch.sequence import Sequence
from hermes_runtime.engines.streams.channel import DeltaChannel
from hermes_runtime.options.generation import SamplingParams
from tests.support.requests import generation_request

NEUTRAL = SamplingParams(0.0, 1.0, 0, 0.0, 1.0)
LIMIT = 32_768


def sequence(**sampling):
    asked = generation_request((1, 5, 6), sampling=SamplingParams(**sampling), seed=3)
    return Sequence(
        asked,
        None,
        DeltaChannel(),
        defaults=NEUTRAL,
        limit=LIMIT,
        vocabulary_size=10,
        decode=lambda ids: "x" * len(ids),
        longest_draft=0,
    )


def tensors_of(holder):
    return sum(value.numel() for value in vars(holder).values() if isinstance(value, torch.Tensor))


def test_a_request_that_waits_holds_no_room_for_an_answer():
    assert tensors_of(sequence(temperature=1.0)) == 0


def test_a_greedy_one_never_does():
    running = sequence()
    for token in (7, 8, 9):
        running.settle(torch.zeros(1, 10), [token])
    assert running.ids == [1, 5, 6, 7, 8, 9]
    assert tensors_of(running) == 0


@pytest.mark.parametrize("change", [{"repetition_penalty": 5.0}, {"presence_penalty": 2.0}])
def test_what_was_taken_before_the_first_draw_counts_too(change):
    """Where the best token is taken at once, the ids are looked at later."""
    running = sequence(**change)
    logits = torch.zeros(1, 10)
    logits[0, 7] = 1.0
    logits[0, 8] = 0.9
    running.settle(logits.clone(), [7])
    running.settle(logits.clone(), [7])
    assert running.ids[3:] == [7, 8]
