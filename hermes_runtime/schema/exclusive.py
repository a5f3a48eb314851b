"""Which choices of a schema exclude each other: only those can be a grammar."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hermes_runtime.schema.keywords import is_pointer, mapped, nodes, target


def with_exclusive_choices(root: Any) -> Any:
    """Copy a modern schema, with `anyOf` for every `oneOf` of which no value can satisfy two branches.

    The two then mean the same, and only the first can be a grammar. pydantic writes every tagged union as a `oneOf`.
    """

    def rewritten(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        copy = mapped(node, rewritten)
        if "oneOf" in node and "anyOf" not in node and _are_disjoint(node["oneOf"], root):
            copy = {("anyOf" if key == "oneOf" else key): value for key, value in copy.items()}
        return copy

    return rewritten(root) if any("oneOf" in node for node in nodes(root)) else root


def _are_disjoint(branches: list[Any], root: Any) -> bool:
    resolved = [_resolved(branch, root) for branch in branches]
    pairs = ((one, other) for index, one in enumerate(resolved) for other in resolved[:index])
    return all(_have_no_common_value(one, other) for one, other in pairs)


def _resolved(node: Any, root: Any) -> dict[str, Any]:
    seen: set[str] = set()
    while isinstance(node, dict) and is_pointer(node.get("$ref", "")) and node["$ref"] not in seen:
        seen.add(node["$ref"])
        node = target(root, node["$ref"])
    return node if isinstance(node, dict) else {}


def _have_no_common_value(one: dict[str, Any], other: dict[str, Any]) -> bool:
    types, other_types = _types(one), _types(other)
    if types and other_types and not types & other_types:
        return True
    if _literals(one) and _literals(other):
        return not _literals(one) & _literals(other)
    if types != {"object"} or other_types != {"object"}:
        return False
    mine, others = one.get("properties", {}), other.get("properties", {})
    tags = {*one.get("required", ())} & {*other.get("required", ())} & mine.keys() & others.keys()
    pairs = [(mine[tag], others[tag]) for tag in tags]
    return any(isinstance(a, dict) and isinstance(b, dict) and _have_no_common_value(a, b) for a, b in pairs)


def _types(node: Mapping[str, Any]) -> set[str]:
    names = node.get("type", [])
    found = {names} if isinstance(names, str) else set(names)
    return found | {"integer"} if "number" in found else found


def _literals(node: Mapping[str, Any]) -> set[str]:
    values = [node["const"]] if "const" in node else node.get("enum", [])
    return set(values) if all(isinstance(value, str) for value in values) else set()
