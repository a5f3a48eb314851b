"""What every engine over a local checkpoint does alike: bound its context and name its failures."""

from __future__ import annotations

import traceback

import torch

from hermes_runtime.errors import DeviceMemoryError, EngineError, HermesError, InvalidRequestError, chained
from hermes_runtime.weights.loader import LoadedCheckpoint


def bounded_context_window(checkpoint: LoadedCheckpoint, asked: int | None) -> int:
    """Return the context window that was asked for, or else the checkpoint's.

    Raises:
        InvalidRequestError: It is larger than the checkpoint's, or not positive.
    """
    if asked is None:
        return checkpoint.context_window
    if not 0 < asked <= checkpoint.context_window:
        raise InvalidRequestError(
            f"context_window must be between 1 and {checkpoint.context_window}, the positions that "
            f"{checkpoint.name!r} was made for; got {asked}"
        )
    return asked


def is_of_the_device(error: BaseException | None) -> bool:
    """Whether the device itself failed: nothing can be computed on it in this process any more."""
    return isinstance(error, torch.AcceleratorError) or "CUDA error" in str(error)


def as_typed_error(error: Exception) -> HermesError:
    """Return what a failed computation raises to its reader.

    Its causes hold no tensors: an error may stand unread for as long as a stream does, and what is computed meanwhile
    needs the memory.
    """
    if isinstance(error, HermesError):
        return error
    for link in chained(error):
        traceback.clear_frames(link.__traceback__)
    failure: HermesError
    # The CPU allocator raises a plain RuntimeError.
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error):
        failure = DeviceMemoryError(f"out of memory while generating: {error}")
    elif is_of_the_device(error):
        failure = EngineError(f"the device failed; restart the process: {error}")
    else:
        failure = EngineError(f"generation failed: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
