"""Turns the values that a model wrote as calls into tool calls, or says why they are none."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hermes_runtime.literals.scanner import NOTHING, LiteralError, object_in
from hermes_runtime.messages import InvalidToolCall, Outcome, ToolCall, ToolSpec, new_call_id
from hermes_runtime.parser.argument_pieces import ArgumentPieces
from hermes_runtime.problems import Problem
from hermes_runtime.schema.validation import check_schema, value_problems

# One block holds one call, or a few in models that list them. What is past this many is one invalid call, because each
# costs a check against its schema, and a megabyte has room for half a million.
MAX_CALLS_IN_BLOCK = 64
# Where a tool's name is looked for in what is left of a call, from either end.
_SEARCHED = 10_000
TOO_MANY = f"only the first {MAX_CALLS_IN_BLOCK} calls of a block or list are read"
ENDS_INSIDE = Problem("truncated", "the text ends inside the call")

_ARGUMENT_KEYS = ("arguments", "parameters")
_ENVELOPE_KEYS = frozenset({"name", "id", "type", "index", *_ARGUMENT_KEYS})
_WRITTEN_NAME = re.compile(r"\bname[\"']?\s{0,8}:\s{0,8}[\"']\s{0,8}([\w.\-]{1,64})")


@dataclass(frozen=True, slots=True)
class Written:
    """A value in a call block.

    Attributes:
        value: What the text stands for; a call or a list of calls.
        raw: The text.
        pieces: What was passed on of it while it arrived.
    """

    value: Any
    raw: str
    pieces: ArgumentPieces


def read_calls(written: Sequence[Written], tools: Sequence[ToolSpec], *, broken: bool = False) -> list[Outcome]:
    """Read the values of a call block.

    Args:
        written: The block's values.
        tools: The tools that were bound.
        broken: What follows the values in the block could not be read.
    """
    calls = [(_unwrap(entry), each) for each in written for entry in _entries(each.value)[:MAX_CALLS_IN_BLOCK]]
    # {"name": "f"}, {"port": "Brest"}: the arguments went astray, so f must not be called without any.
    astray = broken or any(isinstance(call, dict) and "name" not in call for call, _ in calls)
    outcomes = [
        _same_as_passed_on(_read_call(call, each.raw, tools, astray=astray), each, tools) for call, each in calls
    ]
    too_long = [each.raw for each in written if len(_entries(each.value)) > MAX_CALLS_IN_BLOCK]
    return outcomes + [invalid_call(Problem("malformed", TOO_MANY), raw, tools) for raw in too_long]


def _entries(value: Any) -> list[Any]:
    return value if isinstance(value, list) and value else [value]


def _same_as_passed_on(outcome: Outcome, written: Written, tools: Sequence[ToolSpec]) -> Outcome:
    """Give a call the id under which its arguments were passed on; refuse it where it says something else after all."""
    pieces = written.pieces
    if pieces.id is None:
        return outcome
    if isinstance(outcome, ToolCall) and (outcome.name != pieces.name or outcome.arguments is not pieces.arguments):
        problem = Problem("malformed", "the call gives its name or its arguments twice")
        return invalid_call(problem, written.raw, tools, pieces.name, pieces.id)
    return replace(outcome, id=pieces.id)


def read_known_calls(value: Any, raw: str, tools: Sequence[ToolSpec]) -> list[ToolCall] | None:
    """Read an unwrapped value, which is a call only where its name and arguments say so; None where it is just text."""
    known = {tool.name for tool in tools}
    entries = _entries(value)
    if len(entries) > MAX_CALLS_IN_BLOCK:
        return None
    calls: list[ToolCall] = []
    for entry in entries:
        call = _unwrap(entry)
        if not isinstance(call, dict) or not any(key in call for key in _ARGUMENT_KEYS):
            return None
        outcome = _read_call(call, raw, tools)
        if isinstance(outcome, InvalidToolCall) or outcome.name not in known:
            return None
        calls.append(outcome)
    return calls


def read_arguments(name: str, value: Any, raw: str, tools: Sequence[ToolSpec]) -> Outcome:
    """Read the arguments of a call whose name stands in its tag."""
    return _read_call({"name": name, "arguments": value}, raw, tools)


def invalid_call(
    problem: Problem,
    raw: str,
    tools: Sequence[ToolSpec],
    name: str | None = None,
    call_id: str | None = None,
) -> InvalidToolCall:
    """Make an invalid call; its name is looked for in the text where none is given."""
    return InvalidToolCall(
        id=call_id or new_call_id(),
        name=name or _written_name(raw, {tool.name for tool in tools}),
        arguments=raw,
        problem=problem,
    )


def check_tools(tools: Sequence[ToolSpec]) -> None:
    """Refuse tools whose schemas no call can be checked against.

    Raises:
        SchemaError: Names the tool; see `check_schema`.
    """
    for tool in tools:
        check_schema(tool.parameters, where=f"tool {tool.name!r}")


def problems(call_name: str, arguments: Mapping[str, Any], tools: Sequence[ToolSpec]) -> tuple[Problem, ...]:
    """Say what a call breaks.

    Args:
        call_name: The tool's name as the model wrote it.
        arguments: The arguments as the model wrote them.
        tools: The tools that were bound; with none, nothing can be broken.

    Returns:
        What the arguments break in the tool's schema, see `value_problems`; or one problem whose reason is
        `unknown_tool`.

    Raises:
        SchemaError: The tool's own schema is unusable; see `check_schema`.
    """
    if not tools:
        return ()
    for tool in tools:
        if tool.name == call_name:
            return value_problems(arguments, tool.parameters)
    detail = f"there is no tool {call_name[:100]!r}; the tools are {[tool.name for tool in tools]}"
    return (Problem("unknown_tool", detail, "$"),)


def refuse_other_keys(known: Collection[str], key: str, value: Any) -> str | None:
    """Say early that an unwrapped object is no call, so that a JSON answer is not held back; see `LiteralScanner`."""
    if key not in _ENVELOPE_KEYS and key != "function":
        return "no key of a call"
    if key == "name" and value is not NOTHING and not (isinstance(value, str) and value.strip() in known):
        return "no known tool"
    return None


def _unwrap(entry: Any) -> Any:
    """Take the call out of the form in which OpenAI's interface lists it."""
    if isinstance(entry, dict) and isinstance(entry.get("function"), dict) and "name" not in entry:
        return entry["function"]
    return entry


