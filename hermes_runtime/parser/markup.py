"""The tags, fences and markers that Hermes models put around tool calls, and their beginnings.

A stream cannot wait for a regular expression to match: it must know whether the text at hand may still become a match.
`re` has no partial matching, so what opens markup is also built in a form that accepts any beginning of a match where
the text ends; the stream holds back what matches in that form only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeGuard

_GAP = r"[ \t]{0,2}"
_SPACE = r"\s{0,16}"
_NAME = r"[\w.\-]{1,64}"

_REASONING = ("think", "thinking", "scratch_pad", "scratchpad")
# Tags that other models and prompts use; they count as calls only around a known tool's name.
_ALIASES = ("function_call", "tools", "tool", "response", "json", "JSON", "xml")
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
        *(_beginnings(*_letters(name), _GAP, ">") for name in ("tool_response", *_REASONING)),
        _beginnings(*_letters("tool_call"), "s?", _GAP, ">"),
        # An opening tag that lost its bracket: <tool_call{"name": ...
        _beginnings(*_letters("tool_call"), r"\s{0,4}", r"(?=[{\[])"),
    )
    + ")"
)
_ALIAS_NAMES = _either(
    *(_beginnings(*_letters(name), _GAP, ">") for name in (*_ALIASES, "function", "arguments")),
    _beginnings(*_letters("function="), _NAME, ">"),
    _beginnings(*_letters('function name="'), _NAME, '"', ">"),
)
_MARKERS = _either(*(_beginnings(*_letters(marker)) for marker in ("|im_end|>", "|im_start|>", "/s>")))
_TAG = rf"<(?:\Z|{_MARKERS}|{_GAP}(?:\Z|/?{_GAP}(?:\Z|{_TAG_NAMES}" + r"{aliases})))"
_FENCE = _beginnings(
    *"```",
    _either(*(_beginnings(*_letters(word)) for word in ("xml", "json", "tool_call", "python"))) + "?",
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
STRICT = re.compile(_either(_TAG.replace("{aliases}", ""), r"`(?:\Z|`(?:\Z|`))"))
LENIENT = re.compile(
    _either(_TAG.replace("{aliases}", "|" + _ALIAS_NAMES), r"`(?:\Z|`(?:\Z|`))", rf"(?=[\[{{]){_HEAD}")
)

TAG = re.compile(
    rf"<{_GAP}(?P<close>/?){_GAP}(?:"
    rf"(?P<call>(?i:tool_calls?)){_GAP}>"
    r"|(?P<broken>(?i:tool_call))\s{0,4}(?=[{\[])"
    rf"|(?P<response>(?i:tool_response)){_GAP}>"
    rf"|(?P<reasoning>(?i:{_any(_REASONING)})){_GAP}>"
    rf"|(?P<alias>{_any([*_ALIASES, 'function', 'arguments'])}){_GAP}>"
    rf"|function=(?P<tool>{_NAME})>"
    rf'|function name="(?P<quoted_tool>{_NAME})">'
    r")|<\|(?P<marker>im_end|im_start)\|>|(?P<pad></s>)"
)
FENCE = re.compile(r"```(?:xml|json|tool_call|python)?[ \t]{0,2}\r?\n\s{0,16}(?=[<{\[])")
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

REASONING_OPEN = re.compile(rf"\s*<(?i:{_any(_REASONING)})>")
REASONING_CLOSE = re.compile(rf"</(?i:{_any(_REASONING)})>")
ROLE = re.compile(r"\s{0,2}assistant")
ROLE_BEGINNING = re.compile(_beginnings(r"\s{0,2}", *_letters("assistant")))
# What follows a tag that is just spoken of: the rest of a line of prose.
PROSE = re.compile(rf"{_GAP}[^\s<{{\[]")
PROSE_BEGINNING = re.compile(_beginnings(_GAP, r"[^\s<{\[]"))
# In a block: its tags, and the markers that end a turn.
BLOCK = re.compile(_TAG.replace("{aliases}", ""))
# After a complete call, whatever closing tag the model makes up closes the block.
ANY_CLOSE = re.compile(rf"<{_GAP}[/\\]{_GAP}[A-Za-z_\-]{{1,32}}{_GAP}>")
ANY_CLOSE_BEGINNING = re.compile(_beginnings("<", _GAP, r"[/\\]", _GAP, r"[A-Za-z_\-]{1,32}", _GAP, ">"))
CLOSE = re.compile(rf"<{_GAP}/{_GAP}(?i:tool_calls?){_GAP}>")
# A closing tag inside what was read as a string, right after a bracket: the string's own quote was missing.
CLOSE_AFTER_BRACKET = re.compile(rf"[}}\]]\s{{0,8}}(?={CLOSE.pattern})")
CLOSE_AFTER_BRACKET_BEGINNING = re.compile(
    "(?i:" + _beginnings(r"[}\]]", r"\s{0,8}", "<", _GAP, "/", _GAP, *_letters("tool_call"), "s?", _GAP, ">") + ")"
)


def is_beginning(pattern: re.Pattern[str], text: str, at: int) -> bool:
    """Whether `text[at:]` may still become what `pattern`, one of the `_BEGINNING` forms, stands for."""
    match = pattern.match(text, at)
    return match is not None and match.end() == len(text)


def opens_call(tag: re.Match[str] | None) -> TypeGuard[re.Match[str]]:
    """Whether a match of `TAG` is an opening <tool_call> tag."""
    return tag is not None and bool(tag["call"] or tag["broken"]) and not tag["close"]


def closes_call(tag: re.Match[str] | None) -> TypeGuard[re.Match[str]]:
    """Whether a match of `TAG` is a closing <tool_call> tag."""
    return tag is not None and bool(tag["call"] and tag["close"])


def opens_reasoning(tag: re.Match[str] | None) -> TypeGuard[re.Match[str]]:
    """Whether a match of `TAG` is an opening <think> or <scratch_pad> tag, in any of its spellings."""
    return tag is not None and bool(tag["reasoning"] and not tag["close"])


def closes_reasoning(tag: re.Match[str] | None) -> TypeGuard[re.Match[str]]:
    """Whether a match of `TAG` is a closing <think> or <scratch_pad> tag, in any of its spellings."""
    return tag is not None and bool(tag["reasoning"] and tag["close"])


def ends_turn(tag: re.Match[str] | None) -> TypeGuard[re.Match[str]]:
    """Whether a match of `TAG` is a marker that stands after the end of an answer."""
    return tag is not None and bool(tag["marker"] or tag["pad"])


def is_alias(tag: re.Match[str] | None) -> TypeGuard[re.Match[str]]:
    """Whether a match of `TAG` is a tag that stands for <tool_call> around a known tool's name only."""
    return tag is not None and bool(tag["alias"] or tag["tool"] or tag["quoted_tool"])
