"""Bounds of the running batch, and how many tokens the memory at hand can keep."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.weights.loader import LoadedCheckpoint
from hermes_runtime.weights.memory import free_bytes

# Of the memory that is free when the weights are loaded; the rest is for the passes themselves and for everybody else.
_CACHE_SHARE = 0.5
_CPU_CHUNK, _GPU_CHUNK = 512, 2048


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Bounds of the running batch.

    Attributes:
        slots: Sequences in the cache, running or kept as prefixes; fewer while they are too long for the memory.
        waiting: Requests in the queue; one more is refused.
        chunk: Prompt tokens computed in one pass. None lets the device say: 512 on a CPU, 2,048 elsewhere.
        patience: Seconds that streams wait for the next prompt tokens of others: beside streams, a chunk is as much as
            the device computes in this time, but at least 16 tokens.
        draft: Drafted tokens of a sequence verified in one pass; 0 drafts nothing.
        graphs: Decode in CUDA graphs. None does so on a GPU.

    Raises:
        InvalidRequestError: A bound that leaves no room for a request.
    """

    slots: int = 8
    waiting: int = 1024
    chunk: int | None = None
    patience: float = 1.0
    draft: int = 16
    graphs: bool | None = None

    def __post_init__(self) -> None:
        for name, least in (("slots", 1), ("waiting", 0), ("chunk", 1), ("patience", 0), ("draft", 0)):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and value >= least):
                raise InvalidRequestError(f"{name} must be at least {least}, got {value!r}")
        if self.graphs not in (None, True, False):
            raise InvalidRequestError(f"graphs must be True, False or None, got {self.graphs!r}")

    def chunk_on(self, device: torch.device) -> int:
        """Return the chunk on a device."""
        return self.chunk or (_CPU_CHUNK if device.type == "cpu" else _GPU_CHUNK)

    def graphs_on(self, device: torch.device) -> bool:
        """Return whether passes are captured on a device.

        Raises:
            InvalidRequestError: They were asked for on another than a CUDA device.
        """
        if self.graphs and device.type != "cuda":
            raise InvalidRequestError(f"CUDA graphs need a CUDA device, and this model is on {device.type!r}")
        return device.type == "cuda" and self.graphs is not False


DEFAULT_LIMITS = EngineLimits()


def affordable_tokens(checkpoint: LoadedCheckpoint) -> int:
    """Return how many tokens' keys and values fit the memory that is free, the rest of the program left its part.

    A token takes two vectors per layer and key-value head: 128 KiB for Mistral 7B in 16 bits.
    """
    config = checkpoint.model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token_bytes = 2 * config.num_hidden_layers * heads * width * checkpoint.model.dtype.itemsize
    return int(free_bytes(torch.device(checkpoint.device)) * _CACHE_SHARE) // int(token_bytes)
