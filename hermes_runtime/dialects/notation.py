"""Values in the notations that prompts are written in: JSON, and Python literals."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hermes_runtime.errors import SchemaError
from hermes_runtime.literals.escapes import well_formed
from hermes_runtime.tags import Tag


def literal(value: Any, *, python: bool = False, foreign: Callable[[Any], str] | None = None) -> str:
    """Write a value.

    Args:
        value: What JSON can say, in any mappings and sequences.
        python: As a Python literal, else as JSON.
        foreign: Makes text of what has no JSON form; without it, that is an error.

    Raises:
        SchemaError: Something in it has no JSON form.
    """
    try:
        plain = _plain(value, foreign)
        return repr(plain) if python else json.dumps(plain, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise SchemaError(f"not a JSON value: {error}") from error


def without_closing(text: str, tag: Tag) -> str:
    r"""Write a JSON text so that it cannot close the tag around it: inside a string `\/` means `/`."""
    return text.replace(tag.closing, tag.closing.replace("/", "\\/"))


def _plain(value: Any, foreign: Callable[[Any], str] | None) -> Any:
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, Mapping):
        return {well_formed(str(key)): _plain(item, foreign) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_plain(item, foreign) for item in value]
    if foreign is not None:
        return well_formed(foreign(value))
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")
