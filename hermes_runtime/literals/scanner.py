r"""Reads one JSON value or Python literal, in any mixture of the two spellings, from text that may arrive in pieces.

Hermes 2 Pro was trained on calls printed with Python's `repr`, later Hermes models on JSON, and both write mixtures.
The scanner is iterative, looks at every character a constant number of times and evaluates nothing. What it accepts
beyond JSON: single quotes, `True`/`False`/`None`, trailing commas, tuples (read as lists), raw control characters in
strings, `+1`, `1.` and `.5`, and Python's `\x` and `\U` escapes. What it refuses: NaN and infinities, keys that are no
strings, comments, names, calls, and nesting deeper than `MAX_NESTING`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import isfinite
from typing import Any, Final, Protocol

from hermes_runtime.errors import HermesError
from hermes_runtime.literals.escapes import decode_string

NOTHING: Final = object()
"""No value can be read yet; None is a value."""

# Deeper values would break what comes after: pydantic's serializer, json.dumps and repr all recurse.
MAX_NESTING = 200

# CPython's own limit for reading integers; it also keeps the conversion from costing quadratic time.
_MAX_ATOM = 4300

_VALUE, _ITEM, _KEY, _COLON, _NEXT = range(5)
_WANTED = ("a value", "a value or a closing bracket", "a key or '}'", "':'", "',' or a closing bracket")
_CLOSERS = {"{": "}", "[": "]", "(": ")"}

_TOKEN = re.compile(
    r"\s*+(?:([\[\](){},:])"
    r'|"((?:[^"\\]++|\\.)*+)"'
    r"|'((?:[^'\\]++|\\.)*+)'"
    r"|([\"'])"
    r"|([A-Za-z0-9_+\-.]++))?",
    re.DOTALL,
)
_STRUCTURE, _DOUBLE_QUOTED, _SINGLE_QUOTED, _OPEN_QUOTE, _ATOM = 1, 2, 3, 4, 5
_REST_OF_STRING = {quote: re.compile(rf"(?:[^{quote}\\]++|\\.)*+", re.DOTALL) for quote in "\"'"}
_REST_OF_ATOM = re.compile(r"[A-Za-z0-9_+\-.]*+")

_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


class LiteralError(HermesError, ValueError):
    """The text is no JSON value and no Python literal that stands for one.

    Attributes:
        detail: What was found and what was wanted.
        offset: Where, as an index into the text of the `feed` that failed.
        truncated: The text is the beginning of a value and merely ends too early.
    """

    def __init__(self, detail: str, offset: int, *, truncated: bool = False) -> None:
        self.detail = detail
        self.offset = offset
        self.truncated = truncated
        super().__init__(f"{detail} at offset {offset}")


class _Frame:
    """A container that is not closed yet, and the key that waits for its value."""

    __slots__ = ("closer", "container", "key")

    def __init__(self, opener: str) -> None:
        self.closer = _CLOSERS[opener]
        self.container: Any = {} if opener == "{" else []
        self.key = ""


Watch = Callable[[str, Any], str | None]


class Tap(Protocol):
    """Is told of the parts of a value as they are read; depth 1 is the inside of the outermost container."""

    def key(self, depth: int, key: str) -> None:
        """A key of the object at that depth is complete."""

    def opened(self, depth: int, opener: str) -> None:
        """A container begins, whose inside has that depth."""

    def closed(self, depth: int, value: Any) -> None:
        """The container whose inside has that depth is complete."""

    def scalar(self, depth: int, value: Any) -> None:
        """A number, word or string in the container at that depth is complete."""

    def string(self, depth: int, raw: str, quote: str) -> None:
        """More text, escapes unresolved, of a string that is a value; `scalar` follows when it is complete."""


class LiteralScanner:
    """Reads one value; `feed` it pieces until it says where the value ends.

    The outcome does not depend on how the text is cut into pieces, and no piece is looked at twice.

    Args:
        watch: Called for the members of an outermost object, first with the key and `NOTHING`, then with the key
            and its value. A string it returns refuses the value there and then, as `LiteralError.detail`.
        tap: Is told of every part of the value.
    """

    __slots__ = (
        "_expect",
        "_in_atom",
        "_pieces",
        "_quote",
        "_split_escape",
        "_stack",
        "_tap",
        "_watch",
        "done",
        "value",
    )

    def __init__(self, watch: Watch | None = None, tap: Tap | None = None) -> None:
        self.done = False
        self.value: Any = None
        self._watch = watch
        self._tap = tap
        self._stack: list[_Frame] = []
        self._expect = _VALUE
        self._pieces: list[str] = []
        self._quote = ""
        self._split_escape = False
        self._in_atom = False

    @property
    def outermost(self) -> Any:
        """The outermost container as far as it has been read, or the value once it is complete."""
        return self._stack[0].container if self._stack else self.value

    def feed(self, text: str, start: int = 0) -> int | None:
        """Read on at `text[start]`; return the index just past the value, or None where it goes on after `text`.

        Raises:
            LiteralError: The text is malformed.
        """
        at = start
        if self._quote:
            at = self._resume_string(text, at)
        elif self._in_atom:
            at = self._resume_atom(text, at)
        if self._quote or self._in_atom:
            return None
        while not self.done:
            token = _TOKEN.match(text, at)
            assert token is not None
            at = token.end()
            kind = token.lastindex
            if kind == _STRUCTURE:
                self._structure(text[at - 1], at - 1)
            elif kind == _ATOM and at < len(text):
                self._atom(token.group(kind), at)
            elif kind in (_DOUBLE_QUOTED, _SINGLE_QUOTED):
                self._check_string_belongs(token.start(kind) - 1)
                self._tap_string(token.group(kind), text[at - 1])
                self._string(token.group(kind), at, text[at - 1])
            else:
                self._begin_split_token(token)
                return None
        return at

    def finish(self) -> None:
        """Say that no text follows: a number or word at the very end is complete now.

        Raises:
            LiteralError: The value is malformed, or was cut off.
        """
        if self._in_atom and not self._stack:
            self._in_atom = False
            self._atom("".join(self._pieces), 0)
        if not self.done:
            raise LiteralError("the text ends inside a value", 0, truncated=True)

    def _begin_split_token(self, token: re.Match[str]) -> None:
        """Take up a string or atom that the end of the text splits."""
        text, at = token.string, token.end()
        if token.lastindex == _ATOM:
            self._in_atom = True
            self._pieces = [token.group(_ATOM)]
        elif token.lastindex == _OPEN_QUOTE:
            self._check_string_belongs(at - 1)
            self._quote = text[at - 1]
            self._resume_string(text, at)
        elif at < len(text):
            raise LiteralError(f"{text[at]!r} where {_WANTED[self._expect]} belongs", at)

    def _resume_string(self, text: str, at: int) -> int:
        begin = at
        if self._split_escape and at < len(text):
            self._split_escape = False
            at += 1
        run = _REST_OF_STRING[self._quote].match(text, at)
        assert run is not None
        at = run.end()
        if text.startswith("\\", at):
            self._split_escape = True
            at += 1
        self._pieces.append(text[begin:at])
        self._tap_string(text[begin:at], self._quote)
        if at == len(text):
            return at
        quote, raw = self._quote, "".join(self._pieces)
        self._quote, self._pieces = "", []
        self._string(raw, at + 1, quote)
        return at + 1

    def _resume_atom(self, text: str, at: int) -> int:
        run = _REST_OF_ATOM.match(text, at)
        assert run is not None
        self._pieces.append(run.group())
        if run.end() < len(text):
            atom, self._pieces, self._in_atom = "".join(self._pieces), [], False
            self._atom(atom, run.end())
        return run.end()

    def _structure(self, char: str, at: int) -> None:
        if char == "," and self._expect == _NEXT:
            self._expect = _KEY if self._stack[-1].closer == "}" else _ITEM
        elif char in _CLOSERS:
            if self._expect > _ITEM:
                raise LiteralError(f"{char!r} where {_WANTED[self._expect]} belongs", at)
            if len(self._stack) >= MAX_NESTING:
                raise LiteralError(f"nested deeper than {MAX_NESTING} levels", at)
            self._stack.append(_Frame(char))
            self._expect = _KEY if char == "{" else _ITEM
            if self._tap is not None:
                self._tap.opened(len(self._stack), char)
        elif char == ":" and self._expect == _COLON:
            self._expect = _VALUE
        elif self._expect in (_ITEM, _KEY, _NEXT) and self._stack[-1].closer == char:
            container = self._stack.pop().container
            # Parentheses around one value without a comma are no tuple in Python.
            grouping = char == ")" and len(container) == 1 and self._expect == _NEXT
            value = container[0] if grouping else container
            if self._tap is not None:
                self._tap.closed(len(self._stack) + 1, value)
            self._put(value, at)
        else:
            raise LiteralError(f"{char!r} where {_WANTED[self._expect]} belongs", at)

    def _check_string_belongs(self, at: int) -> None:
        if self._expect not in (_VALUE, _ITEM, _KEY):
            raise LiteralError(f"a string where {_WANTED[self._expect]} belongs", at)

    def _tap_string(self, raw: str, quote: str) -> None:
        if self._tap is not None and self._expect != _KEY:
            self._tap.string(len(self._stack), raw, quote)

    def _string(self, raw: str, end: int, quote: str) -> None:
        value = decode_string(raw, quote)
        if value is None:
            raise LiteralError("a string mixes unknown escapes with known ones, so its backslashes are ambiguous", end)
        if self._expect != _KEY:
            self._put_scalar(value, end)
            return
        self._stack[-1].key = value
        self._expect = _COLON
        if self._tap is not None:
            self._tap.key(len(self._stack), value)
        self._show(value, NOTHING, end)

    def _atom(self, atom: str, end: int) -> None:
        if self._expect > _ITEM:
            raise LiteralError(f"{atom[:40]!r} where {_WANTED[self._expect]} belongs", end)
        self._put_scalar(_WORDS[atom] if atom in _WORDS else _number(atom, end), end)

    def _put_scalar(self, value: Any, at: int) -> None:
        if self._tap is not None:
            self._tap.scalar(len(self._stack), value)
        self._put(value, at)

    def _put(self, value: Any, at: int) -> None:
        self._expect = _NEXT
        if not self._stack:
            self.value = value
            self.done = True
            return
        frame = self._stack[-1]
        if frame.closer != "}":
            frame.container.append(value)
            return
        frame.container[frame.key] = value
        self._show(frame.key, value, at)

    def _show(self, key: str, value: Any, at: int) -> None:
        if self._watch is not None and len(self._stack) == 1:
            refusal = self._watch(key, value)
            if refusal is not None:
                raise LiteralError(refusal, at)


def scan_value(text: str, start: int = 0) -> tuple[Any, int]:
    """Read the value that begins at `text[start]`, leading whitespace allowed.

    Returns:
        The value and the index just past it.

    Raises:
        LiteralError: The text is malformed, or ends inside the value (`truncated`).
    """
    scanner = LiteralScanner()
    end = scanner.feed(text, start)
    if end is not None:
        return scanner.value, end
    try:
        scanner.finish()
    except LiteralError as error:
        raise LiteralError(error.detail, len(text), truncated=error.truncated) from None
    return scanner.value, len(text)


def parse_value(text: str) -> Any:
    """Read a text that is one value and nothing else but whitespace.

    Raises:
        LiteralError: The text is malformed, ends inside the value (`truncated`), or goes on after it.
    """
    value, end = scan_value(text)
    rest = text[end:].lstrip()
    if rest:
        raise LiteralError(f"{rest[:20]!r} after the value", len(text) - len(rest))
    return value


def object_in(written: Any) -> Any:
    """Return what stands in a string where an object was to be: some encode arguments twice.

    Raises:
        LiteralError: The string holds no value.
    """
    if isinstance(written, str):
        return parse_value(written) if written.strip() else {}
    return written


def _number(atom: str, at: int) -> int | float:
    if len(atom) <= _MAX_ATOM:
        if _INTEGER.fullmatch(atom):
            return int(atom)
        if _DECIMAL.fullmatch(atom) and isfinite(number := float(atom)):
            return number
    raise LiteralError(f"{atom[:40]!r} is no JSON value", at)
