"""Tools, schemas and questions that scenarios of LangChain's family share."""

from __future__ import annotations

from typing import Any

from langchain_core.tools import tool
from pydantic import BaseModel, Field

from tests.llama_index_contract.replies import Call
from tests.side_by_side.script import call, calls

ASK: dict[str, Any] = {"messages": [("user", "What is 1 and 2?")]}
THREAD: dict[str, Any] = {"configurable": {"thread_id": "1"}}
ADD = call("add", a=1, b=2)
ADD_TWICE = calls(Call("add", {"a": 1, "b": 2}), Call("add", {"a": 3, "b": 4}), text="Both, then.")
CUT = calls(Call("add", {"a": 1, "b": 2}, broken_off=7))
BROKEN_CALL = calls(Call("add", {}, written='{"a": 1, "b": }'))


@tool
def add(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


@tool
def fail(reason: str) -> str:
    """Fail for a reason."""
    raise ValueError(f"failed: {reason}")


class Person(BaseModel):
    """A person."""

    name: str
    age: int = Field(ge=0)


class City(BaseModel):
    """A city."""

    city: str


def ask(text: str) -> dict[str, Any]:
    """Return a state with one question."""
    return {"messages": [("user", text)]}
