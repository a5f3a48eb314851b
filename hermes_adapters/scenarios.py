"""What the demo asks, and what must have happened for an answer to count. Knows of no framework."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from itertools import pairwise
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Called:
    """The agent calls a tool."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Returned:
    """A tool returned; `content` is what the agent passes on to the model."""

    name: str
    content: str


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of the model's text."""

    text: str


DemoEvent = Called | Returned | Said
Tool = Callable[..., Any]


class DemoAgent(Protocol):
    """What each module of `agents` offers.

    Attributes:
        NAME: The framework's name.
        TITLE: The code that makes the agent, with a slot for the model.
    """

    NAME: str
    TITLE: str

    def ask(self, model: str, tools: Sequence[Tool], question: str) -> AsyncIterator[DemoEvent]:
        """Ask a new agent with these tools, and yield what happens as it happens."""
        ...


@dataclass(frozen=True, slots=True)
class Scenario:
    """A question and what a right run of it does.

    Attributes:
        title: What the question shows, in a few words.
        question: What the agent is asked.
        calls: The calls that must run, all from one turn of the model, each exactly once and no other.
        answer_has: What the last answer must say, in any case of letters.
    """

    title: str
    question: str
    calls: tuple[Called, ...]
    answer_has: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """What happened in one scenario: what the agent reported, and which calls really reached the functions."""

    events: tuple[DemoEvent, ...]
    executed: tuple[Called, ...]

    @property
    def answer(self) -> str:
        """The text after the last call and result."""
        text = ""
        for event in self.events:
            text = text + event.text if isinstance(event, Said) else ""
        return text


def shortcomings(scenario: Scenario, run: Run) -> list[str]:
    """Say what a run lacks; nothing means that the agent really did it."""
    expected = Counter(map(_identity, scenario.calls))
    executed = Counter(map(_identity, run.executed))
    reported = Counter(_identity(event) for event in run.events if isinstance(event, Called))
    returned = sum(isinstance(event, Returned) for event in run.events)
    lacks = [f"expected the call {call}" for call in (expected - executed).elements()]
    lacks += [f"unexpected call {call}" for call in (executed - expected).elements()]
    if reported != executed:
        lacks.append(f"reported the calls {sorted(reported.elements())}, ran {sorted(executed.elements())}")
    if returned != len(run.executed):
        lacks.append(f"{len(run.executed)} calls ran, {returned} results came back")
    if any(isinstance(a, Returned) and isinstance(b, Called) for a, b in pairwise(run.events)):
        lacks.append("the calls were not made in one turn")
    answer = run.answer.strip()
    if not answer:
        lacks.append("no answer")
    lacks += [f"the answer lacks {part!r}" for part in scenario.answer_has if part.casefold() not in answer.casefold()]
    return lacks


def _identity(call: Called) -> str:
    return f"{call.name}({json.dumps(dict(call.arguments), sort_keys=True, ensure_ascii=False)})"


def recorded(tools: Sequence[Tool], executed: list[Called]) -> list[Tool]:
    """Wrap tools so that `executed` shows which calls reached them, whatever a framework says of it."""

    def record(tool: Tool) -> Tool:
        @wraps(tool)
        def wrapper(**arguments: Any) -> Any:
            executed.append(Called(tool.__name__, arguments))
            return tool(**arguments)

        return wrapper

    return [record(tool) for tool in tools]


def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return {"Bergen": "9 degrees and light rain", "Ostend": "17 degrees and windy"}.get(city, "14 degrees and cloudy")


def book_concert(guest: str, seats: int, balcony: bool) -> str:
    """Book a concert."""
    return f"ticket {'B' if balcony else 'P'}-{seats}{len(guest)}"


def get_mortgage(amount: float, years: int) -> dict[str, float]:
    """Get the mortgage."""
    rate = 3.5 if years <= 15 else 4.25
    return {"rate": rate, "total": round(amount * (1 + rate * years / 100), 2)}


TOOLS: tuple[Tool, ...] = (get_weather, book_concert, get_mortgage)

SCENARIOS = (
    Scenario(
        "one call",
        "What is the weather in Bergen?",
        (Called("get_weather", {"city": "Bergen"}),),
        ("9 degrees", "light rain"),
    ),
    Scenario(
        "two parallel calls",
        "What is the weather in Bergen and Ostend?",
        (Called("get_weather", {"city": "Bergen"}), Called("get_weather", {"city": "Ostend"})),
        ("9 degrees", "17 degrees"),
    ),
    Scenario(
        "typed arguments",
        "Book a concert for guest Yara, seats 2 and balcony no.",
        (Called("book_concert", {"guest": "Yara", "seats": 2, "balcony": False}),),
        ("P-24",),
    ),
    Scenario(
        "an answer from a result",
        "What is the mortgage for amount 2600.5 and years 12?",
        (Called("get_mortgage", {"amount": 2600.5, "years": 12}),),
        ("3.5", "3692.71"),
    ),
    Scenario(
        "two tools at once",
        "What is the mortgage for amount 2600.5 and years 12 and what is the weather in Bergen?",
        (Called("get_mortgage", {"amount": 2600.5, "years": 12}), Called("get_weather", {"city": "Bergen"})),
        ("3692.71", "9 degrees"),
    ),
    Scenario("no tool fits", "What is the lighthouse in Tromso?", (), ()),
    Scenario("no tool needed", "Hello!", (), ("hello",)),
)
