"""Writes the form of a turn in GBNF, for servers without llguidance.

GBNF knows neither intersections nor regular expressions. Free text is therefore an automaton that follows what may
become an opening tag letter by letter: only the exact tag of the training data opens a call, and a little more than the
parser would read as a tag cannot be written. Schemas lose what `gbnf_schema` names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.grammar.gbnf_rules import Rules, any_of, literal, repeated
from hermes_runtime.grammar.gbnf_schema import SchemaWriter
from hermes_runtime.grammar.schema_rule import SchemaRule
from hermes_runtime.grammar.turn_form import NEWLINE, CallForm, Choices, Pattern, TurnForm
from hermes_runtime.tags import GAP, Tag

# What may follow `<tool_call` in text: no blank, no plural, no bracket and no value, all of which could make it a tag.
_AFTER_WORD = r"[!-;=?-RT-Z\\\]^_`a-rt-z|}~]"


def write_gbnf(form: TurnForm) -> tuple[str, dict[SchemaRule, list[str]]]:
    """Return the grammar's text, and sentences about what it does not enforce of each schema.

    Raises:
        InvalidRequestError: A choice cannot be written.
    """
    rules = Rules()
    notes: dict[SchemaRule, list[str]] = {}
    rules.define("root", "")
    starts = []
    if form.final is not None:
        starts.append(_final(form.final, rules, notes))
    if form.calls:
        rules.define("calls", "")
        further = form.most_calls - 1
        rules.define("call", " | ".join(_calls(form.calls, rules, notes)))
        more = repeated(rules.named(f"{literal(NEWLINE + form.tag.opening)} call"), 0, further) if further else ""
        rules.define("calls", f"call {more}".strip())
    if form.has_text:
        starts.append("text")
        _define_text(rules, "text", {form.tag.opening: "calls"} if form.calls else {}, form.call_tags, may_end=True)
    elif form.calls:
        pad = ""
        if form.reasoning is not None:
            rules.define("pad", "")
            _define_text(rules, "pad", {form.reasoning.closing: ""}, form.call_tags, may_end=False)
            pad = f"( {literal(form.reasoning.opening)} pad {literal(NEWLINE)} )? "
        starts.append(f"{pad}{literal(form.tag.opening)} calls")
    rules.define("root", " | ".join(starts))
    return rules.text(), notes


def _final(final: SchemaRule | Choices | Pattern, rules: Rules, notes: dict[SchemaRule, list[str]]) -> str:
    assert not isinstance(final, Pattern)  # GBNF has none
    if isinstance(final, Choices):
        # No token that begins with this character can be sampled, and a server that is left without a token may end.
        if any("\0" in text for text in final.texts):
            raise InvalidRequestError("a choice holds the character U+0000, which GBNF cannot write")
        return rules.named(" | ".join(map(literal, final.texts)))
    return _schema(final, rules, notes)


def _schema(rule: SchemaRule, rules: Rules, notes: dict[SchemaRule, list[str]]) -> str:
    writer = SchemaWriter(rules, rule.schema)
    notes[rule] = writer.notes
    return writer.start


def _calls(calls: Iterable[CallForm], rules: Rules, notes: dict[SchemaRule, list[str]]) -> Iterator[str]:
    """Yield what may follow an opening tag, up to and with the closing tag."""
    for call in calls:
        before, after = (any_of(map(literal, texts)) for texts in call.pieces)
        yield f"{before} {_schema(call.rule, rules, notes)} {after}"


@dataclass(frozen=True, slots=True)
class _Place:
    """What of a tag has been written; nothing else follows the bracket that opened it.

    Attributes:
        exact: The beginning of an exit's tag; empty where it can be none.
        word: The beginning of the word in a call's tag, in lower case; None where it can be no call's tag.
        blanks: How many blanks, before the word.
    """

    exact: str
    word: str | None
    blanks: int = 0


def _define_text(rules: Rules, name: str, exits: Mapping[str, str], call_tags: Iterable[Tag], *, may_end: bool) -> None:
    """Add rules for text in which no opening tag can be written, but that an exit's tag ends.

    Args:
        rules: Where they go.
        name: Of the first of them.
        exits: Tags, and the rule that follows each.
        call_tags: Those of which no opening tag can be written.
        may_end: The text may end without any of them.
    """
    words = [tag.name.lower() for tag in call_tags]
    assert not any(word != other and word.startswith(other) for word in words for other in words)
    begun = {_Place("<", ""): f"{name}0"}
    pending = list(begun)
    tag = f"[<] {name}0"
    rules.define(name, f"[^<]* {f'( {tag} )?' if may_end else tag}")
    while pending:
        place = pending.pop()
        ways: dict[str, str] = {}
        for char, following in _steps(place, exits, words):
            if following.exact in exits:
                way = exits[following.exact]
            else:
                if following not in begun:
                    begun[following] = f"{name}{len(begun)}"
                    pending.append(following)
                way = begun[following]
            ways[way] = ways.get(way, "") + char
        others = _AFTER_WORD if place.word in words else f"[^<{''.join(ways.values())}]"
        written = [f"[{chars}] {way}".strip() for way, chars in ways.items()]
        rules.define(begun[place], " | ".join([*(['""'] * may_end), *written, tag, f"{others} {name}"]))


def _steps(place: _Place, exits: Iterable[str], words: Iterable[str]) -> Iterator[tuple[str, _Place]]:
    """Yield each character that goes on with a tag, and what has been written then."""
    following: dict[str, _Place] = {}
    if place.word == "" and place.blanks < 2 * GAP:
        following |= dict.fromkeys((" ", r"\t"), _Place("", "", place.blanks + 1))
    if (begun := place.word) is not None:
        for word in words:
            if word != begun and word.startswith(begun):
                letter = word[len(begun)]
                following |= dict.fromkeys((letter, letter.upper()), _Place("", begun + letter))
    for tag in exits:
        if place.exact and tag.startswith(place.exact):
            char = tag[len(place.exact)]
            following[char] = _Place(place.exact + char, following[char].word if char in following else None)
    yield from following.items()
