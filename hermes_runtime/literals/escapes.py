"""Escapes in the strings of JSON and Python, in any mixture, from text that may arrive in pieces."""

from __future__ import annotations

import re
import sys

_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_SPLIT_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3}|x[0-9a-fA-F]?|U[0-9a-fA-F]{0,7})?\Z")
_UNIT = re.compile(rf"[^\\\ud800-\udfff]++|{_ESCAPE.pattern}|\\|[\ud800-\udfff]", re.DOTALL)
_SIMPLE_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "'": "'"}
_SURROGATES = re.compile("([\ud800-\udbff])([\udc00-\udfff])|[\ud800-\udfff]")


def decode_string(raw: str, quote: str) -> str | None:
    r"""Resolve escapes; keep the backslash of those that neither language knows.

    A string such as "C:\data\new" holds an unknown escape and one that both languages read as a newline: whoever wrote
    it forgot to escape, so the newline was not meant. Guessing either way would change the value unnoticed.

    Returns:
        The string's value, or None where its backslashes are ambiguous.
    """
    value = raw
    if "\\" in raw:
        seen: set[bool] = set()
        value = _ESCAPE.sub(lambda match: _resolve_escape(match, quote, seen), raw)
        if len(seen) == 2:
            return None
    return well_formed(value)


def well_formed(value: str) -> str:
    """Join surrogate pairs; replace the lone ones, which no encoding can carry."""
    return _SURROGATES.sub(_join_surrogates, value) if _SURROGATES.search(value) else value


class StringDecoder:
    """Resolves the escapes of one string that arrives in pieces; says nothing that the next piece could change.

    What it says adds up to the string's value, but for a last part that is still open; it falls silent where a string
    is ambiguous.

    Args:
        quote: The string's delimiter.
    """

    def __init__(self, quote: str) -> None:
        self._quote = quote
        self._held = ""
        self._seen: set[bool] = set()

    def feed(self, raw: str, *, at_end: bool = False) -> str:
        """Return what is certain now; `raw` holds no delimiter, `at_end` says that the string ends with it."""
        text = self._held + raw
        decoded: list[tuple[int, str]] = []
        held = 0
        for unit in _UNIT.finditer(text):
            held, char = unit.start(), unit.group()
            if char[0] == "\\":
                if not at_end and _SPLIT_ESCAPE.match(text, held):
                    break
                if (escape := _ESCAPE.match(char)) is not None:
                    char = _resolve_escape(escape, self._quote, self._seen)
            if len(self._seen) == 2:
                break
            decoded.append((held, char))
            held = unit.end()
        if decoded and not at_end and "\ud800" <= decoded[-1][1] <= "\udbff":
            # Its other half may follow.
            held, _ = decoded.pop()
        self._held = text[held:]
        return well_formed("".join(char for _, char in decoded))


def _resolve_escape(match: re.Match[str], quote: str, seen: set[bool]) -> str:
    """Return what an escape stands for; tell `seen` whether a letter after the backslash was a known escape."""
    unicode, byte, wide, char = match.groups()
    digits = unicode or byte or wide
    if digits and int(digits, 16) <= sys.maxunicode:
        if byte:
            seen.add(True)
        return chr(int(digits, 16))
    if char in _SIMPLE_ESCAPES:
        if char.isalpha():
            seen.add(True)
        return _SIMPLE_ESCAPES[char]
    if char == "/" and quote == '"':
        return "/"
    if char is None or char.isalnum():
        seen.add(False)
    return match.group()


def _join_surrogates(match: re.Match[str]) -> str:
    if match.group(1) is None:
        return "\N{REPLACEMENT CHARACTER}"
    return chr(0x10000 + ((ord(match.group(1)) - 0xD800) << 10) + (ord(match.group(2)) - 0xDC00))
