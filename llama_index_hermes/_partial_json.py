"""Reads a JSON value while it is being written."""

from __future__ import annotations

import json
from typing import Any

_CLOSER = {"{": "}", "[": "]"}
_NO_VALUE: Any = object()


class PartialJson:
    """What is certain of an object or array whose text is not complete yet.

    The value only ever grows: members and items are appended and strings get longer, but nothing that was seen is taken
    back. A number or literal counts once something else follows it, a key once its value begins.
    """

    def __init__(self) -> None:
        self._text = ""
        self._begin = 0
        self._safe = 0  # everything before it can stay once the open string and the open containers are closed
        self._open: list[str] = []
        self._is_done = False
        self._in_string = False
        self._is_key = False  # the string under way, or the next one, is a key
        self._in_scalar = False
        self._escape = ""
        self._is_half = False  # a high surrogate waits for its low one
        self._value: Any = _NO_VALUE

    def feed(self, text: str) -> bool:
        """Take more text; return whether `value` grew."""
        before, start = self._safe, len(self._text)
        self._text += text
        for at in range(start, len(self._text)):
            if self._is_done:
                break
            self._step(self._text[at], at)
        return self._safe > before and self._read()

    @property
    def value(self) -> Any:
        """The value so far; None before it begins."""
        return None if self._value is _NO_VALUE else self._value

    def _read(self) -> bool:
        quote = '"' if self._in_string and not self._is_key else ""
        closed = self._text[self._begin : self._safe] + quote + "".join(reversed(self._open))
        try:
            value = json.loads(closed)
        except (ValueError, RecursionError):  # not JSON after all; the whole text will be judged at its end
            return False
        grew = bool(value != self._value)
        self._value = value
        return grew

    def _step(self, char: str, at: int) -> None:
        if self._in_string:
            self._step_in_string(char, at)
        elif char == '"' and self._open:
            self._in_string = True
            if not self._is_key:
                self._safe = at + 1
        elif char in "{[":
            if not self._open:
                self._begin = at
            self._open.append(_CLOSER[char])
            self._is_key = char == "{"
            self._safe = at + 1
        elif self._open:
            self._step_between(char, at)

    def _step_between(self, char: str, at: int) -> None:
        if self._in_scalar and (char in ",]}" or char.isspace()):
            self._in_scalar = False
            self._safe = at
        if char in "]}":
            self._open.pop()
            self._safe = at + 1
            self._is_done = not self._open
        elif char == ",":
            self._is_key = self._open[-1] == "}"
        elif char == ":":
            self._is_key = False
        elif not char.isspace():
            self._in_scalar = True

    def _step_in_string(self, char: str, at: int) -> None:
        if self._escape:
            self._escape += char
            if self._escape[1] == "u" and len(self._escape) < len("\\u0000"):
                return
            self._is_half = self._escape[1] == "u" and self._escape[2:4].lower() in _HIGH_SURROGATES
            self._escape = ""
        elif char == "\\":
            self._escape = char
            return
        else:
            self._is_half = False
            self._in_string = char != '"'
        if not self._is_key and not self._is_half:
            self._safe = at + 1


_HIGH_SURROGATES = frozenset({"d8", "d9", "da", "db"})
