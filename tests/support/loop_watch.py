"""Finds out whether an event loop goes on while something is done."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

PATIENCE = 30.0  # seconds until a loop that does not go on fails the test


class LoopWatch:
    """Makes steps of a call wait for the event loop: one that is done on the loop's own thread waits for itself.

    Args:
        monkeypatch: Pytest's.

    Attributes:
        seen: The names of the steps that were done, in order.
    """

    def __init__(self, monkeypatch: Any) -> None:
        self.seen: list[str] = []
        self._monkeypatch = monkeypatch
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    def begin(self) -> None:
        """Watch the running loop from now on."""
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()

    def step(self, owner: Any, name: str) -> None:
        """Watch a function by its name in a module, a class or an object."""
        work = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            if self._loop is not None:
                self.seen.append(name)
                self._wait(name)
            return work(*args, **kwargs)

        self._monkeypatch.setattr(owner, name, watched)

    def _wait(self, name: str) -> None:
        assert self._loop is not None
        assert threading.get_ident() != self._thread, f"{name} is done on the event loop's thread"
        gone_on = threading.Event()
        self._loop.call_soon_threadsafe(gone_on.set)
        assert gone_on.wait(PATIENCE), f"the event loop stands still during {name}"


def watch_turns(monkeypatch: Any, engine: Any) -> LoopWatch:
    """Return a watch over all that a turn does before its first token: schema checks, grammar, prompt, hand-over."""
    from hermes_runtime.turn import turn

    watch = LoopWatch(monkeypatch)
    for name in ("check_tools", "turn_grammar", "render_prompt"):
        watch.step(turn, name)
    watch.step(engine, "submit")
    return watch
