"""How the parts of a schema refer to each other, and which of its objects may be closed."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from hermes_runtime.schema.keywords import (
    IN_PLACE,
    MAX_SUBSCHEMAS,
    OPENING,
    UnusableSchemaError,
    is_pointer,
    mapped,
    modern,
    nodes,
    target,
    walk,
    weight,
)


def gather_definitions(root: dict[str, Any], relaxed: list[str]) -> None:
    """Put what references find under no keyword, as in OpenAPI's `components`, under `$defs` like other definitions.

    Args:
        root: A modern schema whose references lead somewhere; changed in place.
        relaxed: Gets what cannot be kept of these definitions; see `modern`.

    Raises:
        UnusableSchemaError: Such a definition is malformed.
    """
    pending = list(nodes(root))
    known = {id(node) for node in pending}
    moved: dict[str, str] = {}
    while pending:
        node = pending.pop()
        pointer = node.get("$ref", "")
        if pointer not in moved:
            found = _found_elsewhere(root, pointer, known)
            if found is None:
                continue
            definitions = root.setdefault("$defs", {})
            name = re.sub(r"[^\w.-]", "_", pointer.rpartition("/")[2])
            while name in definitions:
                name += "_"
            moved[pointer] = f"#/$defs/{name}"
            definitions[name] = copy = modern(found, relaxed, pointer[1:].replace("/", "."))
            added = [part for _, part in walk(copy)]
            known.update(map(id, added))
            pending += added
        node["$ref"] = moved[pointer]


def _found_elsewhere(root: Any, pointer: str, known: Collection[int]) -> dict[str, Any] | None:
    """Return the object that a reference finds, where that is no known subschema."""
    if not is_pointer(pointer):
        return None
    try:
        found = target(root, pointer)
    except (LookupError, TypeError, ValueError):  # of a definition that was moved; `References` says so
        return None
    return found if isinstance(found, dict) and id(found) not in known else None


class References:
    """How the parts of a modern schema refer to each other, and which of its objects are parts of a combination.

    Raises:
        UnusableSchemaError: The schema is malformed, or refers to something that is not in it.
    """

    def __init__(self, root: Any) -> None:
        self._root = root
        self._parts: set[int] = set()
        places = list(walk(root))
        if (size := sum(weight(node) for _, node in places)) > MAX_SUBSCHEMAS:
            raise UnusableSchemaError(f"as large as {size} subschemas, more than {MAX_SUBSCHEMAS}")
        names = {str(node[key]) for _, node in places for key in ("$id", "$anchor", "$dynamicAnchor") if key in node}
        for path, node in places:
            if "$ref" in node:
                self._require_local(path, node["$ref"], names)
        for _, node in places:
            if _combines(node):
                self._mark_parts(node)

    def _require_local(self, path: str, reference: str, names: set[str]) -> None:
        if reference == "#" or reference.removeprefix("#") in names:
            return
        if not reference.startswith("#"):
            if any(reference.startswith(name) for name in names):
                return
            raise UnusableSchemaError(f"$ref {reference!r} points outside the schema; put its target under $defs", path)
        try:
            target(self._root, reference)
        except (LookupError, TypeError, ValueError):
            raise UnusableSchemaError(f"$ref {reference!r} points to nothing", path) from None

    def _in_place(self, node: Mapping[str, Any]) -> list[Any]:
        """Return the subschemas that judge the same value as `node`; None for one that only an id or anchor names."""
        found: list[Any] = []
        for key in IN_PLACE:
            if key not in node:
                continue
            value = node[key]
            if key == "$ref":
                found.append(target(self._root, value) if is_pointer(value) else None)
            elif key == "dependentSchemas":
                found += value.values()
            else:
                found += value if isinstance(value, list) else [value]
        return found

    def _mark_parts(self, node: Mapping[str, Any]) -> None:
        pending = self._in_place(node)
        while pending:
            part = pending.pop()
            if isinstance(part, dict) and id(part) not in self._parts:
                self._parts.add(id(part))
                pending += self._in_place(part)

    def may_close(self, node: Mapping[str, Any]) -> bool:
        """Whether forbidding unlisted keys leaves every combination that `node` takes part in satisfiable."""
        listed = node.get("properties")
        if listed is None or node.keys() & OPENING or id(node) in self._parts:
            return False
        names = set(node.get("required", ()))
        pending, seen = self._in_place(node), {id(node)}
        while pending:
            part = pending.pop()
            if part is None or (isinstance(part, dict) and part.keys() & OPENING):
                return False
            if isinstance(part, dict) and id(part) not in seen:
                seen.add(id(part))
                names |= {*part.get("properties", ()), *part.get("required", ())}
                pending += self._in_place(part)
        least: int = node.get("minProperties", 0)
        return names <= listed.keys() and least <= len(listed)


def _combines(node: Mapping[str, Any]) -> bool:
    applicators = [key for key in IN_PLACE if key in node]
    if not applicators:
        return False
    own = node.keys() & {"properties", "required", "minProperties", "maxProperties", *OPENING}
    return bool(own) or len(applicators) > 1 or (applicators == ["allOf"] and len(node["allOf"]) > 1)


def closed(node: Any, references: References) -> Any:
    """Copy a modern schema with every object closed that lists its properties and may be."""
    if not isinstance(node, dict):
        return node
    copy = mapped(node, lambda child: closed(child, references))
    if references.may_close(node):
        copy["additionalProperties"] = False
        if not copy.keys() & {"type", "enum", "const"}:
            copy["type"] = "object"
    return copy
