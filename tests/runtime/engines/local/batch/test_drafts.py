"""Drafts: what was said before is found again, and is proposed only as far as it pays on this device."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_runtime.engines.local.batch.costs import PassCosts
from hermes_runtime.engines.local.batch.drafts import Drafter

IDS = st.lists(st.integers(0, 3), max_size=40)


def continuation(ids, size, count):
    """What followed the last earlier occurrence of the last `size` ids, by looking at every place."""
    for start in range(len(ids) - size - 1, -1, -1):
        if ids[start : start + size] == ids[-size:]:
            return ids[start + size : start + size + count]
    return []


@given(IDS, st.lists(IDS.filter(bool), max_size=5))
def test_a_free_drafter_copies_what_followed_the_same_three_ids_last(prompt, answers):
    drafter = Drafter(None, longest=4)
    ids = list(prompt)
    for answer in [[], *answers]:
        ids += answer
        expected = continuation(ids, 3, 4) if len(ids) >= 3 else []
        assert drafter.draft(ids, price=0.0) == (expected, 0)


def repeating(drafter, price):
    return len(drafter.draft([1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3], price)[0])


def test_the_dearer_a_token_the_shorter_the_copy():
    lengths = [repeating(Drafter(None, longest=16), price) for price in (0.0, 0.1, 0.3, 0.5, 1.0)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == 9
    assert lengths[-1] == 0


def test_wrong_copies_stop_and_right_ones_grow():
    wrong, right = Drafter(None, longest=16), Drafter(None, longest=16)
    before = repeating(wrong, 0.25)
    for _ in range(8):
        repeating(wrong, 0.25)
        wrong.learn(0)
        right.learn(repeating(right, 0.25))
    assert repeating(wrong, 0.25) == 0
    assert repeating(right, 0.25) > before


def test_copies_are_tried_again_after_a_while():
    drafter = Drafter(None, longest=16)
    while repeating(drafter, 0.25):
        drafter.learn(0)
    assert any(repeating(drafter, 0.25) for _ in range(200))


def test_no_drafts_where_they_are_switched_off():
    assert repeating(Drafter(None, longest=0), 0.0) == 0


@given(st.floats(0.001, 1), st.floats(0.0001, 0.1), st.lists(st.integers(1, 60), min_size=2, max_size=30, unique=True))
def test_costs_of_passes_are_learned(base, slope, lengths):
    costs = PassCosts()
    for tokens in lengths:
        costs.note(tokens, base + slope * tokens)
    assert costs.price(1) == pytest.approx(slope / (base + slope), rel=1e-3)
    assert costs.price(8) == pytest.approx(8 * slope / (base + 8 * slope), rel=1e-3)
    assert costs.tokens_within(1.0) == pytest.approx(1 / slope, rel=1e-2, abs=1)


def test_costs_before_there_are_any():
    costs = PassCosts()
    assert costs.price(1) == 1.0  # no drafts beside nothing
    assert costs.tokens_within(1.0) is None
    costs.note(1, 0.3)
    assert 0 < costs.price(1) < costs.price(8) <= 1.0


def test_a_device_on_which_tokens_are_free_takes_long_copies():
    costs = PassCosts()
    for tokens in (1, 4, 16, 2, 9):
        costs.note(tokens, 0.01)
    assert costs.price(8) == 0.0
    assert repeating(Drafter(None, longest=16), costs.price(8)) == 9


def test_prompts_say_how_many_prompt_tokens_fit_a_second():
    costs = PassCosts()
    costs.note(1, 0.3)
    costs.note(512, 25.6)
    assert costs.tokens_within(1.0) == 20


def test_patience_is_kept_where_the_fit_says_that_tokens_are_free():
    costs = PassCosts()
    assert costs.tokens_within(1.0) is None
    for tokens, seconds in ((1, 0.5), (17, 0.4), (17, 0.4)):
        costs.note(tokens, seconds)
    assert costs.price(1) == 0
    assert costs.tokens_within(0.0) == 0
    assert 0 < costs.tokens_within(1.0) < 100
