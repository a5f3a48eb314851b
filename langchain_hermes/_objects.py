"""Objects of a schema, read from answers and from calls, whole or while they are written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import pydantic
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic.v1 import ValidationError as ValidationErrorV1

from hermes_runtime.json_answer import parse_json
from hermes_runtime.lost_calls import lost_call
from hermes_runtime.markup import REASONING_CLOSE, REASONING_OPEN
from hermes_runtime.partial import NOTHING, PartialValue
from hermes_runtime.validation import value_problems
from langchain_hermes._chunks import PROBLEMS
from langchain_hermes._reading import Piece
from langchain_hermes._tools import Schema, json_schema_of

# Where an answer begins that is an object: at once, in a fence or in a tag.
_BEGINNING = re.compile(r"\s*(?:```\w*\s+|<\w+>\s*)?(?=[{\[])")
_UNKNOWN = "unknown_tool: "
_NO_VALUE = ("malformed: ", "truncated: ")


@dataclass(frozen=True, slots=True)
class ObjectTarget:
    """What an object must be.

    Attributes:
        schema: JSON Schema; None for any JSON value.
        model: The pydantic class that objects become; None leaves them as they are.
    """

    schema: Mapping[str, Any] | None = None
    model: type | None = None

    @classmethod
    def of(cls, schema: Schema | None) -> Self:
        """Return the target that a schema of any form describes.

        Raises:
            SchemaError: No JSON Schema can be read from it.
        """
        if schema is None:
            return cls()
        model = schema if isinstance(schema, type) and is_basemodel_subclass(schema) else None
        return cls(json_schema_of(schema), model)

    def object_of(self, value: Any, text: str) -> Any:
        """Return the object that a JSON value stands for.

        Raises:
            OutputParserException: The value breaks the schema, or the pydantic class refuses it; `text` is reported.
        """
        if self.model is None:
            problems = () if self.schema is None else value_problems(value, self.schema)
            if problems:
                raise unreadable("; ".join(problems), text)
            return value
        try:
            return self._instance(value)
        except (pydantic.ValidationError, ValidationErrorV1) as error:
            raise unreadable(str(error), text) from error

    def part_of(self, value: Any) -> Any:
        """Return what a value that is still being written stands for so far; `NOTHING` where the class refuses it."""
        if self.model is None or value is NOTHING:
            return value
        try:
            return self._instance(value)
        except (pydantic.ValidationError, ValidationErrorV1):
            return NOTHING

    def _instance(self, value: Any) -> Any:
        assert self.model is not None
        if issubclass(self.model, pydantic.BaseModel):
            # As JSON: strict classes take a date from its text there.
            return self.model.model_validate_json(json.dumps(value))
        return self.model.parse_obj(value)  # type: ignore[attr-defined]  # pydantic 1


def unreadable(reason: str, text: str) -> OutputParserException:
    """Return the error of an output that is no object."""
    return OutputParserException(f"the output is no such object: {reason}", llm_output=text)


class _Growing:
    """Says what is new of an object that is being written; every part differs from the one before."""

    def __init__(self, target: ObjectTarget) -> None:
        self._target = target
        self._value = PartialValue()
        self._last: Any = NOTHING

    def feed(self, text: str) -> list[Any]:
        if self._value.is_complete:
            return []
        self._value.feed(text)
        return self.show(self._target.part_of(self._value.value))

    def show(self, part: Any) -> list[Any]:
        if part is NOTHING or part == self._last:
            return []
        self._last = part
        return [part]


class TextReader:
    """Reads the object in an answer's text; parts of it where the answer begins with it, reasoning apart."""

    def __init__(self, target: ObjectTarget) -> None:
        self._target = target
        self._text: list[str] = []
        self._head: str | None = ""
        self._growing = _Growing(target)

    def feed(self, piece: Piece) -> list[Any]:
        """Read on and return the object so far, if there is more of it."""
        text = piece if isinstance(piece, str) else str(piece.text)
        self._text.append(text)
        if self._head is not None:
            self._head += text
            begin = _begin_of_object(self._head)
            if begin is None:
                return []
            text, self._head = self._head[begin:], None
        return self._growing.feed(text)

    def close(self, finish_reason: str | None = None) -> list[Any]:
        """Return the whole object, if it differs from the last part of it.

        Raises:
            OutputParserException: The text holds no object, or none of the schema.
        """
        text = "".join(self._text)
        answer = parse_json(text, self._target.schema)
        if answer.problems and answer.problems[0].startswith(_NO_VALUE):
            raise unreadable("; ".join(answer.problems), text)
        return self._growing.show(self._target.object_of(answer.value, text))


