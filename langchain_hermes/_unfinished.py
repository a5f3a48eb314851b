"""Unfinished calls in LangChain's messages: they can never run, they say why, and the model is shown its own text.

LangChain completes the arguments of a streamed call that was cut, and agents then run it. The arguments of an
unfinished call therefore end in a closing bracket that closes nothing, which no JSON reader, strict or forgiving, gets
past, and after it the raw text of the call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.messages import InvalidToolCall as InvalidToolCallRecord

from hermes_runtime.literals.partial_value import PartialValue
from hermes_runtime.messages import InvalidToolCall, new_call_id
from hermes_runtime.problems import PROBLEMS_KEY, Problem
from hermes_runtime.turn.lost_calls import lost_call

_UNTOLD = Problem("malformed", "the call could not be read")


def unfinished(arguments: PartialValue, raw: str = "") -> str:
    """Return what goes on after the arguments of a call, as far as they are written, so that nobody can run it.

    Args:
        arguments: What is written of the arguments; it may be nothing.
        raw: The text of the call.
    """
    return arguments.unfinished_mark + raw


def as_written(arguments: str) -> str:
    """Return the text of an unfinished call as the model wrote it: what follows the bracket that closes nothing."""
    written = PartialValue()
    written.feed(arguments)
    rest = arguments[written.at :]
    return rest[1:] if rest.startswith("]") else arguments


def in_older_form(call: InvalidToolCall) -> dict[str, Any]:
    """Return a call in the form of OpenAI's older interface, with what became of it where its arguments would stand.

    LangChain's own parsers of calls look only at calls that can run and, where there are none, at this form in
    `additional_kwargs["tool_calls"]`; a message without either is no call to them, or the end of an agent's work. What
    stands there makes them raise.
    """
    # No JSON reader may take it for arguments: LangChain's forgiving one makes none of a bracket that closes nothing,
    # and no arguments is what some tools want. So brackets stand in a string, in a place where none may be.
    reason = lost_call(call.name, call.problem).replace('"', "'")
    function = {"name": call.name or "", "arguments": f'none, because "{reason}"'}
    return {"id": call.id, "type": "function", "function": function}


def from_record(record: InvalidToolCallRecord, arguments: str) -> InvalidToolCall:
    """Return an invalid call of a message.

    Args:
        record: The call in LangChain's form.
        arguments: The text of the call, as the model wrote it.
    """
    problem = Problem.read(record["error"]) if record["error"] else _UNTOLD
    return InvalidToolCall(record["id"] or new_call_id(), record["name"], arguments, problem)


def told(problems: Mapping[str, Iterable[Problem]]) -> dict[str, dict[str, list[str]]]:
    """Return `response_metadata` with the problems of calls, by their ids; empty where there are none."""
    return {PROBLEMS_KEY: {call_id: [*map(str, found)] for call_id, found in problems.items()}} if problems else {}


def problems_of(message: BaseMessage) -> dict[str, list[Problem]]:
    """Return what a message tells of the problems of its calls, by their ids."""
    found = message.response_metadata.get(PROBLEMS_KEY, {})
    return {call_id: [*map(Problem.read, texts)] for call_id, texts in found.items()}
