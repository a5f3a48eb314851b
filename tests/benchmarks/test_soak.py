"""A short soak; `make soak` runs a long one."""

from __future__ import annotations

from benchmarks._soak import soak
from tests.support.small_model import small_checkpoint


def test_mixed_requests_of_which_a_third_leaves(mistral_tokenizer):
    results = soak(small_checkpoint(mistral_tokenizer), 200)
    assert [result.name for result in results if result.holds is False] == []
    counts = {result.name: result.value for result in results}
    assert counts["soak: left at a random moment"] > 40
    assert counts["soak: finished"] > 100
