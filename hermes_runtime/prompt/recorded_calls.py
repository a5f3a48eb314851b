"""Tool calls as histories record them: vendors' dicts and objects, older fields, blocks of content."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from hermes_runtime.literals.scanner import LiteralError, object_in
from hermes_runtime.messages import InvalidToolCall, Outcome, ToolCall, new_call_id
from hermes_runtime.problems import Problem
from hermes_runtime.prompt.content import calls_within

Recorded = tuple[tuple[ToolCall, ...], tuple[InvalidToolCall, ...]]


def recorded_call(call_id: Any, name: Any, arguments: Any) -> Outcome:
    """Read one call; what cannot be read is an invalid call that shows its tool's name.

    Args:
        call_id: The call's id; a new one is made where there is none.
        name: The tool's name.
        arguments: An object, or the text of one, which may be encoded twice; None and empty text are no arguments.
    """
    call_id = str(call_id or new_call_id())
    if not isinstance(name, str) or not name.strip():
        problem = Problem("missing_name", f"the name is {name!r}")
        return InvalidToolCall(call_id, None, _text(arguments), problem)
    try:
        read = _read(arguments)
    except LiteralError as error:
        problem = Problem("truncated" if error.truncated else "malformed", str(error))
    else:
        if isinstance(read, Mapping):
            return ToolCall(call_id, name, dict(read))
        problem = Problem("bad_arguments", f"the arguments must be an object, not {type(read).__name__}")
    # In the form of a call, so that the model sees which tool it was about.
    written = json.dumps({"arguments": _text(arguments), "name": name}, ensure_ascii=False)
    return InvalidToolCall(call_id, name, written, problem)


def recorded_calls(calls: Iterable[Any], fields: Mapping[str, Any], content: Any) -> Recorded:
    """Read the calls of an answer from the first of these places that has some.

    Args:
        calls: Calls in any vendor's form: dicts or objects, with or without `function`.
        fields: The fields in which older messages keep `tool_calls` or one `function_call`.
        content: The message's content, among whose blocks calls may stand.
    """
    older = fields.get("tool_calls") or ([fields["function_call"]] if fields.get("function_call") else ())
    read = [recorded_call(*_taken_apart(call)) for call in calls]
    read = read or [recorded_call(*_taken_apart(call)) for call in older]
    return split(read or [recorded_call(*call) for call in calls_within(content)])


def split(outcomes: Iterable[Outcome]) -> Recorded:
    """Return the calls and the invalid ones."""
    read = tuple(outcomes)
    return (
        tuple(call for call in read if isinstance(call, ToolCall)),
        tuple(call for call in read if isinstance(call, InvalidToolCall)),
    )


def _read(arguments: Any) -> Any:
    if arguments is None:
        return {}
    if isinstance(arguments, str) and arguments.lstrip()[:1] == "{" and arguments.rstrip()[-1] != "}":
        # Streams show calls while they are written, response by response: these are told apart at a glance.
        raise LiteralError("the arguments are no complete object", len(arguments), truncated=True)
    read = object_in(object_in(arguments))
    return {} if read is None else read


def _text(arguments: Any) -> str:
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return json.dumps(arguments, ensure_ascii=False, default=str)


def _taken_apart(call: Any) -> tuple[Any, Any, Any]:
    """Return id, name and arguments, whatever their vendor calls them."""
    inner = _field(call, "function")
    function = call if inner is None else inner
    name, arguments = (_first(function, keys) for keys in (("name", "tool_name"), ("arguments", "args", "tool_kwargs")))
    return _first(call, ("id", "tool_id", "tool_call_id")), name, arguments


def _first(source: Any, names: tuple[str, ...]) -> Any:
    return next((found for name in names if (found := _field(source, name)) is not None), None)


def _field(source: Any, name: str) -> Any:
    """Return an item of a dict or an attribute of an object; None where absent."""
    return source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
