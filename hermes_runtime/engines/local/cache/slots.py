"""The KV cache of several sequences, one slot (row) each, of different lengths.

Sequences own their lengths; the cache owns the tensors. Taking tokens back costs nothing: a slot is simply written
again from an earlier position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

from hermes_runtime.engines.local.cache.attention import PackedPass, Segment
from hermes_runtime.engines.local.cache.pool import Placement, rounded

_SPARE = 1  # position, see `SlotCache.spare`


@dataclass(frozen=True, slots=True)
class SlotRow:
    """What one forward pass adds to one slot.

    Attributes:
        slot: Index of the slot.
        start: Tokens of the slot that stay; the new ones follow them.
        ids: The new tokens.
    """

    slot: int
    start: int
    ids: tuple[int, ...]

    @property
    def end(self) -> int:
        """Length of the slot after the pass."""
        return self.start + len(self.ids)


class SlotCache(Cache):
    """A `Cache` whose rows are slots.

    Args:
        layers: Number of decoder layers.
        longest: Upper bound on the tokens of a slot.
        tokens: What all slots together should hold at most; may be changed.
        window: A query sees this many last tokens, itself included; None sees all.
        device: Where the tensors of a pass are made.
        dtype: The model's.
    """

    def __init__(
        self,
        layers: int,
        *,
        longest: int,
        tokens: int,
        window: int | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._longest = longest
        self.tokens = tokens
        self._window = window
        self.device = device
        self._dtype = dtype
        # One attention call for all short rows saves launches on a GPU; a CPU would read the longest slot for each.
        self._joins_rows = device.type != "cpu"
        self.slots = 0
        self.length = 0
        self.moves = 0  # how often the tensors were made anew
        self.slot_index = self.positions = torch.empty(0, dtype=torch.long)
        self._layers = [_SlotLayer(self) for _ in range(layers)]
        super().__init__(layers=list(self._layers))

    def prepare(self, rows: Sequence[SlotRow], is_wanted: Callable[[], bool] = lambda: True) -> PackedPass:
        """Plan a forward pass; the model's next call writes the new keys and values of these rows.

        Args:
            rows: What is new, at most one row a slot, in the order of the slots.
            is_wanted: See `PackedPass`.
        """
        self.make_room(rows)
        numbers = torch.tensor(
            [
                [token for row in rows for token in row.ids],
                [position for row in rows for position in range(row.start, row.end)],
                [row.slot for row in rows for _ in row.ids],
            ],
            device=self.device,
        )
        self.positions, self.slot_index = numbers[1], numbers[2]
        return PackedPass(numbers[:1], numbers[1:2], tuple(self._segments(rows)), is_wanted)

    def make_room(self, rows: Sequence[SlotRow]) -> None:
        """Grow so that these rows fit."""
        self._grow(max(row.slot for row in rows) + 1, max(row.end for row in rows))

    def prepare_fixed(self, numbers: torch.Tensor, slots: slice, length: int) -> PackedPass:
        """Plan a forward pass over equally many tokens of adjacent slots whose numbers may change between its runs.

        Args:
            numbers: (3, T): ids, positions and slots of the tokens, slot after slot. The position `spare` is for tokens
                that fill up a row: nobody sees what stands there.
            slots: The slots.
            length: How many positions of each slot the tokens may see.
        """
        self.positions, self.slot_index = numbers[1], numbers[2]
        keys = slice(0, length)
        positions = self.positions.view(slots.stop - slots.start, -1)
        hidden = self._hidden(positions, keys)
        # What fills up stands behind all keys, so a window may hide every one of them; and some attentions answer a
        # query that sees nothing with what is no number, which would stand in the cache from then on.
        hidden[..., 0].masked_fill_((positions >= length)[:, None], 0.0)
        part = Segment(slice(0, numbers.shape[1]), slots, keys, hidden)
        return PackedPass(numbers[:1], numbers[1:2], (part,), lambda: True)

    @property
    def spare(self) -> int:
        """A position after all that any slot holds."""
        return self.length

    def copy_prefix(self, placement: Placement) -> None:
        """Give a slot the cached tokens of another."""
        assert placement.copy_from is not None
        source, target = placement.copy_from.index, placement.slot.index
        self._grow(max(source, target) + 1, placement.cached)
        for layer in self._layers:
            layer.copy(source, target, placement.cached)

    def _segments(self, rows: Sequence[SlotRow]) -> Iterator[Segment]:
        token = 0
        for group in self._joined(rows):
            new = len(group[0].ids)
            first, length = 0, max(row.end for row in group)
            if self._window is not None:
                first = max(0, min(row.start for row in group) + 1 - self._window)
            tokens, keys = slice(token, token + new * len(group)), slice(first, length)
            yield Segment(
                tokens,
                slots=slice(group[0].slot, group[-1].slot + 1),
                keys=keys,
                hidden=None if len(group) == new == 1 else self._hidden(self.positions[tokens].view(-1, new), keys),
            )
            token = tokens.stop

    def _joined(self, rows: Sequence[SlotRow]) -> list[list[SlotRow]]:
        """Split rows into runs of adjacent slots with equally many new tokens."""
        if not self._joins_rows:
            return [[row] for row in rows]
        numbered = enumerate(rows)
        return [
            [row for _, row in run]
            for _, run in groupby(numbered, lambda item: (item[1].slot - item[0], len(item[1].ids)))
        ]

    def _hidden(self, positions: torch.Tensor, keys: slice) -> torch.Tensor:
        """Say what tokens at these positions, (slots, new tokens), do not see; see `Segment`."""
        query = positions[..., None]
        key = torch.arange(keys.start, keys.stop, device=self.device)
        is_hidden = key > query
        if self._window is not None:
            is_hidden |= key <= query - self._window
        hidden = torch.zeros(is_hidden.shape, dtype=self._dtype, device=self.device)
        return hidden.masked_fill_(is_hidden, float("-inf"))[:, None]

    def reshape(self, rows: Sequence[int], length: int) -> None:
        """Keep some slots only, in this order, of a new length; the others' memory is free afterwards."""
        for layer in self._layers:
            layer.reshape(rows, length)
        self.slots, self.length = len(rows), length
        self.moves += 1

    def clear(self) -> None:
        """Forget all slots."""
        for layer in self._layers:
            layer.clear()
        self.slots = self.length = 0
        self.moves += 1

    def _grow(self, slots: int, length: int) -> None:
        wanted = rounded(length)
        if slots <= self.slots and wanted <= self.length:
            return
        self.moves += 1
        slots = max(slots, self.slots)
        if wanted > self.length:
            # By half at least, so that a growing conversation is copied a bounded number of times; if memory allows.
            generous = min(self.length + self.length // 2, self._longest, self.tokens // slots)
            wanted = max(wanted, generous)
        for layer in self._layers:
            layer.resize(slots, max(wanted, self.length))
        # Only now: where memory ran out halfway, the next pass asks again.
        self.slots, self.length = slots, max(wanted, self.length)


class _SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call] # the base class registers its subclasses
    """Keys and values of one layer, (slots, heads, length and the spare position, head width)."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, owner: SlotCache) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._owner = owner

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys, self.values = (
            new.new_zeros(self._owner.slots, new.shape[1], self._owner.length + _SPARE, new.shape[3])
            for new in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new tokens, (1, heads, T, head width), and return all slots whole: attention picks its own."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        places = (self._owner.slot_index, slice(None), self._owner.positions)
        self.keys[places] = key_states[0].transpose(0, 1)
        self.values[places] = value_states[0].transpose(0, 1)
        return self.keys, self.values

    def copy(self, source: int, target: int, length: int) -> None:
        for kept in (self.keys, self.values):
            kept[target, :, :length] = kept[source, :, :length]

    def resize(self, slots: int, length: int) -> None:
        if self.is_initialized:
            self.keys, self.values = (_resized(kept, slots, length + _SPARE) for kept in (self.keys, self.values))

    def reshape(self, rows: Sequence[int], length: int) -> None:
        if self.is_initialized:
            self.keys, self.values = (_reshaped(kept, rows, length + _SPARE) for kept in (self.keys, self.values))

    def clear(self) -> None:
        self.is_initialized = False
        self.keys = self.values = torch.empty(0)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._owner.length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1


def _resized(kept: torch.Tensor, slots: int, length: int) -> torch.Tensor:
    if kept.shape[0] >= slots and kept.shape[2] >= length:
        return kept
    larger = kept.new_zeros(max(slots, kept.shape[0]), kept.shape[1], max(length, kept.shape[2]), kept.shape[3])
    larger[: kept.shape[0], :, : kept.shape[2]] = kept
    return larger


def _reshaped(kept: torch.Tensor, rows: Sequence[int], length: int) -> torch.Tensor:
    other = kept.new_zeros(len(rows), kept.shape[1], length, kept.shape[3])
    stays = min(length, kept.shape[2])
    for new, old in enumerate(rows):
        if old < len(kept):  # a slot that was taken just now has no row yet
            other[new, :, :stays] = kept[old, :, :stays]
    return other
