"""Runs the same questions through an agent of each framework and checks that they really were answered."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hermes_adapters.scenarios import (
    SCENARIOS,
    TOOLS,
    Called,
    DemoAgent,
    DemoEvent,
    Returned,
    Run,
    Said,
    Scenario,
    recorded,
    shortcomings,
)
from hermes_adapters.transcript import Transcript
from hermes_runtime.errors import HermesError

# Each imports its framework, which may not be installed: so by name, and only when it is asked for.
AGENTS = {"langchain": "hermes_adapters.agents.langchain", "llama-index": "hermes_adapters.agents.llama_index"}


@dataclass(frozen=True, slots=True)
class _Outcome:
    shortcomings: list[str]
    seconds: float


def load_agent(framework: str) -> DemoAgent:
    """Import the demo agent of a framework.

    Raises:
        HermesError: The framework is unknown, or not installed.
    """
    if framework not in AGENTS:
        raise HermesError(f"unknown framework {framework!r}; choose one of {', '.join(AGENTS)}")
    try:
        return cast(DemoAgent, importlib.import_module(AGENTS[framework]))
    except ModuleNotFoundError as error:
        raise HermesError(
            f"the demo needs {error.name}, which is not installed; run: pip install 'hermes-adapters[all]'"
        ) from error
    except Exception as error:
        others = " or ".join(f"--framework {name}" for name in AGENTS if name != framework)
        raise HermesError(f"{framework} cannot be imported here: {error}; {others} does without it") from error


async def run_demo(
    model: str, agents: Sequence[DemoAgent], console: Console, scenarios: Sequence[Scenario] = SCENARIOS
) -> bool:
    """Show every scenario with every agent, then a table; return whether every one was right."""
    outcomes: dict[str, list[_Outcome]] = {}
    for agent in agents:
        console.print()
        console.rule(Text(agent.TITLE.format(model=model), style="bold"), align="left")
        outcomes[agent.NAME] = [await _run_scenario(model, agent, scenario, console) for scenario in scenarios]
    console.print()
    console.print(_table(scenarios, outcomes))
    return not any(outcome.shortcomings for column in outcomes.values() for outcome in column)


async def _run_scenario(model: str, agent: DemoAgent, scenario: Scenario, console: Console) -> _Outcome:
    transcript = Transcript(console)
    events: list[DemoEvent] = []
    executed: list[Called] = []
    lacks: list[str] = []
    console.print()
    transcript.question(scenario.question)
    started = time.perf_counter()
    try:
        async for event in agent.ask(model, recorded(TOOLS, executed), scenario.question):
            events.append(event)
            _show(event, transcript)
    except HermesError as error:
        lacks.append(f"{type(error).__name__}: {error}")
    transcript.end_of_text()
    seconds = time.perf_counter() - started
    lacks += shortcomings(scenario, Run(tuple(events), tuple(executed)))
    for lack in lacks:
        transcript.note(f"✗ {lack}", "red")
    return _Outcome(lacks, seconds)


def _show(event: DemoEvent, transcript: Transcript) -> None:
    match event:
        case Said(text):
            transcript.said(text)
        case Called(name, arguments):
            transcript.call(name, arguments)
        case Returned(_, content):
            transcript.result(content)


def _table(scenarios: Sequence[Scenario], outcomes: dict[str, list[_Outcome]]) -> Table:
    table = Table(title="What the agents did", title_justify="left")
    table.add_column("scenario")
    for name in outcomes:
        table.add_column(name, justify="right")
    for row, scenario in enumerate(scenarios):
        table.add_row(scenario.title, *(_cell(column[row]) for column in outcomes.values()))
    return table


def _cell(outcome: _Outcome) -> Text:
    mark, style = ("✗", "red") if outcome.shortcomings else ("✓", "green")
    return Text(f"{outcome.seconds:.1f} s {mark}", style=style)
