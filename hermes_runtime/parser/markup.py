"""The tags, fences and markers that Hermes models put around tool calls, and their beginnings.

A stream cannot wait for a regular expression to match: it must know whether the text at hand may still become a match.
`re` has no partial matching, so what opens markup is also built in a form that accepts any beginning of a match where
the text ends; the stream holds back what matches in that form only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeGuard

from hermes_runtime.tags import (
    BROKEN_GAP,
    CALL_ALIASES,
    CALLS,
    GAP,
    PADDING,
    PLURAL,
    REASONING,
    TOOL_RESPONSE,
    TURN_END,
    TURN_START,
    VALUE,
    call_words,
)

_GAP = rf"[ \t]{{0,{GAP}}}"
_SPACE = r"\s{0,16}"
_NAME = r"[\w.\-]{1,64}"
_BROKEN_GAP = rf"\s{{0,{BROKEN_GAP}}}"
# What a fence around a call may be labeled with.
_FENCED = ("xml", "json", *(tag.name for tag in CALLS), "python")
# The keys that an unwrapped call may begin with.
CALL_KEYS = ("name", "arguments", "parameters", "type", "function", "id")


def _any(words: Iterable[str]) -> str:
    return "(?:" + "|".join(sorted(words, key=len, reverse=True)) + ")"


def _letters(word: str) -> list[str]:
    return [re.escape(char) for char in word]


def _beginnings(*units: str) -> str:
    """A pattern for the units one after the other, or for any beginning of them that ends the text."""
    pattern = units[-1]
    for unit in reversed(units[:-1]):
        pattern = rf"{unit}(?:\Z|{pattern})"
    return pattern


def _either(*patterns: str) -> str:
    return "(?:" + "|".join(patterns) + ")"


_TAG_NAMES = (
    "(?i:"
    + _either(
        *(_beginnings(*_letters(name), _GAP, ">") for name in (TOOL_RESPONSE.name, *REASONING)),
        *(_beginnings(*_letters(tag.name), f"{PLURAL}?", _GAP, ">") for tag in CALLS),
        # An opening tag that lost its bracket: <tool_call{"name": ...
        *(_beginnings(*_letters(tag.name), _BROKEN_GAP, f"(?={VALUE})") for tag in CALLS),
    )
    + ")"
)
_ALIAS_NAMES = _either(
    *(_beginnings(*_letters(name), _GAP, ">") for name in (*CALL_ALIASES, "function", "arguments")),
    _beginnings(*_letters("function="), _NAME, ">"),
    _beginnings(*_letters('function name="'), _NAME, '"', ">"),
)
_MARKERS = _either(*(_beginnings(*_letters(marker[1:])) for marker in (TURN_END, TURN_START, PADDING)))


def _tag(*further: str) -> str:
    """A pattern for any beginning of a tag or marker; `further` are patterns of other tags' inside."""
    inside = "|".join((_TAG_NAMES, *further))
    return rf"<(?:\Z|{_MARKERS}|{_GAP}(?:\Z|/?{_GAP}(?:\Z|{inside})))"


_BACKTICKS = _beginnings(*"```")
_FENCE = _beginnings(
    *"```",
    _either(*(_beginnings(*_letters(word)) for word in _FENCED)) + "?",
    r"[ \t]{0,2}",
    r"\r?",
    r"\n",
    _SPACE,
    r"(?=[<{\[])",
)
_HEAD = _beginnings(
    r"(?:\[\s{0,16}(?=\{|\Z))?",
    r"\{",
    _SPACE,
    _either(*(_beginnings(quote, *_letters(key), quote, r"\s{0,8}", ":") for key in CALL_KEYS for quote in "\"'")),
)

# What may open or close markup, beginnings included; without and with the forms that need a known tool.
STRICT = re.compile(_either(_tag(), _BACKTICKS))
LENIENT = re.compile(_either(_tag(_ALIAS_NAMES), _BACKTICKS, rf"(?=[\[{{]){_HEAD}"))

