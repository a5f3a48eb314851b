"""Tools, schemas and replies that scenarios of llama-index-core share."""

from pydantic import BaseModel, Field

from tests.llama_index_contract.replies import Call
from tests.side_by_side.script import call, calls

LLAMA_INDEX = "llama_index"
ADD = call("add", a=1, b=2)
ADD_TWICE = calls(Call("add", {"a": 1, "b": 2}), Call("add", {"a": 3, "b": 4}), text="Both, then.")
CUT = calls(Call("add", {"a": 1, "b": 2}, broken_off=7))


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def fail(reason: str) -> str:
    """Fail for a reason."""
    raise RuntimeError(f"failed: {reason}")


class Person(BaseModel):
    """A person."""

    name: str
    age: int = Field(ge=0)
