"""What a forward pass costs on this device, learned from the passes that ran."""

from __future__ import annotations

# How fast old passes are forgotten: another program may come and go, a conversation grows.
_MEMORY = 0.95
# Longer passes run on other kernels and say nothing of what a drafted token costs.
_SHORT = 64
# Until there is anything to learn from, of the time of a pass over one token: about that of a CPU's.
_FIRST_GUESS = 0.25
_SAME_LENGTH = 0.01  # square tokens


class PassCosts:
    """Seconds of a pass over T new tokens, as `base + slope * T`, fitted to the passes that ran.

    The fit is the least-squares line of exponentially weighted passes. Before passes of different lengths were seen,
    a token is taken to add a fixed part of what a pass over one token costs.
    """

    def __init__(self) -> None:
        self._sums: tuple[float, ...] = (0.0,) * 5  # weight, tokens, seconds, tokens squared, tokens times seconds
        self._prompt_token: float | None = None

    def note(self, tokens: int, seconds: float) -> None:
        """Take note of a pass that ran."""
        if tokens > _SHORT:
            self._prompt_token = seconds / tokens
            return
        added = (1.0, tokens, seconds, tokens * tokens, tokens * seconds)
        self._sums = tuple(_MEMORY * old + new for old, new in zip(self._sums, added, strict=True))

    def price(self, rows: int) -> float:
        """Return what one more token costs a pass of `rows` one-token rows, in units of what each row costs it.

        A draft pays while the chance that its next token is right is above this. Between 0, where a token more is free
        as on a GPU, and 1, where the device computes token by token; 1 too before anything ran.
        """
        base, slope = self._line()
        whole = base + slope * rows
        return min(1.0, slope * rows / whole) if whole > 0 else 1.0

    def tokens_within(self, seconds: float) -> int | None:
        """Return how many prompt tokens the device computes in this time; None before anything ran."""
        weight, tokens, taken, *_ = self._sums
        # Where the fit says that tokens are free, which noise can make it say, what all of them took is the safe guess.
        slope = self._prompt_token or self._line()[1] or (taken / tokens if weight else 0.0)
        return int(seconds / slope) if slope > 0 else None

    def _line(self) -> tuple[float, float]:
        weight, *sums = self._sums
        if not weight:
            return 0.0, 0.0
        tokens, seconds, squares, products = (value / weight for value in sums)
        spread = squares - tokens * tokens
        if spread > _SAME_LENGTH:
            slope = max(0.0, (products - tokens * seconds) / spread)
        else:
            slope = _FIRST_GUESS * seconds / (1 + _FIRST_GUESS * (tokens - 1))
        slope = min(slope, seconds / tokens)
        return seconds - slope * tokens, slope
