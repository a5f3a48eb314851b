"""A JSON value, or a Python literal, that is still being written: what is open in it, and what it says so far."""

from __future__ import annotations

import json
import re
from typing import Any

from hermes_runtime.literals.scanner import NOTHING, LiteralError, parse_value

_TOKEN = re.compile(r"\s++|[\[\]{}():,\"']|[^\s\[\]{}():,\"']++")
_CLOSERS = {"{": "}", "[": "]", "(": ")"}
_HEX = "[0-9a-fA-F]"
# Up to the last character that is certain: half an escape is none, nor is the first half of a surrogate pair.
_STRING = {
    quote: re.compile(
        rf"(?:[^\\{quote}]|\\[^uxU]|\\x{_HEX}{{2}}|\\U{_HEX}{{8}}|\\u(?![dD][89abAB]){_HEX}{{4}}"
        rf"|\\u[dD][89abAB]{_HEX}{{2}}(?:\\u[dD][c-fC-F]{_HEX}{{2}}|(?=[^\\]|\\[^u]|\\u[^dD]|\\u[dD][^c-fC-F])))*+",
        re.DOTALL,
    )
    for quote in "\"'"
}


class PartialValue:
    """Follows the text of one value; every character is looked at a constant number of times.

    Attributes:
        is_complete: The value has ended; what is fed after it is ignored.
        is_wrong: A closing bracket closes nothing, and nothing past it is read.
        at: Index up to which the text was read.
    """

    def __init__(self) -> None:
        self.is_complete = False
        self.is_wrong = False
        self.at = 0
        self._text = ""
        self._closers: list[str] = []
        self._quote = ""
        self._wants_key = False
        # End of the longest beginning of the text that closing brackets alone make a value; the brackets that it needs
        # are those of all open containers, because each of them is such an end.
        self._sound_end = 0

    def feed(self, text: str) -> None:
        """Read on."""
        self._text += text
        while not (self.is_complete or self.is_wrong) and self._step():
            pass

    @property
    def value(self) -> Any:
        """What was written so far: strings may still grow, numbers and words are whole; `NOTHING` before the first."""
        if self._quote and not self._wants_key:
            text = self._text[: self.at] + self._quote + self._to_close
        else:
            text = self._text[: self._sound_end] + self._to_close
        try:
            return json.loads(text, strict=False)
        except (ValueError, RecursionError):
            pass  # Python's spelling, or deeper than any value may be
        try:
            return parse_value(text)
        except LiteralError:
            return NOTHING

    @property
    def unfinished_mark(self) -> str:
        """What, written next, leaves the value unfinished for good: no reader, however forgiving, gets past it."""
        lists = len(self._closers) - len("".join(self._closers).rstrip("]"))
        half_an_escape = "\\" if self._text.endswith("\\", self.at) else ""
        return half_an_escape + self._quote + "]" * (lists + 1)

    def _step(self) -> bool:
        if self._quote:
            return self._in_string()
        token = _TOKEN.match(self._text, self.at)
        if token is None:
            return False
        found = token.group()
        if found in ("'", '"'):
            self._quote = found
        elif found in _CLOSERS:
            self._closers.append(_CLOSERS[found])
            self._wants_key = found == "{"
            self._sound_end = token.end()
        elif found in ("}", "]", ")"):
            return self._close(found)
        elif found in (",", ":"):
            self._wants_key = found == "," and self._closers[-1:] == ["}"]
        elif not found.isspace():
            if token.end() == len(self._text):
                return False
            self._sound_end = token.end()
        self.at = token.end()
        return True

    def _in_string(self) -> bool:
        run = _STRING[self._quote].match(self._text, self.at)
        assert run is not None
        self.at = run.end()
        if not self._text.startswith(self._quote, self.at):
            return False
        self.at += 1
        self._quote = ""
        if not self._wants_key:
            self._sound_end = self.at
        return True

    def _close(self, bracket: str) -> bool:
        if self._closers[-1:] != [bracket]:
            self.is_wrong = True
            return False
        self._closers.pop()
        self._wants_key = False
        self.at += 1
        self._sound_end = self.at
        self.is_complete = not self._closers
        return True

    @property
    def _to_close(self) -> str:
        return "".join(reversed(self._closers))