def _read_call(call: Any, raw: str, tools: Sequence[ToolSpec], *, astray: bool = False) -> Outcome:
    if not isinstance(call, dict):
        problem = Problem("malformed", f"a call is an object with name and arguments, not {_kind(call)}")
        return invalid_call(problem, raw, tools)
    name = call.get("name")
    if not isinstance(name, str) or not name.strip():
        found = "the call has no name" if "name" not in call else f"the name is {_kind(name)}, not a tool's name"
        return invalid_call(Problem("missing_name", found), raw, tools)
    name = name.strip()
    arguments = _arguments(call, name, tools, astray=astray)
    if isinstance(arguments, str):
        return invalid_call(Problem("bad_arguments", arguments), raw, tools, name)
    return ToolCall(new_call_id(), name, arguments, problems(name, arguments, tools))


def _arguments(call: dict[str, Any], name: str, tools: Sequence[ToolSpec], *, astray: bool) -> dict[str, Any] | str:
    """Return the arguments, or what is wrong with them."""
    written = next((call[key] for key in _ARGUMENT_KEYS if key in call), None)
    others = call.keys() - _ENVELOPE_KEYS
    if written is None:
        # Only a call that says nothing else can mean a call without arguments.
        if others or astray:
            return "the arguments must stand in an object under the key 'arguments'"
        return {}
    schema: Mapping[str, Any] = next((tool.parameters for tool in tools if tool.name == name), {})
    if any(key in schema.get("properties", {}) for key in others):
        return f"the arguments {sorted(others)} stand outside the object under 'arguments'"
    try:
        written = object_in(written)
    except LiteralError as error:
        return f"the arguments are a string that holds no object: {error}"
    if not isinstance(written, dict):
        return f"the arguments are {_kind(written)}, not an object"
    return written


def _written_name(raw: str, known: Collection[str]) -> str | None:
    """Return the first known tool's name that the text of a broken call gives as a name."""
    searched = raw if len(raw) <= 2 * _SEARCHED else f"{raw[:_SEARCHED]}\n{raw[-_SEARCHED:]}"
    return next((found for found in _WRITTEN_NAME.findall(searched) if found in known), None)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return kinds[type(value)]
