"""Runs steps in a few minutes of a machine that may break under them.

Steps run in order of worth in a process of their own, and every figure is written as soon as it is there. A step that
raises is noted, and the next one runs. A step that outlasts its limit, or ends the process, costs only itself: a new
process goes on with those that follow it. When time is up, what was not reached is named.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

_GRACE = 1.0  # seconds that must be left for a step to be begun
_START = 120.0  # seconds until a process has imported all it needs
_LONGEST_TAIL = 1500  # characters of what a process said before it ended


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to measure.

    Attributes:
        name: Of the step.
        limit: Seconds after which it is given up.
        run: Measures; gets what all steps of a process share, and the log.
    """

    name: str
    limit: float
    run: Callable[[Any, Log], None]


class Log:
    """Writes lines of JSON, each of them at once.

    Args:
        to: Where to.
    """

    def __init__(self, to: IO[str]) -> None:
        self._to = to

    def write(self, **line: Any) -> None:
        """Write a line."""
        self._to.write(json.dumps(line, default=str) + "\n")
        self._to.flush()

    def figure(self, result: Any, **beside: Any) -> None:
        """Write a `Result`, and what else is to be known of it."""
        self.write(**{key: value for key, value in asdict(result).items() if value is not None}, **beside)


def work(steps: Iterable[Step], shared: Any, log: Log, *, is_fatal: Callable[[Exception], bool]) -> int:
    """Run steps in this process; return its exit status.

    Args:
        steps: In order.
        shared: What each of them gets.
        log: Where figures go, and when a step begins and ends.
        is_fatal: Whether nothing can be computed here after an error.
    """
    for step in steps:
        start = time.perf_counter()
        log.write(begins=step.name)
        try:
            step.run(shared, log)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other steps go on
            where = traceback.format_exc()[-_LONGEST_TAIL:]
            log.write(failed=step.name, error=f"{type(error).__name__}: {error}"[:300], where=where)
            if is_fatal(error):
                return 1
        log.write(ends=step.name, seconds=round(time.perf_counter() - start, 2))
    return 0


class Slot:
    """A stretch of time and what is measured in it.

    Args:
        command: Starts a process that calls `work` with the steps whose names follow, its log on its stdout.
        limits: Seconds of each step by name, in order of worth.
        seconds: How much time there is in all.
        lines: The file that each line is copied to.
        show: Called with each line.
    """

    def __init__(
        self,
        command: Sequence[str],
        limits: Mapping[str, float],
        *,
        seconds: float,
        lines: Path,
        show: Callable[[dict[str, Any]], None],
    ) -> None:
        self._command = list(command)
        self._limits = dict(limits)
        self._end = time.monotonic() + seconds
        self._start = time.monotonic()
        self._path = lines
        self._show = show
        self.lines: list[dict[str, Any]] = []

    def run(self) -> list[dict[str, Any]]:
        """Run all steps; return the lines."""
        waiting = list(self._limits)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text("")
        while waiting and self._left > _GRACE:
            waiting = self._run_process(waiting)
        for name in waiting:
            self._take({"left_out": name, "reason": "no time was left"})
        return self.lines

    @property
    def _left(self) -> float:
        return self._end - time.monotonic()

    def _take(self, line: dict[str, Any]) -> None:
        line = {"at": round(time.monotonic() - self._start, 1), **line}
        self.lines.append(line)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._show(line)

    def _run_process(self, waiting: list[str]) -> list[str]:
        """Run one process until it ends or must end; return the steps that are still to be run."""
        process = _Process([*self._command, *waiting])
        running: str | None = None
        begun, until = time.monotonic(), _START
        try:
            while (line := process.line(min(begun + until - time.monotonic(), self._left))) is not None:
                if "begins" in line:
                    running, begun, until = line["begins"], time.monotonic(), self._limits[line["begins"]]
                    continue
                self._take(line)
                if "ends" in line:
                    waiting = waiting[waiting.index(line["ends"]) + 1 :]
                    running, begun, until = None, time.monotonic(), _START
        except queue.Empty:
            process.kill()
            broken = {"late": running or waiting[0], "seconds": round(time.monotonic() - begun, 1)}
        else:
            status = process.wait()
            if not waiting:
                return waiting
            broken = {"died": running or waiting[0], "status": status}
        self._take({**broken, **process.last_words})
        return waiting[waiting.index(running or waiting[0]) + 1 :]


class _Process:
    """A process that writes lines of JSON, and says other things."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._said: list[str] = []
        self._arrived: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=_hand_over, args=(self._process.stdout, self._arrived.put), daemon=True),
            threading.Thread(target=_hand_over, args=(self._process.stderr, self._said.append), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def line(self, seconds: float) -> dict[str, Any] | None:
        """Return the next line; None where the process writes no more.

        Raises:
            queue.Empty: None came within these seconds.
        """
        end = time.monotonic() + seconds
        while (text := self._arrived.get(timeout=max(0.0, end - time.monotonic()))) is not None:
            try:
                line = json.loads(text)
            except ValueError:
                line = None
            if isinstance(line, dict):
                return line
            self._said.append(text)
        return None

    def wait(self) -> int:
        """Wait until the process has ended and all that it said is here; return its status."""
        status = self._process.wait()
        for reader in self._readers:
            reader.join(_GRACE)  # no longer, lest a child of it live on and hold its streams
        return status

    def kill(self) -> None:
        """End the process."""
        self._process.kill()
        self.wait()

    @property
    def last_words(self) -> dict[str, str]:
        """The end of what it said beside lines, under the name of that in a line."""
        text = "\n".join(filter(None, self._said))[-_LONGEST_TAIL:]
        return {"said": text} if text else {}


def _hand_over(stream: IO[str] | None, take: Callable[[Any], None]) -> None:
    assert stream is not None
    for text in stream:
        take(text.rstrip("\n"))
    take(None)


def stdout_log() -> Log:
    """Return a log on stdout, where only it writes from now on: whatever else prints goes to stderr."""
    own = sys.stdout
    sys.stdout = sys.stderr
    return Log(own)
