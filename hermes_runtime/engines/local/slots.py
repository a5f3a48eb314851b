"""The KV cache of several sequences, one slot (row) each, of different lengths and without padding to align them.

Sequences own their lengths; the cache owns the tensors. Taking tokens back costs nothing: a slot is simply written
again from an earlier position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

from hermes_runtime.engines.local.pool import Placement

_LENGTH_STEP = 256


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


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """Tensors of one forward pass over B rows of at most Q new tokens and at most K tokens in all.

    Attributes:
        input_ids: (B, Q) int64, rows padded on the right.
        position_ids: (B, Q) int64.
        attention_mask: (B, 1, Q, K) bool, True where a query sees a key.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor


class SlotCache(Cache):
    """A `Cache` whose rows are slots.

    Args:
        layers: Number of decoder layers.
        longest: Upper bound on the tokens of a slot.
        window: A query sees this many last tokens, itself included; None sees all.
        device: Where the tensors of a pass are made.
    """

    def __init__(self, layers: int, *, longest: int, window: int | None, device: torch.device) -> None:
        self._longest = longest
        self._window = window
        self._device = device
        self.slots = 0
        self.length = 0
        self.rows = slice(0, 0)
        self.row_index: torch.Tensor | None = None
        self.positions = torch.empty(0)
        self.keys_length = 0
        self._layers = [_SlotLayer(self) for _ in range(layers)]
        super().__init__(layers=list(self._layers))

    def prepare(self, rows: Sequence[SlotRow]) -> ModelInputs:
        """Plan a forward pass; the model's next call writes the new keys and values of these rows."""
        longest = max(len(row.ids) for row in rows)
        self.keys_length = max(row.end for row in rows)
        self._grow(max(row.slot for row in rows) + 1, self.keys_length)
        slots = [row.slot for row in rows]
        first = slots[0]
        is_contiguous = slots == list(range(first, first + len(slots)))
        # A slice is a view; any other choice of rows is copied by every layer of every pass.
        self.rows = slice(first, first + len(slots))
        self.row_index = None if is_contiguous else torch.tensor(slots, device=self._device)
        ids = torch.tensor([[*row.ids, *(0,) * (longest - len(row.ids))] for row in rows], device=self._device)
        step = torch.arange(longest, device=self._device)[None]
        start = torch.tensor([[row.start] for row in rows], device=self._device)
        is_new = step < torch.tensor([[len(row.ids)] for row in rows], device=self._device)
        places = torch.where(is_new, start + step, start)  # padding repeats the first new token's view and is dropped
        self.positions = torch.where(is_new, start + step, self.length)
        keys = torch.arange(self.keys_length, device=self._device)
        visible = keys[None, None] <= places[:, :, None]
        if self._window is not None:
            visible &= keys[None, None] > places[:, :, None] - self._window
        return ModelInputs(ids, places, visible[:, None])

    def copy_prefix(self, placement: Placement) -> None:
        """Give a slot the cached tokens of another."""
        assert placement.copy_from is not None
        source, target = placement.copy_from.index, placement.slot.index
        self._grow(max(source, target) + 1, placement.cached)
        for layer in self._layers:
            layer.copy(source, target, placement.cached)

    def _grow(self, slots: int, length: int) -> None:
        wanted = -(-length // _LENGTH_STEP) * _LENGTH_STEP
        if slots <= self.slots and wanted <= self.length:
            return
        self.slots = max(slots, self.slots)
        # By half at least, so that a growing conversation is copied a bounded number of times.
        if wanted > self.length:
            self.length = min(max(wanted, self.length + self.length // 2), max(wanted, self._longest))
        for layer in self._layers:
            layer.resize()


class _SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call] # the base class registers its subclasses
    """Keys and values of one layer, (slots, heads, length + 1, head width).

    The last column takes what padding writes.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, owner: SlotCache) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._owner = owner

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        owner = self._owner
        _, heads, _, width = key_states.shape
        self.keys = key_states.new_zeros(owner.slots, heads, owner.length + 1, width)
        self.values = value_states.new_zeros(owner.slots, heads, owner.length + 1, value_states.shape[-1])
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        return self._write(self.keys, key_states), self._write(self.values, value_states)

    def _write(self, kept: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        owner = self._owner
        if owner.row_index is None:
            rows = kept[owner.rows]
            places = owner.positions[:, None, :, None].expand(-1, new.shape[1], -1, new.shape[3])
            rows.scatter_(2, places, new)
            return rows[:, :, : owner.keys_length]
        kept[owner.row_index[:, None], :, owner.positions] = new.transpose(1, 2)
        return kept[owner.row_index, :, : owner.keys_length]

    def copy(self, source: int, target: int, length: int) -> None:
        for kept in (self.keys, self.values):
            kept[target, :, :length] = kept[source, :, :length]

    def resize(self) -> None:
        if not self.is_initialized:
            return
        self.keys, self.values = self._resized(self.keys), self._resized(self.values)

    def _resized(self, kept: torch.Tensor) -> torch.Tensor:
        larger = kept.new_zeros(self._owner.slots, kept.shape[1], self._owner.length + 1, kept.shape[3])
        larger[: kept.shape[0], :, : kept.shape[2] - 1] = kept[:, :, :-1]
        return larger

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._owner.keys_length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1
