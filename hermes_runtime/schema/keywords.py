"""Reads JSON Schemas as frameworks write them: one spelling, local references, closed objects, bounded size.

Nothing here knows of grammars. A copy in the newest draft's spelling is made first (`modern`); `References` checks it
and knows how its parts refer to each other; `closed` and `finite` then narrow it to what a model may write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hermes_runtime.schema.table import (
    ANNOTATION,
    BOUND,
    COUNT,
    KEYWORDS,
    LIST,
    MAP,
    SCHEMA,
    is_number,
    of_kind,
)

# serde_json, which llguidance reads schemas with, stops at 128 levels of JSON, and a subschema takes two of them.
MAX_SCHEMA_DEPTH = 256
# Time to compile grows with the square of one object's optional properties; 1,500 take 0.6 s.
MAX_OPTIONAL = 1500
# Compiling takes up to 0.3 ms for each subschema: 2 s are never reached. `weight` says what else counts as some.
MAX_SUBSCHEMAS = 5000
_ENUM_VALUES, _OPTIONAL_PAIRS = 16, 1000  # as many cost as much as one subschema
_REFERENCE, _MULTIPLE = 3, 9  # one costs as much as so many more
# The grammar engine computes bounds in float64; beyond 2**53 they are no longer the numbers that were written.
_EXACT = 2**53

_ANNOTATIONS = of_kind(ANNOTATION)
_MAPS = of_kind(MAP)
_LISTS = of_kind(LIST)
_SINGLE = of_kind(SCHEMA)
_BOUNDS = of_kind(BOUND)
_COUNTS = of_kind(COUNT)
IN_PLACE = tuple(row.name for row in KEYWORDS.values() if row.is_in_place)
OPENING = frozenset(row.name for row in KEYWORDS.values() if row.opens)


class UnusableSchemaError(Exception):
    """A schema that is broken in itself; `path` leads to the place, from the root on."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.path = path
        self.reason = reason


def modern(node: Any, relaxed: list[str], path: str = "") -> Any:
    """Copy a schema without annotations, in the newest draft's spelling; what cannot be kept is named in `relaxed`."""
    if not isinstance(node, dict):
        return node
    plain: dict[str, Any] = {}
    for key, value in node.items():
        here = f"{path}.{key}"
        if key in _ANNOTATIONS:
            continue
        if key in _BOUNDS and is_number(value) and abs(value) > _EXACT:
            relaxed.append(f"not enforced: {here}: {value} is too large")
            continue
        plain[key] = _modern_value(key, value, relaxed, here)
    # Draft 7 and pydantic v1 write a tuple as a list under `items`; draft 4 writes exclusive bounds as booleans.
    if isinstance(plain.get("items"), list):
        plain["prefixItems"] = plain.pop("items")
        if "additionalItems" in plain:
            plain["items"] = plain.pop("additionalItems")
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(plain.get(exclusive), bool) and plain.pop(exclusive) and bound in plain:
            plain[exclusive] = plain.pop(bound)
    return plain


def _modern_value(key: str, value: Any, relaxed: list[str], here: str) -> Any:
    if key in _MAPS and isinstance(value, dict):
        return {name: modern(child, relaxed, f"{here}.{name}") for name, child in value.items()}
    if (key in _LISTS or key == "items") and isinstance(value, list):
        return [modern(child, relaxed, f"{here}[{index}]") for index, child in enumerate(value)]
    if key in _SINGLE:
        return modern(value, relaxed, here)
    if key in _COUNTS and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def subschemas(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every direct subschema with its path below `node`."""
    for key, value in node.items():
        if key in _MAPS:
            yield from ((f".{key}.{name}", child) for name, child in value.items())
        elif key in _LISTS:
            yield from ((f".{key}[{index}]", child) for index, child in enumerate(value))
        elif key in _SINGLE:
            yield (f".{key}", value)


def walk(root: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every subschema that is an object, outermost first, with its path.

    Raises:
        UnusableSchemaError: A keyword's value has the wrong form, or the nesting is too deep.
    """
    pending: list[tuple[str, Any, int]] = [("", root, 0)]
    while pending:
        path, node, depth = pending.pop()
        if isinstance(node, bool):
            continue
        if depth > MAX_SCHEMA_DEPTH:
            raise UnusableSchemaError(f"nested deeper than {MAX_SCHEMA_DEPTH} levels; name the inner parts under $defs")
        if not isinstance(node, dict):
            raise UnusableSchemaError(f"a schema is an object or a boolean, not {node!r}", path)
        for key, value in node.items():
            row = KEYWORDS.get(key)
            if row is not None and not row.kind.fits(value):
                raise UnusableSchemaError(f"must be {row.kind.form}, not {value!r}", f"{path}.{key}")
        if (optional := len(node.get("properties", ())) - len(node.get("required", ()))) > MAX_OPTIONAL:
            raise UnusableSchemaError(f"{optional} optional properties, more than {MAX_OPTIONAL} in one object", path)
        yield path, node
        pending += [(path + below, child, depth + 1) for below, child in subschemas(node)]


def weight(node: Mapping[str, Any]) -> int:
    """Return as how many subschemas one subschema counts, those inside it left out."""
    optional = max(0, len(node.get("properties", ())) - len(node.get("required", ())))
    pairs, values = optional**2 // _OPTIONAL_PAIRS, len(node.get("enum", ())) // _ENUM_VALUES
    return 1 + values + pairs + _REFERENCE * ("$ref" in node) + _MULTIPLE * ("multipleOf" in node)


def nodes(root: Any) -> Iterator[dict[str, Any]]:
    """Yield every subschema that is an object, of a schema that `walk` has found well-formed."""
    pending = [root]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            yield node
            pending += [child for _, child in subschemas(node)]


def longest_choice(node: Mapping[str, Any]) -> int:
    """Return among how many keys, at most, the next key of an object is chosen; properties are written in order."""
    longest = run = 1
    for name in node.get("properties", ()):
        run = 1 if name in node.get("required", ()) else run + 1
        longest = max(longest, run)
    return longest


def is_pointer(reference: str) -> bool:
    """Whether a `$ref` is a JSON pointer into the schema itself."""
    return reference == "#" or reference.startswith("#/")


def target(root: Any, pointer: str) -> Any:
    """Return the subschema that `#/a/b` points to; raises `LookupError` or `ValueError` where there is none."""
    node = root
    for part in pointer[1:].split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        node = node[int(key)] if isinstance(node, list) else node[key]
    return node


def mapped(node: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Copy a subschema with every direct subschema changed; a keyword of the wrong form is left as it is."""
    copy = dict(node)
    for key, value in node.items():
        if key in _MAPS and isinstance(value, Mapping):
            copy[key] = {name: change(child) for name, child in value.items()}
        elif isinstance(value, list) and (key in _LISTS or key in _SINGLE):
            copy[key] = [change(child) for child in value]
        elif key in _SINGLE:
            copy[key] = change(value)
    return copy
