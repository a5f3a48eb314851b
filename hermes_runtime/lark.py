"""Writes the form of a turn in llguidance's Lark.

The text stands alone: llguidance compiles it in process, and so does a vLLM server that is given it as it is. Tags are
matched as text, because no tag is a single token in Mistral's vocabulary; a special token can be sampled nowhere but as
the end of the turn, where the grammar ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache

from llguidance import LLMatcher, regex_to_lark

from hermes_runtime.errors import SchemaError
from hermes_runtime.schema_rule import SchemaRule
from hermes_runtime.turn_form import NEWLINE, OPEN, PAD_CLOSE, PAD_OPEN, CallForm, Choices, Pattern, TurnForm

_ANY = "(?s:.)*"
# All that the parser takes for an opening tag, and for one that lost its bracket (`markup.TAG`).
_OPENING = r"<[ \t]{0,4}(?i:tool_calls?)[ \t]{0,2}>"
_BROKEN_OPENING = r"<[ \t]{0,4}(?i:tool_call)[\s\x1c-\x1f]{0,4}[{\[]"
_NO_CALL = f"~/{_ANY}({_OPENING}|{_BROKEN_OPENING}){_ANY}/"
_NO_BROKEN_CALL = f"~/{_ANY}{_BROKEN_OPENING}{_ANY}/"
# The head is lazy: the first tag ends the text, whatever else could follow it.
_TEXT = f"TEXT: /{_ANY}/ & {_NO_BROKEN_CALL}\nhead[lazy]: HEAD\nHEAD: /{_ANY}{_OPENING}/ & {_NO_BROKEN_CALL}"
_WITHOUT_CALL = f"TEXT: /{_ANY}/ & {_NO_CALL}"
_PAD = f"pad[lazy]: PAD\nPAD: /{PAD_OPEN}{_ANY}{PAD_CLOSE.replace('/', chr(92) + '/')}/ & {_NO_CALL}"
_LARGE_TEXT = 50_000


def write_lark(form: TurnForm) -> str:
    """Return the grammar's text.

    Raises:
        SchemaError: The schemas are too much together.
    """
    starts, rules = [], []
    if form.final is not None:
        starts.append("final")
        rules.append(_final(form.final))
    if form.has_text:
        starts.append("TEXT")
        rules.append(_TEXT if form.calls else _WITHOUT_CALL)
    if form.calls:
        further = form.most_calls - 1
        more = f" ({_literal(NEWLINE + OPEN)} call){{0,{further}}}" if further else ""
        pad = '(pad "\\n")? ' if form.may_reason else ""
        starts.append(f"head call{more}" if form.has_text else f"{pad}{_literal(OPEN)} call{more}")
        rules += [_PAD] * form.may_reason
        rules.append(_calls(form.calls))
    lark = "\n".join([f"start: {' | '.join(starts)}", *rules, ""])
    # Every schema was checked alone; only where they are many can they be too much together.
    if len(lark) > _LARGE_TEXT and (refusal := _refusal(lark)):
        raise SchemaError(f"the schemas together make no usable grammar: {refusal.splitlines()[0]}")
    return lark


def _literal(text: str) -> str:
    """Write a string as a Lark literal, which is a JSON string that may not hold a raw DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _any_of(texts: Iterable[str]) -> str:
    literals = [_literal(text) for text in texts]
    return literals[0] if len(literals) == 1 else f"({' | '.join(literals)})"


def _calls(calls: Iterable[CallForm]) -> str:
    """Return rules for `call`: what follows an opening tag, up to and with the closing tag."""
    alternatives, rules = [], []
    for index, call in enumerate(calls):
        before, after = call.pieces
        alternatives.append(f"{_any_of(before)} arguments_{index} {_any_of(after)}")
        rules.append(f"arguments_{index}: {call.rule.lark}")
    return "\n".join(["call: " + "\n    | ".join(alternatives), *rules])


def _final(final: SchemaRule | Choices | Pattern) -> str:
    if isinstance(final, SchemaRule):
        return f"final: {final.lark}"
    if isinstance(final, Choices):
        return "final: CHOICE\nCHOICE: " + " | ".join(map(_literal, final.texts))
    return _pattern(final.regex)


def check_regex(regex: str) -> None:
    """Check that an answer can be constrained by a regular expression.

    Raises:
        SchemaError: It is unusable.
    """
    refusal = _refusal(f"start: final\n{_pattern(regex)}\n")
    if not regex or refusal:
        reason = refusal or "it is empty"
        raise SchemaError(f"the regular expression {regex!r} cannot constrain an answer: {reason}")


def _pattern(regex: str) -> str:
    return f"final: FINAL\nFINAL: /{regex_to_lark(regex, '')}/"


@lru_cache(maxsize=256)
def _refusal(lark: str) -> str:
    return str(LLMatcher.validate_grammar(lark))
