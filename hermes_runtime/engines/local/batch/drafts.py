"""Guesses of the next tokens, which one forward pass verifies together.

What the grammar forces is certain; what the conversation said before after the same words is likely, because tool
arguments and answers copy it.
"""

from __future__ import annotations

from collections.abc import Sequence

from hermes_runtime.engines.local.decoding.constraint import Constraint

# So many ids must have been said before in this order. Within a grammar two do: what cannot follow is dropped at once.
_NGRAM, _NGRAM_IN_GRAMMAR = 3, 2
_FIRST_HIT_RATE = 0.6
_MEMORY = 0.85
# By so much the rate rises with every pass in which a copy was at hand and not worth its price, so that it is tried
# again some time later.
_CURIOSITY = 0.003


class Drafter:
    """Drafts for one sequence.

    Args:
        constraint: Its grammar's state, or None.
        longest: Upper bound on drafted tokens of a pass; 0 drafts nothing.
    """

    def __init__(self, constraint: Constraint | None, longest: int) -> None:
        self._constraint = constraint
        self._longest = longest
        self._said = _Said(_NGRAM if constraint is None else _NGRAM_IN_GRAMMAR)
        self._hit_rate = _FIRST_HIT_RATE
        self._copied = 0

    def draft(self, ids: Sequence[int], price: float) -> tuple[list[int], int]:
        """Return a draft of what follows `ids`, and how many of its tokens, from the first on, are certain.

        Args:
            ids: Prompt and completion so far; each call sees those of the last one and more.
            price: Least chance at which a further token pays, see `PassCosts.price`. Certain tokens pay always: they
                must be computed anyway.
        """
        self._copied = 0
        if not self._longest:
            return [], 0
        forced = [] if self._constraint is None else self._constraint.forced()[: self._longest]
        if forced:
            return forced, len(forced)
        copied = self._said.after(ids, self._longest)
        if self._constraint is not None and copied:
            copied = copied[: self._constraint.allowed(copied)]
        worthwhile = self._worthwhile(len(copied), price)
        if copied and not worthwhile:
            self._hit_rate = min(1.0, self._hit_rate + _CURIOSITY)
        self._copied = worthwhile
        return copied[:worthwhile], 0

    def learn(self, accepted: int) -> None:
        """Take note of how many tokens of the last draft were right."""
        for position in range(min(accepted + 1, self._copied)):
            self._hit_rate += ((position < accepted) - self._hit_rate) * (1 - _MEMORY)

    def _worthwhile(self, most: int, price: float) -> int:
        chance, count = self._hit_rate, 0
        while count < most and chance > price:
            chance *= self._hit_rate
            count += 1
        return count


class _Said:
    """Where each run of `size` ids was said last."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._next: dict[tuple[int, ...], int] = {}
        self._known = 0  # runs that end before here are in the map

    def after(self, ids: Sequence[int], count: int) -> list[int]:
        """Return what followed the last occurrence of the last ids, before now; at most `count` ids."""
        for end in range(max(self._known, self._size), len(ids)):
            self._next[tuple(ids[end - self._size : end])] = end
        self._known = len(ids)
        start = self._next.get(tuple(ids[-self._size :])) if len(ids) >= self._size else None
        return [] if start is None else list(ids[start : start + count])
