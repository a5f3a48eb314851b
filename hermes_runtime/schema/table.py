"""The keywords of JSON Schema, one row each: its form, what each grammar language keeps of it, and what is checked.

What a language keeps is named, never what it leaves out: a keyword that nobody has thought of has no row, and what has
no row counts as not enforced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a keyword's value is.

    Attributes:
        form: In words, for whoever wrote something else.
        fits: Whether a value has the form.
    """

    form: str
    fits: Callable[[Any], bool]


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_type(value: Any) -> bool:
    names = [value] if isinstance(value, str) else value
    return isinstance(names, list) and bool(names) and all(isinstance(name, str) and name in TYPES for name in names)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


ANNOTATION = Kind("anything", lambda _: True)  # says nothing of values, and is dropped
ANYTHING = Kind("anything", lambda _: True)
MAP = Kind("an object of schemas", lambda value: isinstance(value, dict))
LIST = Kind("a non-empty list of schemas", _is_list)
SCHEMA = Kind("a schema", lambda _: True)  # where a schema is wrong, it is named by the place itself
COUNT = Kind("a whole number of at least 0", _is_count)
BOUND = Kind("a number", is_number)
MULTIPLE = Kind("a number above 0", lambda value: is_number(value) and value > 0)
TEXT = Kind("a string", lambda value: isinstance(value, str))
TYPE = Kind(f"one or several of {sorted(TYPES)}", _is_type)
VALUES = Kind("a non-empty list", _is_list)
NAMES = Kind(
    "a list of property names", lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value)
)

KEPT = "kept"
LOST = "not kept"
CHECKED = "yes"
NEUTRAL = "judges nothing"


@dataclass(frozen=True, slots=True)
class Keyword:
    """One keyword. What it says of the grammars and the check is `NEUTRAL` where it judges no value by itself.

    Attributes:
        name: The keyword.
        kind: What its value is.
        lark: How far a grammar in Lark keeps it: `KEPT` or in words how far, `LOST` where not at all.
        gbnf: The same of a grammar in GBNF.
        checked: Whether the check of what was written finds what breaks it: `CHECKED`, or in words when.
        is_in_place: Its schemas judge the same value as the one that they stand in.
        opens: It says which other keys an object may have.
    """

    name: str
    kind: Kind
    lark: str
    gbnf: str
    checked: str
    is_in_place: bool = False
    opens: bool = False


_EXACTLY = "kept up to 2^53"
_REPEATED = "kept up to 300"
_EXCLUSIVE = "kept where no value fits two branches"
_UNLISTED = "kept where no key is listed"
_ONCE = "kept, but among the other keys of an open object one may come again"

