"""Which parts of a schema a finite value can satisfy; a grammar would follow the others without end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from hermes_runtime.schema.keywords import is_pointer, mapped, nodes, subschemas, target


def without_endless_branches(root: Any) -> Any:
    """Copy a modern schema, with `false` for every subschema that no finite value satisfies; None if the root is one.

    The least fixed point of "this subschema has a finite value" leaves out a list that must contain itself, which a
    grammar would follow without end.
    """
    unknown = list(nodes(root))
    waiting: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for node in unknown:
        for part in _parts(node, root):
            waiting[id(part)].append(node)
    finite: set[int] = set()

    def has_value(node: Any) -> bool:
        return id(node) in finite if isinstance(node, dict) else node is not False

    while unknown:
        found = [node for node in unknown if _has_value(node, root, has_value)]
        finite.update(map(id, found))
        # Only what waited for one of these can follow.
        following = {id(node): node for part in found for node in waiting[id(part)]}
        unknown = [node for key, node in following.items() if key not in finite]

    def pruned(node: Any) -> Any:
        if not has_value(node):
            return False
        return mapped(node, pruned) if isinstance(node, dict) else node

    return pruned(root) if has_value(root) else None


def _parts(node: dict[str, Any], root: Any) -> list[Any]:
    parts = [child for _, child in subschemas(node)]
    return [*parts, target(root, node["$ref"])] if is_pointer(node.get("$ref", "")) else parts


def _has_value(node: dict[str, Any], root: Any, known: Callable[[Any], bool]) -> bool:
    parts = [*node.get("allOf", ())]
    if is_pointer(node.get("$ref", "")):
        parts.append(target(root, node["$ref"]))
    choices = [node[key] for key in ("anyOf", "oneOf") if key in node]
    if not (all(map(known, parts)) and all(any(map(known, choice)) for choice in choices)):
        return False
    if "type" not in node or "const" in node or "enum" in node:
        return True
    types = [node["type"]] if isinstance(node["type"], str) else node["type"]
    return any(_type_has_value(name, node, known) for name in types)


def _type_has_value(name: str, node: dict[str, Any], known: Callable[[Any], bool]) -> bool:
    if name == "object":
        properties = node.get("properties", {})
        return all(known(properties.get(required, True)) for required in node.get("required", ()))
    if name == "array":
        least, first = node.get("minItems", 0), node.get("prefixItems", [])
        return all(map(known, first[:least])) and (least <= len(first) or known(node.get("items", True)))
    return True
