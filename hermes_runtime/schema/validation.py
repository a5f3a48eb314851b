"""Checks tool arguments and JSON answers against JSON Schema (draft 2020-12 unless `$schema` says otherwise)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from jsonschema import Draft7Validator, Draft202012Validator
from jsonschema import SchemaError as JsonSchemaError
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry, Specification
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, Schema, specification_with

from hermes_runtime.errors import SchemaError
from hermes_runtime.problems import Keyword, Problem

_MAX_DETAIL = 300
_MAX_PROBLEMS = 20


def check_schema(schema: Any, *, where: str) -> None:
    """Refuse what is no usable JSON Schema, before anything is computed with it.

    Args:
        schema: The schema.
        where: What the schema belongs to, for the message: "tool 'get_tide'".

    Raises:
        SchemaError: The schema is no JSON value or no JSON Schema, or a `$ref` in it leads nowhere. References to other
            documents are never fetched, so they lead nowhere too.
    """
    try:
        _validator_of(schema)
    except SchemaError as error:
        raise SchemaError(f"{where}: {error}") from None


def value_problems(value: Any, schema: Any) -> tuple[Problem, ...]:
    """Say what a value breaks in a schema.

    Returns:
        The problems, empty where the value is right: the reason of each is the schema keyword that failed, the path is
        a JSON path into the value.

    Raises:
        SchemaError: The schema is unusable; see `check_schema`.
    """
    validator = _validator_of(schema)
    found: list[Problem] = []
    try:
        for error in validator.iter_errors(value):
            # A schema that is just `false` has no keyword: its reason is the word None.
            found.append(Problem(Keyword(str(error.validator)), _shorten(error.message), error.json_path))
            if len(found) == _MAX_PROBLEMS:
                break
    except RecursionError:
        found.append(Problem("depth", "the value is nested too deeply to be checked", "$"))
    except Unresolvable as error:
        found.append(Problem(Keyword("$ref"), _shorten(str(error)), "$"))
    return tuple(found)


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_DETAIL else f"{text[: _MAX_DETAIL - 1]}…"


def _validator_of(schema: Any) -> Validator:
    if not isinstance(schema, bool | Mapping):
        raise SchemaError(f"a JSON Schema is an object or a boolean, got {type(schema).__name__}")
    try:
        return _validator(json.dumps(schema if isinstance(schema, bool) else dict(schema)))
    except (TypeError, ValueError, RecursionError) as error:
        raise SchemaError(f"the schema is no JSON value: {_shorten(str(error))}") from None


@lru_cache(maxsize=512)
def _validator(text: str) -> Validator:
    schema = _with_dialect(json.loads(text))
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except JsonSchemaError as error:
        raise SchemaError(f"no JSON Schema: {error.json_path}: {_shorten(error.message)}") from None
    except RecursionError:
        raise SchemaError("the schema is nested too deeply") from None
    _check_references(schema)
    # Without a registry of its own the validator would fetch documents that it does not know.
    validator = kind(schema, registry=Registry())
    try:
        validator.is_valid({})
    except RecursionError:
        raise SchemaError("a $ref in the schema leads back to itself") from None
    return validator


def _with_dialect(schema: Any) -> Any:
    """Label a schema of draft 7 that has no label and is none of draft 2020-12, as tuples under `items` make it."""
    if not isinstance(schema, dict) or "$schema" in schema:
        return schema
    labeled = {"$schema": Draft7Validator.META_SCHEMA["$schema"], **schema}
    for kind, candidate in ((Draft202012Validator, schema), (Draft7Validator, labeled)):
        with suppress(JsonSchemaError, RecursionError):
            kind.check_schema(candidate)
            return candidate
    return schema


def _check_references(schema: Schema) -> None:
    stated = schema.get("$schema", "") if isinstance(schema, Mapping) else ""
    specification: Specification[Schema] = specification_with(stated, default=DRAFT202012)
    root = specification.create_resource(schema)
    uri = root.id() or ""
    waiting = [(root, Registry().with_resource(uri, root).resolver(uri))]
    seen: set[int] = set()
    while waiting:
        resource, resolver = waiting.pop()
        contents = resource.contents
        if id(contents) in seen or not isinstance(contents, dict):
            continue
        seen.add(id(contents))
        for keyword in ("$ref", "$dynamicRef"):
            if keyword in contents:
                try:
                    target = resolver.lookup(contents[keyword])
                except Unresolvable:
                    raise SchemaError(
                        f"{keyword} {contents[keyword]!r} leads nowhere inside the schema; "
                        "definitions belong under $defs, other documents are not fetched"
                    ) from None
                waiting.append((specification.create_resource(target.contents), target.resolver))
        waiting.extend((sub, resolver.in_subresource(sub)) for sub in resource.subresources())
