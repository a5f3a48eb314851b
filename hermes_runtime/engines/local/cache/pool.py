"""Which slot a prompt gets: the one that already holds most of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
# Waiting for another prompt to be computed pays when it saves more tokens than a few decoding passes cost.
_WORTH_WAITING = 32
_LENGTH_STEP = 256


def rounded(length: int) -> int:
    """Round a length up to the steps in which rows of the cache grow."""
    return -(-length // _LENGTH_STEP) * _LENGTH_STEP


@dataclass(slots=True, eq=False)
class Slot:
    """One row of the cache.

    Attributes:
        index: Its row.
        ids: The tokens whose keys and values it holds for certain.
        prompt: What the sequence that runs in it computes, or has computed, first.
        is_busy: A running sequence writes to it.
        last_used: Grows with every use; the smallest is evicted first.
    """

    index: int
    ids: Ids = field(default_factory=lambda: np.empty(0, np.int64))
    prompt: Ids = field(default_factory=lambda: np.empty(0, np.int64))
    is_busy: bool = False
    last_used: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a prompt goes.

    Attributes:
        slot: Its slot, busy from now on.
        cached: Tokens of the prompt that need no computation.
        copy_from: Slot whose first `cached` tokens must be copied first, or None.
    """

    slot: Slot
    cached: int
    copy_from: Slot | None

    def without_prefix(self) -> Placement:
        """Return the same place with nothing in it."""
        self.slot.ids = self.slot.ids[:0]
        return Placement(self.slot, 0, None)


class SlotPool:
    """Slots stay filled after their sequence has ended, so that a conversation's next turn finds its past computed.

    Args:
        size: Upper bound on slots.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._slots: list[Slot] = []
        self._clock = count(1)

    @property
    def rows(self) -> int:
        """How many slots there are, idle ones included."""
        return len(self._slots)

    @property
    def is_full(self) -> bool:
        """Whether as many sequences run as may."""
        return sum(slot.is_busy for slot in self._slots) >= self._size

    def place(self, prompt: Sequence[int]) -> Placement | None:
        """Find a slot for a prompt, or None while all are busy or a running prompt is about to compute most of it.

        The donor is the slot with the longest common prefix. A prompt that continues an idle donor takes it over; one
        that branches off copies the prefix, so that the donor's own conversation stays whole, unless there is no room.
        """
        ids = np.asarray(prompt, np.int64)
        idle = [slot for slot in self._slots if not slot.is_busy]
        if self.is_full:
            return None
        donor = max(self._slots, key=lambda slot: _common_prefix(slot.ids, ids), default=None)
        # The last token is always computed: its logits are what the first new token is drawn from.
        shared = 0 if donor is None else min(_common_prefix(donor.ids, ids), len(ids) - 1)
        if any(_common_prefix(slot.prompt, ids) >= shared + _WORTH_WAITING for slot in self._slots if slot.is_busy):
            return None
        if donor is None or shared == 0:
            return Placement(self._taken(self._vacant(idle, None), ids, 0), 0, None)
        if not donor.is_busy and (shared >= len(donor.ids) - 1 or (len(idle) == 1 and len(self._slots) >= self._size)):
            return Placement(self._taken(donor, ids, shared), shared, None)
        return Placement(self._taken(self._vacant(idle, donor), ids, shared), shared, donor)

    def release(self, slot: Slot, ids: Sequence[int]) -> None:
        """Give a slot back with what it holds now; nothing, where that is in doubt."""
        slot.ids = np.asarray(ids, np.int64)
        slot.is_busy = False
        slot.last_used = next(self._clock)

    def keep(self, tokens: int, length: int) -> tuple[list[int], int]:
        """Evict idle slots, the least recently used first, until all rows together hold at most `tokens`.

        Args:
            tokens: What the memory holds; busy slots stay whatever it is.
            length: Least length of a row.

        Returns:
            The former rows of the slots that are left, in their new order, and how long the longest must be.
        """
        kept = [slot for slot in self._slots if slot.is_busy]
        idle = [slot for slot in self._slots if not slot.is_busy and len(slot.ids)]
        for slot in sorted(idle, key=lambda slot: slot.last_used, reverse=True):
            longest = max(length, rounded(len(slot.ids)))
            if (len(kept) + 1) * longest <= tokens:
                kept.append(slot)
                length = longest
        self._slots = sorted(kept, key=lambda slot: slot.index)
        rows = [slot.index for slot in self._slots]
        for row, slot in enumerate(self._slots):
            slot.index = row
        return rows, length

    def forget(self) -> None:
        """Take note that the cache holds nothing any more."""
        for slot in self._slots:
            slot.ids = slot.ids[:0]

    def holds(self, slot: Slot, tokens: int) -> bool:
        """Whether a slot was not evicted and still has so many tokens."""
        return slot in self._slots and len(slot.ids) >= tokens

    def _vacant(self, idle: Sequence[Slot], donor: Slot | None) -> Slot:
        if len(self._slots) < self._size:
            self._slots.append(Slot(len(self._slots)))
            return self._slots[-1]
        return min((slot for slot in idle if slot is not donor), key=lambda slot: (len(slot.ids) > 0, slot.last_used))

    def _taken(self, slot: Slot, prompt: Ids, shared: int) -> Slot:
        slot.is_busy = True
        slot.ids, slot.prompt = prompt[:shared], prompt
        slot.last_used = next(self._clock)
        return slot


def _common_prefix(left: Ids, right: Ids) -> int:
    length = min(len(left), len(right))
    differs = left[:length] != right[:length]
    return int(differs.argmax()) if differs.any() else length