_ROWS = (
    Keyword("type", TYPE, KEPT, KEPT, CHECKED),
    Keyword("enum", VALUES, KEPT, KEPT, CHECKED),
    Keyword("const", ANYTHING, KEPT, KEPT, CHECKED),
    Keyword("properties", MAP, KEPT, _ONCE, CHECKED),
    Keyword("required", NAMES, KEPT, KEPT, CHECKED),
    Keyword("additionalProperties", SCHEMA, KEPT, KEPT, CHECKED, opens=True),
    Keyword("items", SCHEMA, KEPT, KEPT, CHECKED),
    Keyword("prefixItems", LIST, KEPT, KEPT, CHECKED),
    Keyword("additionalItems", SCHEMA, KEPT, KEPT, CHECKED),
    Keyword("allOf", LIST, KEPT, KEPT, CHECKED, is_in_place=True),
    Keyword("anyOf", LIST, KEPT, KEPT, CHECKED, is_in_place=True),
    Keyword("$ref", TEXT, KEPT, "kept where it is a pointer", CHECKED, is_in_place=True),
    Keyword("minLength", COUNT, KEPT, _REPEATED, CHECKED),
    Keyword("maxLength", COUNT, KEPT, _REPEATED, CHECKED),
    Keyword("minItems", COUNT, KEPT, _REPEATED, CHECKED),
    Keyword("maxItems", COUNT, KEPT, _REPEATED, CHECKED),
    Keyword("pattern", TEXT, "kept where the engine reads it", LOST, CHECKED),
    Keyword("format", TEXT, "kept where the engine knows it", LOST, "no"),
    Keyword("minimum", BOUND, _EXACTLY, LOST, CHECKED),
    Keyword("maximum", BOUND, _EXACTLY, LOST, CHECKED),
    Keyword("exclusiveMinimum", BOUND, _EXACTLY, LOST, CHECKED),
    Keyword("exclusiveMaximum", BOUND, _EXACTLY, LOST, CHECKED),
    Keyword("multipleOf", MULTIPLE, "kept up to three digits", LOST, CHECKED),
    Keyword("uniqueItems", ANYTHING, LOST, LOST, CHECKED),
    Keyword("minProperties", COUNT, _UNLISTED, LOST, CHECKED),
    Keyword("maxProperties", COUNT, _UNLISTED, LOST, CHECKED),
    Keyword("patternProperties", MAP, KEPT, LOST, CHECKED, opens=True),
    Keyword("propertyNames", SCHEMA, LOST, LOST, CHECKED, opens=True),
    Keyword("contains", SCHEMA, LOST, LOST, CHECKED),
    Keyword("minContains", ANYTHING, LOST, LOST, CHECKED),
    Keyword("maxContains", ANYTHING, LOST, LOST, CHECKED),
    Keyword("not", SCHEMA, LOST, LOST, CHECKED),
    Keyword("if", SCHEMA, LOST, LOST, CHECKED, is_in_place=True),
    Keyword("then", SCHEMA, LOST, LOST, CHECKED, is_in_place=True),
    Keyword("else", SCHEMA, LOST, LOST, CHECKED, is_in_place=True),
    Keyword("dependentRequired", ANYTHING, LOST, LOST, CHECKED),
    Keyword("dependentSchemas", MAP, LOST, LOST, CHECKED, is_in_place=True),
    Keyword("dependencies", ANYTHING, LOST, LOST, "where `$schema` names a draft up to 7"),
    Keyword("unevaluatedItems", SCHEMA, LOST, LOST, CHECKED),
    Keyword("unevaluatedProperties", SCHEMA, LOST, LOST, CHECKED, opens=True),
    Keyword("oneOf", LIST, _EXCLUSIVE, _EXCLUSIVE, CHECKED, is_in_place=True),
    Keyword("$dynamicRef", ANYTHING, LOST, LOST, CHECKED),
    Keyword("$recursiveRef", ANYTHING, LOST, LOST, "where `$schema` names draft 2019-09"),
    Keyword("$defs", MAP, NEUTRAL, NEUTRAL, NEUTRAL),
    Keyword("definitions", MAP, NEUTRAL, NEUTRAL, NEUTRAL),
    Keyword("$id", TEXT, NEUTRAL, NEUTRAL, NEUTRAL),
    Keyword("id", ANYTHING, NEUTRAL, NEUTRAL, NEUTRAL),
    Keyword("$anchor", TEXT, NEUTRAL, NEUTRAL, NEUTRAL),
    Keyword("$dynamicAnchor", ANYTHING, NEUTRAL, NEUTRAL, NEUTRAL),
    Keyword("$recursiveAnchor", ANYTHING, NEUTRAL, NEUTRAL, NEUTRAL),
    Keyword("$vocabulary", ANYTHING, NEUTRAL, NEUTRAL, NEUTRAL),
    *(
        Keyword(name, ANNOTATION, NEUTRAL, NEUTRAL, NEUTRAL)
        for name in (
            *("$schema", "$comment", "title", "description", "default", "example", "examples", "deprecated"),
            *("readOnly", "writeOnly", "discriminator", "nullable", "externalDocs", "xml", "x-guidance"),
            *("contentEncoding", "contentMediaType", "contentSchema"),
        )
    ),
)

KEYWORDS: Mapping[str, Keyword] = {row.name: row for row in _ROWS}
"""All that have a row; the order is that in which what is lost is told."""


def of_kind(*kinds: Kind) -> frozenset[str]:
    """Return the keywords whose values are of one of these kinds."""
    return frozenset(row.name for row in _ROWS if row.kind in kinds)


def is_unknown(keyword: str) -> bool:
    """Whether a keyword has no row; what begins with `x-` is by convention a note for somebody else."""
    return keyword not in KEYWORDS and not keyword.startswith("x-")