class TextOrCallReader(TextReader):
    """Reads the object in an answer's text, or None from an answer that calls tools instead."""

    def __init__(self, target: ObjectTarget) -> None:
        super().__init__(target)
        self._calls = False
        self._broken: list[str] = []

    def feed(self, piece: Piece) -> list[Any]:
        """Read on and return the object so far, if there is more of it."""
        if isinstance(piece, AIMessage):
            self._calls |= bool(piece.tool_calls)
            found = [text for texts in piece.response_metadata.get(PROBLEMS, {}).values() for text in texts]
            self._broken += [problem for problem in found if problem.startswith(_NO_VALUE)]
        return super().feed(piece)

    def close(self, finish_reason: str | None = None) -> list[Any]:
        """Return the whole object, if it differs from the last part of it; None in its place where calls were made.

        Raises:
            OutputParserException: The text holds no object, or none of the schema; or the call was cut off.
        """
        if self._broken:
            raise unreadable("; ".join(self._broken), "".join(self._text))
        return [None] if self._calls else super().close(finish_reason)


def _begin_of_object(text: str) -> int | None:
    opened = REASONING_OPEN.match(text)
    closed = REASONING_CLOSE.search(text, opened.end()) if opened else None
    if opened and closed is None:
        return None
    found = _BEGINNING.match(text, closed.end() if closed else 0)
    return found.end() if found else None


class CallReader:
    """Reads the object in the arguments of a message's first call."""

    def __init__(self, target: ObjectTarget) -> None:
        self._target = target
        self._index: int | None = None
        self._arguments: list[str] = []
        self._text: list[str] = []
        self._problems: list[str] = []
        self._name: str | None = None
        self._growing = _Growing(target)

    def feed(self, piece: Piece) -> list[Any]:
        """Read on and return the object so far, if there is more of it."""
        if not isinstance(piece, AIMessage):
            return []
        self._text.append(str(piece.text))
        self._problems += [problem for found in piece.response_metadata.get(PROBLEMS, {}).values() for problem in found]
        shown = piece.tool_call_chunks if isinstance(piece, AIMessageChunk) else piece.invalid_tool_calls
        self._name = self._name or next((call["name"] for call in shown if call["name"]), None)
        if isinstance(piece, AIMessageChunk):
            pieces = [(chunk["index"], chunk["args"] or "") for chunk in piece.tool_call_chunks]
        else:
            pieces = [(0, json.dumps(call["args"])) for call in piece.tool_calls[:1]]
        parts: list[Any] = []
        for index, arguments in pieces:
            if not self._arguments:
                self._index = index
            if index == self._index:
                self._arguments.append(arguments)
                parts += self._growing.feed(arguments)
        return parts

    def close(self, finish_reason: str | None = None) -> list[Any]:
        """Return the whole object, if it differs from the last part of it.

        Raises:
            OutputParserException: There is no call or none of the tool, it was cut off, or its arguments break the
                schema.
        """
        arguments = "".join(self._arguments)
        if unknown := [problem for problem in self._problems if problem.startswith(_UNKNOWN)]:
            raise unreadable("; ".join(unknown), arguments)
        try:
            value = json.loads(arguments)
        except ValueError:
            lost = [lost_call(self._name, problem) for problem in self._problems]
            reason = "; ".join(lost) or "the message has no call"
            raise unreadable(reason, arguments or "".join(self._text)) from None
        return self._growing.show(self._target.object_of(value, arguments))
