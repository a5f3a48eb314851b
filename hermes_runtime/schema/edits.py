"""Schemas as callers bring them in and models are shown them: no null keywords, a plain root, an object around."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hermes_runtime.schema.keywords import is_pointer, mapped, nodes, target

_MAY_BE_NULL = frozenset({"const", "default"})


def without_null_keywords(schema: Any) -> Any:
    """Copy a schema without the keywords that are null, which count as absent, at every depth.

    `const` and `default` may be null, and so may members of an `enum`: those are values. What stands under `properties`
    is a property, whatever its name. A schema that is nested too deeply to be used is left as it is.
    """
    try:
        return _without_nulls(schema)
    except RecursionError:
        return schema


def _without_nulls(node: Any) -> Any:
    if not isinstance(node, Mapping):
        return node
    said = {key: value for key, value in node.items() if value is not None or key in _MAY_BE_NULL}
    return mapped(said, _without_nulls)


def without_titles(node: Any) -> Any:
    """Copy a schema without its titles, as models are shown tools."""
    if not isinstance(node, dict):
        return node
    return {key: value for key, value in mapped(node, without_titles).items() if key != "title"}


def in_object(schema: dict[str, Any], member: str) -> dict[str, Any]:
    """Return the schema of an object whose one member is what a schema describes."""

    def moved(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        copy = mapped(node, moved)
        reference = copy.get("$ref", "")
        if is_pointer(reference) and not reference.startswith(("#/$defs/", "#/definitions/")):
            copy["$ref"] = f"#/properties/{member}{reference[1:]}"
        return copy

    inner = moved(schema)
    shared = {key: inner.pop(key) for key in ("$schema", "$defs", "definitions") if key in inner}
    return {**shared, "type": "object", "properties": {member: inner}, "required": [member]}


def is_recursive(schema: Mapping[str, Any]) -> bool:
    """Whether a definition of a schema contains itself, at whatever depth."""
    definitions = schema.get("$defs", {})
    uses = {
        name: {node["$ref"].rpartition("/")[2] for node in nodes(definition) if isinstance(node.get("$ref"), str)}
        for name, definition in definitions.items()
    }
    for name, reached in uses.items():
        found, ahead = set[str](), list(reached)
        while ahead:
            if (other := ahead.pop()) not in found:
                found.add(other)
                ahead += uses.get(other, ())
        if name in found:
            return True
    return False


def with_plain_root(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema whose root is a reference, as of pydantic's recursive classes, with the definition in its place.

    Whoever looks for `properties` finds them there.
    """
    reference = schema.get("$ref")
    if not isinstance(reference, str) or not isinstance(definition := target(schema, reference), dict):
        return schema
    return {**definition, **{key: value for key, value in schema.items() if key != "$ref"}}
