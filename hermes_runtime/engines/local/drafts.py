"""Guesses of the next tokens, which one forward pass verifies together.

What the grammar forces is certain; what the conversation said before after the same words is likely, because tool
arguments copy it.
"""

from __future__ import annotations

from collections.abc import Sequence

from hermes_runtime.engines.local.constraint import Constraint

_NGRAM = 3
_COPY_LENGTH = 3
# Verifying four tokens costs about 1.5 times one on a CPU: below this share of hits a copied draft does not pay.
_WORTHWHILE = 0.4
_MEMORY = 0.8


class Drafter:
    """Drafts for one sequence."""

    def __init__(self, constraint: Constraint | None, longest: int) -> None:
        self._constraint = constraint
        self._longest = longest
        self._hit_rate = 1.0
        self._copied = 0

    def draft(self, ids: Sequence[int]) -> tuple[list[int], int]:
        """Return a draft of what follows `ids`, and how many of its tokens, from the first on, are certain."""
        self._copied = 0
        if self._constraint is None or not self._longest:
            return [], 0
        forced = self._constraint.forced()[: self._longest]
        if forced:
            return forced, len(forced)
        if self._hit_rate < _WORTHWHILE:
            self._hit_rate += 0.01  # try again some time later
            return [], 0
        copied = _continuation(ids)
        copied = copied[: self._constraint.allowed(copied)] if copied else []
        self._copied = len(copied)
        return copied, 0

    def learn(self, accepted: int) -> None:
        """Take note of how many tokens of the last draft were right."""
        if self._copied:
            self._hit_rate += (accepted / self._copied - self._hit_rate) * (1 - _MEMORY)


def _continuation(ids: Sequence[int]) -> list[int]:
    """Return what followed the last occurrence of the last few ids, before now."""
    for size in range(_NGRAM, 1, -1):
        tail = list(ids[-size:])
        for start in range(len(ids) - size - 1, -1, -1):
            if ids[start] == tail[0] and list(ids[start : start + size]) == tail:
                return list(ids[start + size : start + size + _COPY_LENGTH])
    return []
