"""Writes the form of a turn in llguidance's Lark.

The text stands alone: llguidance compiles it in process, and so does a vLLM server that is given it as it is. Tags are
matched as text; where they are single tokens as well, and can be sampled only by name, the grammar also names them. Any
other special token can be sampled nowhere but as the end of the turn, where the grammar ends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from llguidance import LLMatcher, regex_to_lark

from hermes_runtime.errors import SchemaError
from hermes_runtime.grammar.schema_rule import SchemaRule
from hermes_runtime.grammar.turn_form import NEWLINE, CallForm, Choices, Pattern, TurnForm
from hermes_runtime.tags import BROKEN_GAP, GAP, VALUE, Tag, call_words

_ANY = "(?s:.)*"
_BEFORE_WORD = rf"<[ \t]{{0,{2 * GAP}}}"
_LARGE_TEXT = 50_000


def write_lark(form: TurnForm, tokens: frozenset[str] = frozenset()) -> str:
    """Return the grammar's text.

    Args:
        form: The turn.
        tokens: Tokens of text that can be sampled only where the grammar names them.

    Raises:
        SchemaError: The schemas are too much together.
    """
    lark = _text_of(form, tokens)
    # Every schema was checked alone; only where they are many can they be too much together. That is checked without a
    # vocabulary, where no token has a name.
    if len(lark) > _LARGE_TEXT and (refusal := _refusal(_text_of(form, frozenset()))):
        raise SchemaError(f"the schemas together make no usable grammar: {refusal.splitlines()[0]}")
    return lark


def _text_of(form: TurnForm, tokens: frozenset[str]) -> str:
    starts, rules = [], []
    if form.final is not None:
        starts.append("final")
        rules.append(_final(form.final))
    if form.has_text:
        starts.append("text")
        rules.append(_text(form.call_tags, tokens, may_call=bool(form.calls)))
    if form.calls:
        opening, further = form.tag.opening, form.most_calls - 1
        more = f" ({_ending_in(NEWLINE + opening, opening, tokens)} call){{0,{further}}}" if further else ""
        pad = "" if form.reasoning is None else f"(pad {_literal(NEWLINE)})? "
        first = "head" if form.has_text else f"{pad}{_ending_in(opening, opening, tokens)}"
        starts.append(f"{first} call{more}")
        if form.reasoning is not None:
            rules.append(_pad(form.reasoning, form.call_tags))
        rules.append(_calls(form.calls, form.tag.closing, tokens))
    return "\n".join([f"start: {' | '.join(starts)}", *rules, ""])


def _opening(tags: Iterable[Tag]) -> str:
    """Return a pattern of all that the parser takes for the opening tag of a call (`markup.TAG`)."""
    return rf"{_BEFORE_WORD}(?i:{call_words(tags)})[ \t]{{0,{GAP}}}>"


def _broken_opening(tags: Iterable[Tag]) -> str:
    """Return a pattern of all that it takes for one that lost its bracket."""
    # Python's white space, which Rust's lacks a part of.
    return rf"{_BEFORE_WORD}(?i:{call_words(tags, plural=False)})[\s\x1c-\x1f]{{0,{BROKEN_GAP}}}{VALUE}"


def _no_call(tags: Sequence[Tag]) -> str:
    return f"~/{_ANY}({_opening(tags)}|{_broken_opening(tags)}){_ANY}/"


def _pad(reasoning: Tag, tags: Sequence[Tag]) -> str:
    """Return rules for `pad`, what the model reasons, in its tag and without a call."""
    closing = reasoning.closing.replace("/", "\\/")
    return f"pad[lazy]: PAD\nPAD: /{reasoning.opening}{_ANY}{closing}/ & {_no_call(tags)}"


def _text(tags: Sequence[Tag], tokens: frozenset[str], *, may_call: bool) -> str:
    """Return rules for `text`, which no call follows, and, where calls may be made, for `head`, the text up to one."""
    opening = sorted(token for token in tokens if re.fullmatch(_opening(tags), token))
    others = sorted(tokens.difference(opening))
    named = f"(TEXT ({' | '.join(others)}))* " if others else ""
    if not may_call:
        return f"text: {named}TEXT\nTEXT: /{_ANY}/ & {_no_call(tags)}"
    no_broken_call = f"~/{_ANY}{_broken_opening(tags)}{_ANY}/"
    by_name = f" | {named}TEXT ({' | '.join(opening)})" if opening else ""
    return "\n".join(
        [
            f"text: {named}TEXT",
            f"TEXT: /{_ANY}/ & {no_broken_call}",
            f"head: {named}spelled{by_name}",
            # Lazy: the first tag ends the text, whatever else could follow it.
            "spelled[lazy]: SPELLED",
            f"SPELLED: /{_ANY}{_opening(tags)}/ & {no_broken_call}",
        ]
    )


def _ending_in(text: str, tag: str, tokens: frozenset[str]) -> str:
    """Write a text that ends in a tag, which may be one token."""
    if tag not in tokens:
        return _literal(text)
    before = text.removesuffix(tag)
    return f"{_literal(before)} {_tag(tag)}" if before else _tag(tag)


def _tag(tag: str) -> str:
    return f"({_literal(tag)} | {tag})"


def _literal(text: str) -> str:
    """Write a string as a Lark literal, which is a JSON string that may not hold a raw DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _any_of(written: Sequence[str]) -> str:
    return written[0] if len(written) == 1 else f"({' | '.join(written)})"


def _calls(calls: Iterable[CallForm], closing: str, tokens: frozenset[str]) -> str:
    """Return rules for `call`: what follows an opening tag, up to and with the closing tag."""
    alternatives, rules = [], []
    for index, call in enumerate(calls):
        before, after = call.pieces
        begun = _any_of([_literal(text) for text in before])
        ended = _any_of([_ending_in(text, closing, tokens) for text in after])
        alternatives.append(f"{begun} arguments_{index} {ended}")
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
