"""Values of a schema, read from answers and from calls, whole or while they are written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, AIMessageChunk

from hermes_runtime.answers.answer_type import AnswerType, UnreadableAnswerError
from hermes_runtime.literals.partial_value import PartialValue
from hermes_runtime.literals.scanner import NOTHING
from hermes_runtime.parser.markup import REASONING_CLOSE, REASONING_OPEN
from hermes_runtime.problems import Problem, joined
from hermes_runtime.turn.lost_calls import lost_call
from langchain_hermes._reading import Piece
from langchain_hermes._unfinished import problems_of

# Where an answer begins that is an object: at once, in a fence or in a tag.
_BEGINNING = re.compile(r"\s*(?:```\w*\s+|<\w+>\s*)?(?=[{\[])")


def unreadable(reason: str, text: str) -> OutputParserException:
    """Return the error of an output that holds no such value."""
    return OutputParserException(f"the output is no such object: {reason}", llm_output=text)


class _Growing:
    """Says what is new of a value that is being written; every part differs from the one before."""

    def __init__(self, part_of: Callable[[Any], Any]) -> None:
        self._part_of = part_of
        self._value = PartialValue()
        self._last: Any = NOTHING

    def feed(self, text: str) -> list[Any]:
        if self._value.is_complete:
            return []
        self._value.feed(text)
        return self.show(self._part_of(self._value.value))

    def show(self, part: Any) -> list[Any]:
        if part is NOTHING or part == self._last:
            return []
        self._last = part
        return [part]


class TextReader:
    """Reads the value in an answer's text; parts of it where the answer begins with it, reasoning apart."""

    def __init__(self, target: AnswerType) -> None:
        self._target = target
        self._text: list[str] = []
        self._head: str | None = ""
        self._growing = _Growing(target.part_of)

    def feed(self, piece: Piece) -> list[Any]:
        """Read on and return the value so far, if there is more of it."""
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
        """Return the whole value, if it differs from the last part of it.

        Raises:
            OutputParserException: The text holds no value, or none of the schema.
        """
        text = "".join(self._text)
        try:
            return self._growing.show(self._target.read(text))
        except UnreadableAnswerError as error:
            raise unreadable(str(error), text) from error


class TextOrCallReader(TextReader):
    """Reads the object in an answer's text, or None from an answer that calls tools instead."""

    def __init__(self, target: AnswerType) -> None:
        super().__init__(target)
        self._calls = False
        self._broken: list[Problem] = []

    def feed(self, piece: Piece) -> list[Any]:
        """Read on and return the object so far, if there is more of it."""
        if isinstance(piece, AIMessage):
            self._calls |= bool(piece.tool_calls)
            self._broken += [problem for problem in _problems_in(piece) if problem.leaves_no_value]
        return super().feed(piece)

    def close(self, finish_reason: str | None = None) -> list[Any]:
        """Return the whole object, if it differs from the last part of it; None in its place where calls were made.

        Raises:
            OutputParserException: The text holds no object, or none of the schema; or the call was cut off.
        """
        if self._broken:
            raise unreadable(joined(self._broken), "".join(self._text))
        return [None] if self._calls else super().close(finish_reason)


def _problems_in(message: AIMessage) -> Iterator[Problem]:
    for found in problems_of(message).values():
        yield from found


def _begin_of_object(text: str) -> int | None:
    opened = REASONING_OPEN.match(text)
    closed = REASONING_CLOSE.search(text, opened.end()) if opened else None
    if opened and closed is None:
        return None
    found = _BEGINNING.match(text, closed.end() if closed else 0)
    return found.end() if found else None


class CallReader:
    """Reads the value in the arguments of a message's first call."""

    def __init__(self, target: AnswerType) -> None:
        self._target = target
        self._index: int | None = None
        self._arguments: list[str] = []
        self._text: list[str] = []
        self._problems: list[Problem] = []
        self._name: str | None = None
        self._growing = _Growing(lambda arguments: target.part_of(target.in_arguments(arguments)))

    def feed(self, piece: Piece) -> list[Any]:
        """Read on and return the value so far, if there is more of it."""
        if not isinstance(piece, AIMessage):
            return []
        self._text.append(str(piece.text))
        self._problems += _problems_in(piece)
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
        """Return the whole value, if it differs from the last part of it.

        Raises:
            OutputParserException: There is no call or none of the tool, it was cut off, or its arguments break the
                schema.
        """
        arguments = "".join(self._arguments)
        if unknown := [problem for problem in self._problems if problem.reason == "unknown_tool"]:
            raise unreadable(joined(unknown), arguments)
        try:
            value = json.loads(arguments)
        except ValueError:
            lost = [lost_call(self._name, problem) for problem in self._problems]
            reason = "; ".join(lost) or "the message has no call"
            raise unreadable(reason, arguments or "".join(self._text)) from None
        try:
            return self._growing.show(self._target.value_of(self._target.in_arguments(value)))
        except UnreadableAnswerError as error:
            raise unreadable(str(error), arguments) from error
