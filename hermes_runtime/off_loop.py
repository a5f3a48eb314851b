"""Work that would hold an event loop up: making prompts and grammars, and handing requests to an engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Most of the work needs the interpreter's lock: with more threads the loop's own would only wait longer for its turn.
_THREADS = 4


async def off_loop(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run work in a thread, in the context of this task, while the event loop goes on; return what it returns.

    A task that is cancelled here stops waiting; work that has begun ends by itself, and what it leaves behind is for
    the caller to undo. The threads are few, shared and kept for this: in the loop's own executor such work could stand
    behind functions of the program that wait for this very answer.

    Args:
        work: Must not wait for anything.
        *args: Its arguments.
        **kwargs: Its arguments by name.
    """
    in_context = partial(copy_context().run, work, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_pool, in_context)


def _new_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="hermes-off-loop")


def _forget_pool() -> None:
    """Start anew in a forked child, where the threads are not."""
    global _pool  # noqa: PLW0603 - one per process
    _pool = _new_pool()


_pool = _new_pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
