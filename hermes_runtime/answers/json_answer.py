"""Finds the JSON value in an answer that should be one: in a fence, in tags, between prose, in Python's spelling."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from hermes_runtime.literals.scanner import LiteralError, LiteralScanner, parse_value
from hermes_runtime.parser.markup import REASONING_CLOSE, REASONING_OPEN
from hermes_runtime.problems import Problem
from hermes_runtime.schema.validation import check_schema, value_problems
from hermes_runtime.tags import PADDING, TURN_END

_OPENER = re.compile(r"[{\[]")


@dataclass(frozen=True, slots=True)
class JsonAnswer:
    """A JSON value, and what is wrong with it.

    Attributes:
        value: The value; None where the answer holds none.
        problems: What the value breaks in the schema; a single one, malformed or truncated, where the answer holds no
            value.
    """

    value: Any
    problems: tuple[Problem, ...] = ()


def parse_json(text: str, schema: Any = None) -> JsonAnswer:
    """Read an answer in JSON mode.

    The answer is the whole text if that is one value, else the longest object or list in it that satisfies the schema,
    else the longest one. Nothing is completed: a value that the text cuts off is none.

    Args:
        text: What the model wrote.
        schema: JSON Schema that the value should satisfy, or None.

    Raises:
        SchemaError: The schema is unusable. No text ever raises.
    """
    if schema is not None:
        check_schema(schema, where="the response schema")
    text = _without_frame(text)
    try:
        candidates = [parse_value(text)]
    except LiteralError as error:
        candidates, truncated = _values_in(text)
        if not candidates:
            return JsonAnswer(None, (Problem("truncated" if truncated else "malformed", error.detail, "$"),))
    answers = [JsonAnswer(value, () if schema is None else value_problems(value, schema)) for value in candidates]
    return next((answer for answer in answers if not answer.problems), answers[0])


def _without_frame(text: str) -> str:
    """Take off the reasoning before the answer and the padding after it."""
    end = len(text)
    while end:
        tail = next((marker for marker in (TURN_END, PADDING) if text.endswith(marker, 0, end)), text[end - 1])
        if len(tail) == 1 and not tail.isspace():
            break
        end -= len(tail)
    opened = REASONING_OPEN.match(text)
    closed = REASONING_CLOSE.search(text, opened.end()) if opened else None
    return text[closed.end() if closed else 0 : end]


def _values_in(text: str) -> tuple[list[Any], bool]:
    """Return the outermost objects and lists, longest first, and whether the text ends inside another one."""
    found: list[tuple[int, Any]] = []
    at = 0
    truncated = False
    while not truncated and (opener := _OPENER.search(text, at)):
        scanner = LiteralScanner()
        try:
            end = scanner.feed(text, opener.start())
        except LiteralError as error:
            # Never look inside a broken value: a part of an answer is no answer.
            at = max(error.offset, opener.end())
            continue
        if end is None:
            truncated = True
        else:
            found.append((end - opener.start(), scanner.value))
            at = end
    found.sort(key=lambda entry: -entry[0])
    return [value for _, value in found], truncated
