"""Scenarios: how one is written, played on both sides, and compared."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.side_by_side.plain import error_kind, plain
from tests.side_by_side.script import BAD_REQUEST, BROKEN, OVERFLOW, TIMEOUT, Replies, Said, Script
from tests.side_by_side.sides import HOSTED_AND_OURS, Side

PATIENCE = 60.0  # seconds for one side of an async scenario
Way = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a scenario on one side.

    Attributes:
        result: What it returned, in plain data.
        error: Else the kind of error that ended it.
        requests: How often a model was asked.
        problem: Why nothing can be compared: the script was too short.
    """

    result: Any
    error: str | None
    requests: int
    problem: str | None = None
    cause: BaseException | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A use of somebody's code.

    Attributes:
        name: Says what is done, and in brackets in which way.
        framework: `langchain` or `llama_index`.
        replies: What the model says.
        run: Does it.
        raises: The kind of error it is about; otherwise one that both sides raise proves nothing, and is a fault.
    """

    name: str
    framework: str
    replies: Replies
    run: Callable[[Side], Any]
    raises: str | None = None

    def play(self) -> tuple[Outcome, Outcome]:
        """Return what comes of it with the hosted class, and with ours."""
        hosted, ours = (self._play(side) for side in HOSTED_AND_OURS[self.framework])
        return hosted, ours

    def fault(self, hosted: Outcome, ours: Outcome, *, is_meant: bool) -> str | None:
        """Return what is wrong with two outcomes, which are meant to differ or not; None if nothing is."""
        told = f"\nhosted: {hosted}\n  {hosted.cause!r}\nours:   {ours}\n  {ours.cause!r}"
        if hosted.problem:
            return hosted.problem + told
        if is_meant:
            return None if hosted != ours else "they differ no more: take it out of the table of what is meant" + told
        if hosted != ours:
            return "they differ" + told
        return None if hosted.error == self.raises else "both fail, which shows nothing" + told

    def _play(self, side: type[Side]) -> Outcome:
        script, result, error = Script(self.replies), None, None
        with pytest.MonkeyPatch.context() as monkeypatch:
            try:
                result = self.run(side(script, monkeypatch))
                if inspect.isawaitable(result):
                    result = asyncio.run(_in_time(result))
            except Exception as raised:  # noqa: BLE001 - each library has its own
                error = raised
        problem = f"the script has no reply {len(script.heard)}" if script.overran else None
        return Outcome(plain(result), error and error_kind(error), len(script.heard), problem, error)


async def _in_time(result: Any) -> Any:
    return await asyncio.wait_for(result, PATIENCE)


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    framework: str, replies: Replies, *, ways: Mapping[str, Way] | None = None, raises: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a scenario, or as one for each way in which its library can be used.

    Args:
        framework: `langchain` or `llama_index`.
        replies: What the model says.
        ways: By name, what the function is given as its second argument.
        raises: The kind of error that the scenario is about.
    """

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        for label, way in (ways or {"": None}).items():
            name = f"{run.__name__}[{label}]" if label else run.__name__
            add(Scenario(name, framework, replies, run if way is None else _with_way(run, way), raises))
        return run

    return register


def scenario_by_failure(framework: str, then: Sequence[Said]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as one scenario for each way in which the first request can fail; `then` is said later."""

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        for failure in (BAD_REQUEST, BROKEN, OVERFLOW, TIMEOUT):
            add(Scenario(f"{run.__name__}[{failure.kind}]", framework, [failure, *then], run))
        return run

    return register


def settled(run: Callable[[], Any]) -> Any:
    """Return what a function returns, or the error that it raises, where a scenario is about the error."""
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - each library has its own
        return error


def add(made: Scenario) -> None:
    """Register a scenario, whose name must be new."""
    assert made.name not in SCENARIOS, f"there is another scenario {made.name!r}"
    SCENARIOS[made.name] = made


def _with_way(run: Callable[..., Any], way: Way) -> Callable[[Side], Any]:
    return lambda make: run(make, way)
