"""Rules of a GBNF grammar, in the part of the notation that llama.cpp, xgrammar and llguidance all read."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

# JSON in the layout of the training data; a rule is written down only where another one needs it.
_JSON = {
    "value": ('object | array | string | number | boolean | "null"', "object array string number boolean"),
    "object": ('"{" ( member ( ", " member )* )? "}"', "member"),
    "member": ('string ": " value', "string value"),
    "array": ('"[" ( value ( ", " value )* )? "]"', "value"),
    "string": (r'"\"" char* "\""', "char"),
    "char": (r'[^"\\\x00-\x1F\x7F] | "\\" ( ["\\/bfnrt] | "u" [0-9a-fA-F]{4} )', ""),
    # An exponent of more digits makes a number that no reader gets.
    "number": ('integer ( "." [0-9]+ )? ( [eE] ( "+" | "-" )? [0-9]{1,2} )?', "integer"),
    "integer": ('"-"? ( "0" | [1-9] [0-9]* )', ""),
    "boolean": ('"true" | "false"', ""),
}
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class Rules:
    """The rules of one grammar; equal bodies share a name."""

    def __init__(self) -> None:
        self._bodies: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def define(self, name: str, body: str) -> None:
        """Add a rule of this name."""
        self._bodies[name] = body

    def reserve(self) -> str:
        """Return a name to refer to before its rule is defined."""
        name = f"r{len(self._bodies)}"
        self._bodies[name] = ""
        return name

    def named(self, body: str) -> str:
        """Return the name of a rule with this body."""
        if body not in self._names:
            self._names[body] = self.reserve()
            self.define(self._names[body], body)
        return self._names[body]

    def json(self, name: str) -> str:
        """Return the name of a rule of plain JSON, which is added together with all that it needs."""
        if name not in self._bodies:
            body, needed = _JSON[name]
            self.define(name, body)
            for other in needed.split():
                self.json(other)
        return name

    def text(self) -> str:
        """Return the grammar; its first rule should be `root`."""
        return "".join(f"{name} ::= {body}\n" for name, body in self._bodies.items())


def literal(text: str) -> str:
    """Write a string as a sequence of GBNF terms, none of which may be repeated by what follows it.

    Characters beyond ASCII, and control characters, are classes of one: between quotes, xgrammar takes some of the
    former for bytes, and the digits that follow the escape of a latter for more of it.
    """
    terms: list[str] = []
    for is_plain, run in groupby(text, _is_plain):
        if is_plain:
            quoted = "".join(_ESCAPES.get(char, char) for char in run)
            terms.append(f'"{quoted}"')
        else:
            terms += map(_class, run)
    return " ".join(terms) or '""'


def any_of(alternatives: Iterable[str]) -> str:
    """Write alternatives as one term."""
    unique = list(dict.fromkeys(alternatives))
    return unique[0] if len(unique) == 1 else f"( {' | '.join(unique)} )"


def repeated(term: str, least: int, most: int | None) -> str:
    """Write a repetition of a term that is a rule's name or a class of characters; empty for none at all."""
    if most == 0:
        return ""
    if most is None:
        return f"{term}*" if not least else f"{term}{{{least},}}"
    return f"{term}{{{least},{most}}}"


def _is_plain(char: str) -> bool:
    return char in _ESCAPES or (char.isascii() and char.isprintable())


def _class(char: str) -> str:
    if char.isprintable():
        return f"[{char}]"
    return f"[\\U{ord(char):08X}]" if ord(char) > 0xFFFF else f"[\\u{ord(char):04X}]"
