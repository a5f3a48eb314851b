"""Attention of a packed pass: the new tokens of all sequences stand one after another, each sees its own slot only.

Nothing is padded: linear layers compute exactly the new tokens, and a short conversation never pays for a long one
beside it. Transformers calls it through its public attention interface.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

_NAME = "hermes_slots"


_lock = threading.Lock()
_varied_passes = 0
_had_cudnn = True


@contextmanager
def varied_lengths() -> Iterator[None]:
    """Compute passes whose keys are as many as they happen to be.

    On Hopper and later torch prefers cuDNN's attention, which builds a plan for each new number of queries or keys, in
    tens of milliseconds of the host's time: right for shapes that come again, but here each would be the first.
    The switch is the process's: the last one out turns it back.
    """
    global _varied_passes, _had_cudnn  # noqa: PLW0603 - torch keeps the switch in a global too
    with _lock:
        if not _varied_passes:
            _had_cudnn = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            torch.backends.cuda.enable_cudnn_sdp(False)
        _varied_passes += 1
    try:
        yield
    finally:
        with _lock:
            _varied_passes -= 1
            if not _varied_passes:
                torch.backends.cuda.enable_cudnn_sdp(_had_cudnn)


class PassAbandonedError(Exception):
    """Nobody wants the result of the running pass any more."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Equally many new tokens of each of S adjacent slots.

    Attributes:
        tokens: Where in the pass they stand, slot after slot.
        slots: Their slots.
        keys: The positions of these slots that any of the tokens sees.
        hidden: Minus infinity where a token does not see a key, else 0, of the model's type, (S, 1, tokens of a slot,
            keys); None where all see all.
    """

    tokens: slice
    slots: slice
    keys: slice
    hidden: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class PackedPass:
    """One forward pass over T new tokens.

    Attributes:
        input_ids: (1, T) int64.
        position_ids: (1, T) int64; also where in its slot each token goes.
        segments: What sees what.
        is_wanted: Asked before each layer; once it says no, the pass ends with `PassAbandonedError`.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    segments: tuple[Segment, ...]
    is_wanted: Callable[[], bool]


def use_slot_attention(model: PreTrainedModel) -> None:
    """Let a model take packed passes; without one it goes on as with `sdpa`."""
    AttentionInterface.register(_NAME, _slot_attention)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    model.set_attn_implementation(_NAME)


def _slot_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    packed: PackedPass | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend.

    Args:
        module: The model's attention module.
        query: (1, heads, T, width).
        key: (slots, key heads, length, width), all that the cache holds.
        value: As `key`.
        attention_mask: What the model made of its own; unused in a packed pass, whose segments say it.
        scaling: Of the scores.
        packed: The pass; None outside the engine.
        **options: What else transformers hands to attention functions.

    Returns:
        (1, T, heads, width).
    """
    if packed is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    if not packed.is_wanted():
        raise PassAbandonedError
    outputs = [
        _attend(query[0, :, part.tokens], key[part.slots, :, part.keys], value[part.slots, :, part.keys], part, scaling)
        for part in packed.segments
    ]
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs))[None], None


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, part: Segment, scaling: float | None
) -> torch.Tensor:
    """(heads, S * n, width) over (S, key heads, length, width) -> (S * n, heads, width)."""
    heads, _, width = query.shape
    slots, key_heads, length, _ = key.shape
    group = heads // key_heads
    # The query heads that share a key head stand as further queries of it: keys and values are not repeated for them.
    folded = query.reshape(key_heads, group, slots, -1, width).permute(2, 0, 1, 3, 4)
    new = folded.shape[3]
    hidden = None if part.hidden is None else part.hidden.to(query.dtype)
    if hidden is not None and new > 1:
        hidden = hidden[:, :, None].expand(-1, -1, group, -1, -1).reshape(slots, 1, group * new, length)
    seen = functional.scaled_dot_product_attention(
        folded.reshape(slots, key_heads, group * new, width), key, value, attn_mask=hidden, scale=scaling
    )
    unfolded = seen.view(slots, key_heads, group, new, width).permute(0, 3, 1, 2, 4)
    return unfolded.reshape(slots * new, heads, width)
