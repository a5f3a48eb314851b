"""Will the weights fit? Asked before loading: running out halfway takes minutes and can take the machine with it."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

from hermes_runtime.checkpoint.folder import Checkpoint
from hermes_runtime.errors import DeviceMemoryError
from hermes_runtime.weights.kernels.table import KERNELS

_WORKING_ROOM = 256 * 2**20  # bytes: buffers of a forward, the tokenizer, Python itself
_CGROUP = Path("/sys/fs/cgroup")


def loaded_bytes(checkpoint: Checkpoint, dtype: torch.dtype, kernel: str) -> int:
    """Bytes that the weights take once they are loaded, an estimate from the shapes alone."""
    row = KERNELS[kernel]
    width = torch.empty((), dtype=dtype).element_size()
    layers = set(checkpoint.quantized_layers)
    total = 0
    for name, tensor in checkpoint.tensors.items():
        layer, _, part = name.rpartition(".")
        if layer not in layers:
            total += tensor.numel * width
        elif part == "qweight":
            total += tensor.numel * 8 * width if row.is_dense else tensor.nbytes
        elif part == "scales":
            total += tensor.numel * (width if row.pair_bytes is None else row.pair_bytes)
        elif part == "qzeros" and row.pair_bytes is None:
            total += tensor.nbytes
    return total


def needed_bytes(checkpoint: Checkpoint, dtype: torch.dtype, kernel: str) -> int:
    """Bytes that loading needs at its peak: the weights, one layer twice on its way, and working room."""
    largest = max((tensor.nbytes for tensor in checkpoint.tensors.values()), default=0)
    return loaded_bytes(checkpoint, dtype, kernel) + 2 * largest + _WORKING_ROOM


def free_bytes(device: torch.device) -> int:
    """Bytes that can still be allocated on `device`, a container's limit included."""
    if device.type == "cuda":
        # What torch keeps of freed memory counts as taken there, and can be allocated here.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    free = int(psutil.virtual_memory().available)
    limit, used = _CGROUP / "memory.max", _CGROUP / "memory.current"
    if limit.is_file() and used.is_file() and (text := limit.read_text().strip()).isdigit():
        free = min(free, max(0, int(text) - int(used.read_text())))
    return free


def check_memory(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, kernel: str) -> None:
    """Refuse a checkpoint that does not fit.

    Raises:
        DeviceMemoryError: With what is needed and what is free.
    """
    needed, free = needed_bytes(checkpoint, dtype, kernel), free_bytes(device)
    if needed > free:
        in_four_bits = "kernel='torch'" if checkpoint.quantization else "an AWQ copy of it"
        advice = "free some memory, use a smaller checkpoint" + (
            f", or {in_four_bits}" if KERNELS[kernel].is_dense else ""
        )
        raise DeviceMemoryError(
            f"loading {checkpoint.name!r} with kernel {kernel!r} needs {needed / 1e9:.2f} GB on {device}, "
            f"and {free / 1e9:.2f} GB are free; {advice}"
        )
