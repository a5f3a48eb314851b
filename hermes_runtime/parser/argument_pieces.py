"""The arguments of a call while it is still being written, as JSON text that only ever grows."""

from __future__ import annotations

import json
from typing import Any

from hermes_runtime.literals.escapes import StringDecoder
from hermes_runtime.messages import new_call_id


class ArgumentPieces:
    """Writes the arguments of one call as JSON from the moment the tool's name is certain; taps a `LiteralScanner`.

    Whatever mixture of JSON and Python the model writes, the pieces add up to JSON text that reads as the call's
    arguments. Where the arguments come before a name that is not certain, nothing is written.

    Args:
        name: The one tool that the call can name, where that is known beforehand.

    Attributes:
        id: The call's id, once its arguments have begun; else None.
        name: The tool's name, where it is certain.
        arguments: What was written, once it is complete.
    """

    def __init__(self, name: str | None) -> None:
        self.id: str | None = None
        self.name = name
        self.arguments: dict[str, Any] | None = None
        self._pieces: list[str] = []
        self._member: str | None = None
        # The open containers of the arguments: what closes each, and whether it has an item yet.
        self._closers: list[str] = []
        self._has_item: list[bool] = []
        self._depth_held = 0
        self._string: StringDecoder | None = None

    def take(self) -> str:
        """Return what was written since the last call."""
        pieces, self._pieces = self._pieces, []
        return "".join(pieces)

    # What the scanner tells; see `Tap`.

    def key(self, depth: int, key: str) -> None:
        """Note which member follows."""
        if depth == 1:
            self._member = key
        elif self._writes:
            self._separate()
            self._pieces.append(f"{_dumps(key)}: ")

    def opened(self, depth: int, opener: str) -> None:
        """Begin with the arguments themselves, or with a container in them."""
        if self._writes:
            if opener == "(":
                # One value in parentheses is no tuple, and only the closing one tells.
                self._depth_held = depth
                return
            self._item()
            self._begin(opener)
        elif depth == 2 and opener == "{" and self._member == "arguments" and self.name and self.id is None:
            self.id = new_call_id()
            self._begin("{")

    def closed(self, depth: int, value: Any) -> None:
        """End a container."""
        if self._writes:
            self._has_item.pop()
            self._pieces.append(self._closers.pop())
            if not self._closers:
                self.arguments = value
        elif depth == self._depth_held:
            self._depth_held = 0
            self._item()
            self._pieces.append(_dumps(value))

    def scalar(self, depth: int, value: Any) -> None:
        """Write a value, or what is left of a string; note the tool's name."""
        if self._writes:
            if self._string is not None:
                rest, self._string = self._string.feed("", at_end=True), None
                self._pieces.append(_dumps(rest)[1:])
            else:
                self._item()
                self._pieces.append(_dumps(value))
        elif depth == 1 and self._member == "name" and self.name is None and isinstance(value, str):
            self.name = value.strip()

    def string(self, depth: int, raw: str, quote: str) -> None:
        """Write the beginning of a string, or more of it."""
        if not self._writes:
            return
        if self._string is None:
            self._string = StringDecoder(quote)
            self._item()
            self._pieces.append('"')
        self._pieces.append(_dumps(self._string.feed(raw))[1:-1])

    # Helpers.

    @property
    def _writes(self) -> bool:
        return bool(self._closers) and not self._depth_held

    def _begin(self, opener: str) -> None:
        self._closers.append("}" if opener == "{" else "]")
        self._has_item.append(False)
        self._pieces.append(opener)

    def _item(self) -> None:
        """Separate a list's item from the one before; members of objects are separated by their keys."""
        if self._closers[-1] == "]":
            self._separate()

    def _separate(self) -> None:
        if self._has_item[-1]:
            self._pieces.append(", ")
        self._has_item[-1] = True


# One encoder for all: `json.dumps` makes a new one for each value.
_encode = json.JSONEncoder(ensure_ascii=False).encode


def _dumps(value: Any) -> str:
    return repr(value) if type(value) is int else _encode(value)
