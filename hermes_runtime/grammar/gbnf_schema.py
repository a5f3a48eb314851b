"""A JSON Schema as rules of a GBNF grammar: its types, keys, lists and choices; the rest is widened and named."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import reduce
from typing import Any

from hermes_runtime.grammar.gbnf_rules import Rules, literal, repeated
from hermes_runtime.schema.keywords import is_pointer, target, walk
from hermes_runtime.schema.table import COUNT, KEYWORDS, LOST, TYPES

# llama.cpp writes a repetition out, once for each time.
MAX_REPEATED = 300
# Schemas that judge one value together are multiplied out, up to so many.
_MAX_BRANCHES = 2000

# Of a `oneOf` that is left, some value fits two branches.
_LOST = (*(row.name for row in KEYWORDS.values() if row.gbnf == LOST or row.name == "oneOf"),)
_COUNTS = tuple(row.name for row in KEYWORDS.values() if row.kind is COUNT and row.gbnf != LOST)
_BOUNDED_BY = {key: max if key.startswith("min") else min for key in _COUNTS}
_VALUES = ("type", "enum", "const")
_COMBINING = ("$ref", "allOf", "anyOf", "oneOf")


class SchemaWriter:
    """Writes one schema, as `schema_rule` leaves it.

    Args:
        rules: Where its rules go.
        schema: JSON text of the schema.

    Attributes:
        start: The rule of a value of the schema.
        notes: One sentence for each part of the schema that the rules do not enforce.
    """

    def __init__(self, rules: Rules, schema: str) -> None:
        self._rules = rules
        self._root = json.loads(schema)
        self._references: dict[str, str] = {}
        self._ends: dict[str, str] = {}  # where chains of references lead
        self._pending: list[str] = []
        self._terms: dict[str, str | None] = {}
        self.notes = list(_not_enforced(self._root))
        self.start = self._term(self._root) or self._free("the schema contradicts itself")
        while self._pending:
            pointer = self._pending.pop()
            term = self._union(target(self._root, pointer))
            rules.define(self._references[pointer], term or self._free(f"{pointer} contradicts itself"))

    def _free(self, reason: str) -> str:
        self.notes.append(f"not enforced: {reason}")
        return self._rules.json("value")

    def _term(self, node: Any) -> str | None:
        """Return a term for the values of a subschema; None where it has none."""
        if node is True or node == {}:
            return self._rules.json("value")
        if node is False:
            return None
        if _is_alias(node):
            return self._reference(node["$ref"])
        key = json.dumps(node)
        if key not in self._terms:
            self._terms[key] = self._union(node)
        return self._terms[key]

    def _reference(self, pointer: str) -> str | None:
        passed = []
        while _is_alias(node := target(self._root, pointer)) and pointer not in self._ends:
            passed.append(pointer)
            pointer = node["$ref"]
        pointer = self._ends.get(pointer, pointer)
        self._ends.update(dict.fromkeys(passed, pointer))
        if pointer not in self._references:
            if not self._branches(target(self._root, pointer)):
                return None
            self._references[pointer] = self._rules.reserve()
            self._pending.append(pointer)
        return self._references[pointer]

    def _union(self, node: Any) -> str | None:
        found = [term for branch in self._branches(node) for term in self._alternatives(branch)]
        return None if not found else found[0] if len(found) == 1 else self._rules.named(" | ".join(found))

    # Combinations.

    def _branches(self, node: Any) -> list[dict[str, Any]]:
        """Return subschemas that combine nothing; together they have the node's values."""
        found: list[dict[str, Any]] = []
        pending, seen = [node], set()
        while pending:
            part = pending.pop()
            if part is False:
                continue
            if part is True or not part.keys() & {*_COMBINING}:
                found.append({} if part is True else part)
                continue
            key = json.dumps(part)
            if key in seen:  # what leads back to itself adds no value
                continue
            seen.add(key)
            if len(seen) > _MAX_BRANCHES:
                self.notes.append("not enforced: a combination of too many subschemas")
                return [{}]
            pending += reversed(self._expanded(part))
        return found

    def _expanded(self, node: Mapping[str, Any]) -> list[Any]:
        """Return subschemas with one combination less; together they have the node's values."""
        key = next(name for name in _COMBINING if name in node)
        rest: Any = {name: value for name, value in node.items() if name not in (key, "$defs")}
        if key == "$ref":
            return [_merged(rest, target(self._root, node[key])) if is_pointer(node[key]) else rest]
        if key == "allOf":
            return [reduce(_merged, node[key], rest)]
        return [_merged(rest, branch) for branch in node[key]]

    # Types.

    def _alternatives(self, node: Mapping[str, Any]) -> Iterator[str]:
        types = node.get("type", TYPES)
        types = (types,) if isinstance(types, str) else types
        if "const" in node or "enum" in node:
            values = [node["const"]] if "const" in node else node["enum"]
            yield from (literal(_dumps(value)) for value in values if _is_any_of(value, types))
            return
        for name in types:
            if name == "integer" and "number" in types:
                continue
            term = self._typed(name, node)
            if term is not None:
                yield term

    def _typed(self, name: str, node: Mapping[str, Any]) -> str | None:
        if name == "null":
            return '"null"'
        if name == "string":
            return self._string(node)
        if name == "array":
            return self._array(node)
        return self._object(node) if name == "object" else self._rules.json(name)

    def _string(self, node: Mapping[str, Any]) -> str | None:
        least, most = _bounds(node, "Length")
        if most is not None and least > most:
            return None
        if (least, most) == (0, None):
            return self._rules.json("string")
        return self._rules.named(f'"\\"" {repeated(self._rules.json("char"), least, most)} "\\""')

    def _array(self, node: Mapping[str, Any]) -> str | None:
        least, most = _bounds(node, "Items")
        items = [self._term(item) for item in node.get("prefixItems", ())]
        first = [item for item in items[: items.index(None) if None in items else None] if item]
        rest = self._term(node.get("items", True)) if len(first) == len(items) else None
        if rest is None:
            most = len(first) if most is None else min(most, len(first))
        if most is not None and least > most:
            return None
        if most == 0:
            return '"[]"'
        first = first[:most]
        tail = ""
        if rest is not None and (most is None or most > len(first)):
            more = self._rules.named(f'", " {rest}')
            written = max(len(first), 1)  # where there is no first item, the rest begins with one
            tail = repeated(more, max(0, least - written), None if most is None else most - written)
            first = first or [rest]
        for index in range(len(first) - 1, 0, -1):
            tail = _sequence('", "', first[index], tail)
            tail = tail if index < least else f"{self._rules.named(tail)}?"
        items_term = _sequence(first[0], tail)
        inside = items_term if least else f"( {items_term} )?"
        return self._rules.named(f'"[" {inside} "]"')

    def _object(self, node: Mapping[str, Any]) -> str | None:
        properties, required = node.get("properties", {}), node.get("required", ())
        other = self._term(_other_values(node))
        entries: list[tuple[str, bool]] = []
        for key in dict.fromkeys([*properties, *required]):
            value = self._term(properties[key]) if key in properties else other
            if value is not None:
                entries.append((_sequence(literal(f"{_dumps(key)}: "), value), key in required))
            elif key in required:
                return None
        member = None if other is None else self._member(other)
        if not entries:
            if member == "member":
                return self._rules.json("object")
            return '"{}"' if member is None else self._rules.named(f'"{{" ( {member} ( ", " {member} )* )? "}}"')
        return self._rules.named(_sequence('"{"', self._entries(entries, member), '"}"'))

    def _member(self, value: str) -> str:
        if value == "value":
            return self._rules.json("member")
        return self._rules.named(f'{self._rules.json("string")} ": " {value}')

    def _entries(self, entries: list[tuple[str, bool]], member: str | None) -> str:
        """Return a term for the members of an object, in order: any of the optional ones may be missing."""
        after = "" if member is None else f'( ", " {member} )*'
        beginnings = [] if member is None else [_sequence(member, after)]
        can_be_empty = True
        for entry, is_required in reversed(entries):
            beginning = _sequence(entry, after)
            beginnings = [beginning] if is_required else [beginning, *beginnings]
            can_be_empty = can_be_empty and not is_required
            follows = _sequence('", "', entry)
            after = _sequence(follows if is_required else f"( {follows} )?", after)
            if len(after) > 80:
                after = self._rules.named(after)
        return f"( {' | '.join(beginnings)} ){'?' if can_be_empty else ''}"


