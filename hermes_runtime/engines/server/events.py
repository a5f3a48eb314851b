"""Bytes of a server-sent event stream -> the JSON objects in it, whatever the chunks are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hermes_runtime.errors import EngineError

_LONGEST_EVENT = 16 * 1024 * 1024  # bytes
_SHOWN = 120
DONE = "[DONE]"


class EventReader:
    """Reads `data:` lines (WHATWG, "Server-sent events"); comments and other fields are passed over.

    Attributes:
        is_done: Whether `[DONE]` was read; what follows it is dropped.
    """

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: list[bytes] = []
        self.is_done = False

    def feed(self, chunk: bytes) -> Iterator[dict[str, Any]]:
        """Take bytes, yield the objects that became complete.

        Raises:
            EngineError: An event is no JSON object, no UTF-8, or longer than 16 MiB.
        """
        self._line += chunk
        *lines, rest = self._line.split(b"\n")
        self._line = bytearray(rest)
        for line in lines:
            yield from self._take(bytes(line.removesuffix(b"\r")))
        if len(self._line) > _LONGEST_EVENT:
            raise EngineError(f"the server sent an event of more than {_LONGEST_EVENT} bytes")

    def _take(self, line: bytes) -> Iterator[dict[str, Any]]:
        if self.is_done:
            return
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif not line and self._data:
            data, self._data = b"\n".join(self._data), []
            if data.strip() == DONE.encode():
                self.is_done = True
            else:
                yield _parsed(data)


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        event = json.loads(data.decode("utf-8"))
    except ValueError as error:
        raise EngineError(f"the server sent an event that is no JSON: {data[:_SHOWN]!r}") from error
    if not isinstance(event, dict):
        raise EngineError(f"the server sent an event that is no JSON object: {data[:_SHOWN]!r}")
    return event
