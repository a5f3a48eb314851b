"""A JSON Schema as a term of a Lark grammar, as strict as the grammar engine allows.

What the term does not enforce is named in `SchemaRule.relaxed`; only validating the result finds what breaks it. Which
keywords are supported: llguidance, docs/json_schema.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal

from llguidance import LLMatcher

from hermes_runtime.errors import SchemaError
from hermes_runtime.literals.escapes import well_formed
from hermes_runtime.schema.exclusive import with_exclusive_choices
from hermes_runtime.schema.finite import without_endless_branches
from hermes_runtime.schema.keywords import (
    UnusableSchemaError,
    longest_choice,
    modern,
    nodes,
    walk,
    weight,
)
from hermes_runtime.schema.references import References, closed, gather_definitions
from hermes_runtime.schema.table import KEYWORDS, LOST, is_unknown

Kind = Literal["arguments", "value"]

# The layout of the training data. White space that the model may choose lets a small model loop on newlines.
_LAYOUT: Mapping[str, Any] = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# Properties of a schema that is refused as a whole are checked one by one, at about a millisecond each.
_MOST_CHECKED = 200
_LARGEST_MULTIPLE = 1000


@dataclass(frozen=True, slots=True)
class SchemaRule:
    """What a grammar enforces of one schema.

    Attributes:
        schema: What is left of it, as JSON text: in the newest spelling, closed, with finite values only.
        relaxed: One sentence for each part of the schema that the term does not enforce.
        lenient: The grammar engine takes it in its lenient mode only.
        free: Nothing but the outermost JSON type is enforced.
        size: Number of subschemas; large lists of values or properties count as several.
        choice: Among how many keys, at most, the next key of the outermost object is chosen.
    """

    schema: str
    relaxed: tuple[str, ...] = ()
    lenient: bool = False
    free: bool = False
    size: int = 1
    choice: int = 1

    @property
    def lark(self) -> str:
        """A `%json {...}` term."""
        return "%json " + _laid_out(self.schema, lenient=self.lenient)


ANY_OBJECT = SchemaRule('{"type": "object"}')


def schema_rule(schema: Mapping[str, Any] | bool, *, where: str, kind: Kind = "value") -> SchemaRule:
    """Turn a schema into a grammar term: strict, else lenient, else property by property, else of free shape.

    Objects that list their properties and say nothing about others are closed: a model must not invent keys. Where a
    schema combines objects (`allOf`, `anyOf` beside `properties`), only what provably stays satisfiable is closed.

    Args:
        schema: JSON Schema of any common draft, as pydantic, TypeScript tools or a person writes it.
        where: Names the schema in errors, for example `tool 'search'`.
        kind: `arguments` for a tool's parameters, which are an object even where the schema forgets to say so.

    Raises:
        SchemaError: The schema is broken in itself, refers to something outside itself, or no finite value satisfies
            it.
    """
    try:
        text = json.dumps(schema if isinstance(schema, bool) else dict(schema), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise SchemaError(f"{where}: the schema is not plain JSON: {error}") from error
    try:
        return _rule(well_formed(text), kind)
    except UnusableSchemaError as error:
        raise SchemaError(f"{where}: {f'{error.path}: ' if error.path else ''}{error.reason}") from error


def _laid_out(schema: str, *, lenient: bool) -> str:
    options = json.dumps({**_LAYOUT, "lenient": True} if lenient else _LAYOUT)
    return f'{schema[:-1]}{", " if schema != "{}" else ""}"x-guidance": {options}}}'


def _as_text(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, ensure_ascii=False)


@lru_cache(maxsize=1024)
def _rule(text: str, kind: Kind) -> SchemaRule:
    root, relaxed = _readable(text, kind)
    refusal = "no finite JSON value satisfies the schema: it requires itself, or the impossible"
    for narrowed in _narrowings(root):
        candidate = without_endless_branches(narrowed)
        if candidate is None:
            continue
        rule, refusal = _strictest(candidate, relaxed)
        if rule:
            return rule
        if "Unsatisfiable schema" not in refusal:
            return _loosened(candidate, refusal, relaxed, kind)
    raise UnusableSchemaError(refusal)


def _narrowings(root: Any) -> Iterator[Any]:
    yield closed(root, References(root))
    yield root


def _readable(text: str, kind: Kind) -> tuple[Any, list[str]]:
    """Return the schema as an object in the newest spelling, and notes on what was left out."""
    try:
        return _read(json.loads(text), kind)
    except RecursionError as error:
        raise UnusableSchemaError("nested too deeply; name the inner parts under $defs") from error


def _read(schema: Any, kind: Kind) -> tuple[Any, list[str]]:
    relaxed: list[str] = []
    root = modern(schema, relaxed)
    if isinstance(root, bool):
        root = {} if root else {"type": "array", "minItems": 1, "items": False}
    if kind == "arguments":
        types = root.get("type", "object")
        if types != "object" and not (isinstance(types, list) and "object" in types):
            raise UnusableSchemaError(f"parameters must describe an object, but their type is {types!r}")
        root["type"] = "object"
    References(root)  # raises where the schema is malformed, which nothing below could bear
    gather_definitions(root, relaxed)
    relaxed += _leave_out_large_multiples(root)
    return with_exclusive_choices(root), relaxed


def _leave_out_large_multiples(root: Any) -> Iterator[str]:
    """Multiples take an automaton of as many states; where one value must be of several, of their product."""
    multiples = [(path, node) for path, node in walk(root) if "multipleOf" in node]
    if not multiples:
        return
    digits = [_coefficient(node["multipleOf"]) for _, node in multiples]
    combined = math.lcm(*digits) > _LARGEST_MULTIPLE and any(
        "allOf" in node or ("multipleOf" in node and node.keys() & {"$ref", "anyOf", "oneOf"}) for node in nodes(root)
    )
    for (path, node), size in zip(multiples, digits, strict=True):
        if combined or size > _LARGEST_MULTIPLE:
            yield f"not enforced: {path}.multipleOf: {node.pop('multipleOf')} takes too large an automaton"


def _coefficient(number: float) -> int:
    return int("".join(map(str, Decimal(str(number)).as_tuple().digits)))


def _as_rule(schema: dict[str, Any], notes: Sequence[str], *, lenient: bool = False) -> SchemaRule:
    size = sum(map(weight, nodes(schema)))
    return SchemaRule(_as_text(schema), tuple(notes), lenient, size=size, choice=longest_choice(schema))


def _strictest(schema: dict[str, Any], relaxed: list[str]) -> tuple[SchemaRule | None, str]:
    notes, refusal = list(relaxed), ""
    for lenient in (False, True):
        refusal, warnings = _check(schema, lenient=lenient)
        for sign, leave_out in (("min/maxProperties", _leave_out_counts), ("regex parse error", _leave_out_patterns)):
            if any(sign in text for text in (refusal, *warnings)):
                notes += leave_out(schema)
                refusal, warnings = _check(schema, lenient=lenient)
        if not refusal:
            notes += [*(f"not enforced: {text}" for text in warnings), *_untold(schema, warnings)]
            return _as_rule(schema, notes, lenient=lenient), ""
    return None, refusal


def _untold(schema: dict[str, Any], warnings: Sequence[str]) -> Iterator[str]:
    """Name what no grammar in Lark keeps and the engine passes over: above all, keywords that it has never heard of."""
    told = " ".join(warnings)
    for path, node in walk(schema):
        for key in node:
            if is_unknown(key):
                yield f"not enforced: {path}.{key}: no known keyword"
            elif key in KEYWORDS and KEYWORDS[key].lark == LOST and f'"{key}"' not in told:
                yield f"not enforced: {path}.{key}"


def _leave_out_counts(schema: dict[str, Any]) -> Iterator[str]:
    # In its lenient mode the engine would count only the properties that are not listed.
    for path, node in walk(schema):
        for key in node.keys() & {"minProperties", "maxProperties"} if "properties" in node else ():
            del node[key]
            yield f"not enforced: {path}.{key}"


def _leave_out_patterns(schema: dict[str, Any]) -> Iterator[str]:
    for path, node in walk(schema):
        if "pattern" in node and (error := _check({"type": "string", "pattern": node["pattern"]})[0]):
            del node["pattern"]
            yield f"not enforced: {path}.pattern: {error}"


def _loosened(schema: dict[str, Any], refusal: str, relaxed: list[str], kind: Kind) -> SchemaRule:
    definitions: dict[str, Any] = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    properties: dict[str, Any] = {}
    notes = list(relaxed)
    if len(schema.get("properties", ())) > _MOST_CHECKED:
        return _free(schema, refusal, relaxed, kind)
    for name, value in schema.get("properties", {}).items():
        error = _check({**definitions, **value}, lenient=True)[0] if isinstance(value, dict) else ""
        properties[name] = {} if error else value
        if error:
            notes.append(f"property {name!r} may hold anything: {error}")
    rule = _strictest({**schema, "properties": properties}, notes)[0] if properties else None
    return rule or _free(schema, refusal, relaxed, kind)


def _free(schema: dict[str, Any], refusal: str, relaxed: list[str], kind: Kind) -> SchemaRule:
    free = {"type": "object"} if kind == "arguments" or schema.get("type") == "object" else {}
    return SchemaRule(_as_text(free), (*relaxed, refusal), free=True)


def _check(schema: dict[str, Any], *, lenient: bool = False) -> tuple[str, list[str]]:
    """Return the engine's refusal, or an empty string, and its warnings."""
    grammar = f'{{"grammars": [{{"json_schema": {_laid_out(_as_text(schema), lenient=lenient)}}}]}}'
    failed, messages = LLMatcher.validate_grammar_with_warnings(grammar)
    if failed:
        return " ".join(messages[0].split())[:400], []
    return "", list(dict.fromkeys(messages))