def _is_alias(node: Any) -> bool:
    return isinstance(node, dict) and node.keys() == {"$ref"} and is_pointer(node["$ref"])


def _sequence(*terms: str) -> str:
    return " ".join(term for term in terms if term)


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _not_enforced(root: Any) -> Iterator[str]:
    for path, node in walk(root):
        for key in _LOST:
            if key in node:
                yield f"not enforced: {path}.{key}"
        for key in _COUNTS:
            if node.get(key, 0) > MAX_REPEATED:
                yield f"not enforced: {path}.{key}: {node[key]} is more than {MAX_REPEATED}"
        if not is_pointer(node.get("$ref", "#")):
            yield f"not enforced: {path}.$ref"
        if node.get("properties") and node.get("additionalProperties", True) is not False:
            yield f"not enforced: {path}.properties: a listed key may be written again among the others"


def _bounds(node: Mapping[str, Any], name: str) -> tuple[int, int | None]:
    least, most = node.get(f"min{name}", 0), node.get(f"max{name}")
    return (least if least <= MAX_REPEATED else 0), (most if most is None or most <= MAX_REPEATED else None)


def _is_any_of(value: Any, types: Any) -> bool:
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, int | float):
        return "number" in types or ("integer" in types and value == int(value))
    kinds: dict[type, str] = {str: "string", list: "array", dict: "object", type(None): "null"}
    return kinds[type(value)] in types