TAG = re.compile(
    rf"<{_GAP}(?P<close>/?){_GAP}(?:"
    rf"(?P<call>(?i:{call_words()})){_GAP}>"
    rf"|(?P<broken>(?i:{call_words(plural=False)})){_BROKEN_GAP}(?={VALUE})"
    rf"|(?P<response>(?i:{TOOL_RESPONSE.name})){_GAP}>"
    rf"|(?P<reasoning>(?i:{_any(REASONING)})){_GAP}>"
    rf"|(?P<alias>{_any([*CALL_ALIASES, 'function', 'arguments'])}){_GAP}>"
    rf"|function=(?P<tool>{_NAME})>"
    rf'|function name="(?P<quoted_tool>{_NAME})">'
    rf")|(?P<marker>{re.escape(TURN_END)}|{re.escape(TURN_START)})|(?P<pad>{PADDING})"
)
FENCE = re.compile(rf"```(?:{'|'.join(_FENCED)})?[ \t]{{0,2}}\r?\n\s{{0,16}}(?=[<{{\[])")
FENCE_BEGINNING = re.compile(_FENCE)
# An unwrapped call, or a list of them, up to the colon after its first key.
HEAD = re.compile(rf"(?:\[\s{{0,16}})?\{{{_SPACE}([\"'])(?:{'|'.join(CALL_KEYS)})\1\s{{0,8}}:")
HEAD_BEGINNING = re.compile(_HEAD)
# What must follow an alias tag: an object or a list, in a fence perhaps.
ALIAS_BODY = re.compile(r"\s{0,16}(?:```(?:json|python)?\s{1,16})?(?=[{\[])")
ALIAS_BODY_BEGINNING = re.compile(
    _beginnings(
        _SPACE, *"```", _either(*(_beginnings(*_letters(word)) for word in ("json", "python"))) + "?", r"\s{0,16}\Z"
    )
)
# <function><name>N</name><arguments>, after its first tag.
SPELLED_OUT = re.compile(rf"\s{{0,16}}<name>(?P<tool>{_NAME})</name>\s{{0,16}}<arguments>\s{{0,16}}(?=\{{)")
SPELLED_OUT_BEGINNING = re.compile(
    _beginnings(
        _SPACE, *_letters("<name>"), _NAME, *_letters("</name>"), _SPACE, *_letters("<arguments>"), _SPACE, r"\{"
    )
)

REASONING_OPEN = re.compile(rf"\s*<(?i:{_any(REASONING)})>")
REASONING_CLOSE = re.compile(rf"</(?i:{_any(REASONING)})>")
ROLE = re.compile(r"\s{0,2}assistant")
ROLE_BEGINNING = re.compile(_beginnings(r"\s{0,2}", *_letters("assistant")))
# What follows a tag that is just spoken of: the rest of a line of prose.
PROSE = re.compile(rf"{_GAP}[^\s<{{\[]")
PROSE_BEGINNING = re.compile(_beginnings(_GAP, r"[^\s<{\[]"))
# In a block: its tags, and the markers that end a turn.
BLOCK = re.compile(_tag())
# After a complete call, whatever closing tag the model makes up closes the block.
ANY_CLOSE = re.compile(rf"<{_GAP}[/\\]{_GAP}[A-Za-z_\-]{{1,32}}{_GAP}>")
ANY_CLOSE_BEGINNING = re.compile(_beginnings("<", _GAP, r"[/\\]", _GAP, r"[A-Za-z_\-]{1,32}", _GAP, ">"))
CLOSE = re.compile(rf"<{_GAP}/{_GAP}(?i:{call_words()}){_GAP}>")
# A closing tag inside what was read as a string, right after a bracket: the string's own quote was missing.
CLOSE_AFTER_BRACKET = re.compile(rf"[}}\]]\s{{0,8}}(?={CLOSE.pattern})")
CLOSE_AFTER_BRACKET_BEGINNING = re.compile(
    _either(
        *(
            "(?i:"
            + _beginnings(r"[}\]]", r"\s{0,8}", "<", _GAP, "/", _GAP, *_letters(tag.name), f"{PLURAL}?", _GAP, ">")
            + ")"
            for tag in CALLS
        )
    )
)


def is_beginning(pattern: re.Pattern[str], text: str, at: int) -> bool:
    """Whether `text[at:]` may still become what `pattern`, one of the `_BEGINNING` forms, stands for."""
    match = pattern.match(text, at)
    return match is not None and match.end() == len(text)


def opens_call(tag: re.Match[str] | None) -> TypeGuard[re.Match[str]]:
    """Whether a match of `TAG` is the opening tag of a call."""
    return tag is not None and bool(tag["call"] or tag["broken"]) and not tag["close"]


def closes_call(tag: re.Match[str] | None) -> TypeGuard[re.Match[str]]:
    """Whether a match of `TAG` is the closing tag of a call."""
    return tag is not None and bool(tag["call"] and tag["close"])


def opens_reasoning(tag: re.Match[str] | None) -> TypeGuard[re.Match[str]]:
    """Whether a match of `TAG` is an opening tag of reasoning, in any of its spellings."""
    return tag is not None and bool(tag["reasoning"] and not tag["close"])


def closes_reasoning(tag: re.Match[str] | None) -> TypeGuard[re.Match[str]]:
    """Whether a match of `TAG` is a closing tag of reasoning, in any of its spellings."""
    return tag is not None and bool(tag["reasoning"] and tag["close"])


def ends_turn(tag: re.Match[str] | None) -> TypeGuard[re.Match[str]]:
    """Whether a match of `TAG` is a marker that stands after the end of an answer."""
    return tag is not None and bool(tag["marker"] or tag["pad"])


def begins_turn(tag: re.Match[str] | None) -> TypeGuard[re.Match[str]]:
    """Whether a match of `TAG` is the marker that opens a turn."""
    return tag is not None and tag["marker"] == TURN_START


def is_alias(tag: re.Match[str] | None) -> TypeGuard[re.Match[str]]:
    """Whether a match of `TAG` is a tag that makes a call of what names a known tool only."""
    return tag is not None and bool(tag["alias"] or tag["tool"] or tag["quoted_tool"])
