"""What the end and the forking of a process mean for its engines."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import Protocol

import torch

from hermes_runtime.engines.streams.channel import DeltaChannel
from hermes_runtime.errors import EngineError


class ThreadedEngine(Protocol):
    """An engine whose work is done by a thread of its own."""

    def close(self) -> None:
        """Stop, and wait for the thread."""

    def leave_behind(self) -> None:
        """Take note, in a forked child, that the thread is not here; locks may be held for ever."""


_OPEN_ENGINES: weakref.WeakSet[ThreadedEngine] = weakref.WeakSet()
_OPEN_CHANNELS: weakref.WeakSet[DeltaChannel] = weakref.WeakSet()
_HAS_COMPUTED = False
_FORKED_FROM_AN_ENGINE = False


def close_at_exit(engine: ThreadedEngine) -> None:
    """Close an engine when the interpreter ends: a thread that is inside torch then would crash the process."""
    global _HAS_COMPUTED  # noqa: PLW0603 - a fact about the process
    _HAS_COMPUTED = True
    _OPEN_ENGINES.add(engine)


def open_channel() -> DeltaChannel:
    """Return a channel that fails in a forked child, where nobody would ever write to it."""
    channel = DeltaChannel()
    _OPEN_CHANNELS.add(channel)
    return channel


def refuse_forked_torch() -> None:
    """Refuse to compute in a child of a process in which an engine has computed, where torch's own threads are missing.

    Raises:
        EngineError: That is so, and torch would use more than one thread.
    """
    if _FORKED_FROM_AN_ENGINE and torch.get_num_threads() > 1:
        raise EngineError(
            "this process was forked from one in which an engine has computed, and torch's threads do not survive a "
            "fork; start processes with the 'spawn' method, fork before the first model is loaded, or call "
            "torch.set_num_threads(1) here"
        )


def refusal(model_name: str, *, is_left_behind: bool) -> EngineError:
    """Return what an engine that does not run any more raises to those who ask it."""
    if is_left_behind:
        return EngineError(
            f"the engine of {model_name!r} runs in the process that this one was forked from: threads do not survive "
            "a fork. Start processes with the 'spawn' method, or fork before the model is loaded"
        )
    return EngineError(f"the engine of {model_name!r} is closed; load it again")


@atexit.register
def _close_open_engines() -> None:
    for engine in list(_OPEN_ENGINES):
        engine.close()


def _leave_engines_behind() -> None:
    global _FORKED_FROM_AN_ENGINE  # noqa: PLW0603 - a fact about the process
    _FORKED_FROM_AN_ENGINE = _FORKED_FROM_AN_ENGINE or _HAS_COMPUTED
    for engine in list(_OPEN_ENGINES):
        engine.leave_behind()
    for channel in list(_OPEN_CHANNELS):
        channel.leave_behind(EngineError("this stream is computed in the process that this one was forked from"))
    _OPEN_ENGINES.clear()
    _OPEN_CHANNELS.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_engines_behind)