def _merged(one: Any, other: Any) -> Any:
    """Return a subschema whose values satisfy both, as far as that can be told; it never has fewer."""
    if one is False or other is False:
        return False
    if one is True or other is True:
        return other if one is True else one
    if not one or not other:
        return one or other
    merged = {**one, **other}
    for key in one.keys() & other.keys():
        merged[key] = _merged_value(key, one[key], other[key])
    if any(key in one and key in other and one[key] != other[key] and not merged[key] for key in _VALUES):
        return False
    twice = [key for key in ("$ref", "anyOf", "oneOf") if key in one and key in other and one[key] != other[key]]
    if twice:
        merged["allOf"] = [*merged.get("allOf", ()), *({key: other[key]} for key in twice)]
    if "properties" in merged:
        merged["properties"] = _merged_properties(one, other)
    if "prefixItems" in merged:
        merged["prefixItems"] = _merged_items(one, other)
    return merged


def _merged_value(key: str, one: Any, other: Any) -> Any:
    if one == other:
        return one
    if key == "type":
        return _common_types(one, other)
    if key in ("enum", "const"):
        return [value for value in one if value in other] if key == "enum" else []
    if key in ("required", "allOf"):
        return [*one, *(item for item in other if item not in one)]
    if key in ("items", "additionalProperties"):
        return _both(one, other)
    return _BOUNDED_BY[key](one, other) if key in _BOUNDED_BY else one


def _common_types(one: Any, other: Any) -> list[str]:
    sides = [{side} if isinstance(side, str) else set(side) for side in (one, other)]
    common = sides[0] & sides[1]
    if "integer" in sides[0] | sides[1] and all(side & {"integer", "number"} for side in sides):
        common.add("integer")
    return [name for name in TYPES if name in common]


def _both(one: Any, other: Any) -> Any:
    return one if one == other else {"allOf": [one, other]}


def _merged_properties(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    def part(node: Mapping[str, Any], key: str) -> Any:
        listed = node.get("properties", {})
        return listed[key] if key in listed else _other_values(node)

    names = dict.fromkeys([*one.get("properties", ()), *other.get("properties", ())])
    return {key: _both(part(one, key), part(other, key)) for key in names}


def _merged_items(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Any]:
    def part(node: Mapping[str, Any], index: int) -> Any:
        first = node.get("prefixItems", ())
        return first[index] if index < len(first) else node.get("items", True)

    length = max(len(one.get("prefixItems", ())), len(other.get("prefixItems", ())))
    return [_both(part(one, index), part(other, index)) for index in range(length)]


def _other_values(node: Mapping[str, Any]) -> Any:
    """Return what the values of keys that are not listed must be."""
    return True if "patternProperties" in node else node.get("additionalProperties", True)
