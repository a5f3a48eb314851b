"""`with_structured_output` of every method and every form of schema, and what becomes of answers that do not fit."""

from __future__ import annotations

import datetime as dt
from enum import Enum
from typing import Annotated, Literal

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from tests.llama_index_contract.replies import Reply
from tests.side_by_side.kit import City, Person
from tests.side_by_side.scenario import Scenario, scenario, settled
from tests.side_by_side.scenario import add as add_scenario
from tests.side_by_side.script import call, value
from tests.side_by_side.ways import GROWING, RUNNABLE

LANGCHAIN = "langchain"
ANNA = value(name="Anna", age=31)

METHODS = ("json_schema", "function_calling", "json_mode")
_STRUCTURED = {f"{method}, {way}": (method, run) for method in METHODS for way, run in GROWING.items()}


@scenario(LANGCHAIN, [ANNA], ways=_STRUCTURED)
def structured_output(make, way):
    method, run = way
    return run(make().with_structured_output(Person, method=method), "Who is Anna, in JSON?")


class Mood(Enum):
    """A mood."""

    GOOD = "good"
    BAD = "bad"


class Trip(BaseModel):
    """A trip."""

    to: City
    on: dt.date
    mood: Mood = Mood.GOOD
    stops: list[City] = Field(default_factory=list)
    budget: float | None = None
    way: Literal["train", "boat"]


class TripDict(TypedDict):
    """A trip."""

    to: Annotated[str, ..., "Where to."]
    days: int


SCHEMAS = {
    "nested": (Trip, value(to={"city": "Oslo"}, on="2026-05-01", mood="bad", stops=[], budget=None, way="boat")),
    "typed dict": (TripDict, value(to="Oslo", days=3)),
    "JSON schema": ({**Person.model_json_schema(), "title": "person", "description": "A person."}, ANNA),
    "function": (
        {"name": "person", "description": "A person.", "parameters": Person.model_json_schema()},
        ANNA,
    ),
}


def _structured(schema):
    return lambda make: make().with_structured_output(schema).invoke("Tell, in JSON.")


for _label, (_schema, _reply) in SCHEMAS.items():
    add_scenario(Scenario(f"structured output of a schema ({_label})", LANGCHAIN, [_reply], _structured(_schema)))


@scenario(LANGCHAIN, ['{"name": "Anna", "age": 31}'], ways=RUNNABLE)
def response_format_of_a_call(make, run):
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": Person.model_json_schema()}}
    return run(make().bind(response_format=form), "Who is Anna?")


FAULTS = {
    "JSON schema": ("json_schema", '{"name": "Anna", "age": -1}'),
    "JSON schema, cut": ("json_schema", Reply('{"name": "An', ends_early=True)),
    "function calling": ("function_calling", call("Person", name="Anna", age=-1)),
    "function calling, no call": ("function_calling", "I would rather not."),
    "JSON mode": ("json_mode", "I would rather not."),
}


def _structured_fault(method):
    return lambda make: settled(lambda: make().with_structured_output(Person, method=method).invoke("In JSON?"))


def _structured_fault_with_raw(method):
    def run(make):
        found = make().with_structured_output(Person, method=method, include_raw=True).invoke("In JSON?")
        return [found["parsed"], found["parsing_error"] is not None]

    return run


for _label, (_method, _reply) in FAULTS.items():
    for _name, _run in (("fault", _structured_fault), ("fault with raw", _structured_fault_with_raw)):
        add_scenario(Scenario(f"structured {_name} ({_label})", LANGCHAIN, [_reply], _run(_method)))
