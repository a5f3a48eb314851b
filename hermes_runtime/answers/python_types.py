"""Python types as pydantic reads them: what it refuses of common annotations is written in words that it knows."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typing_extensions
from pydantic import Field, PlainValidator, TypeAdapter, WithJsonSchema

_DESCRIBED = 2  # a default and a description, behind the type


def adapter_of(kind: Any) -> TypeAdapter[Any]:
    """Return pydantic's adapter of a type.

    Beside what pydantic takes by itself: `typing.TypedDict` in every Python, fields of a TypedDict that are annotated
    as LangChain does it (`Annotated[int, default, "description"]`, `...` for no default), and classes of pydantic 1.

    Args:
        kind: A class, or a form of `typing` such as `list[int]`, `A | B` or `Literal["a"]`.

    Raises:
        Exception: The value is no type, or pydantic knows no schema for it. What is raised is up to the type's own
            code.
    """
    if not is_type(kind):
        raise TypeError("it is no type")
    return TypeAdapter(_Rewriter().rewritten(kind))


def is_type(kind: Any) -> bool:
    """Whether a value is a class or a form of `typing`; a type's instance, its name or a type variable is none."""
    if isinstance(kind, type) or get_origin(kind) is not None or typing_extensions.is_typeddict(kind):
        return True
    return hasattr(kind, "__supertype__") or isinstance(kind, typing_extensions.TypeAliasType)


class _Rewriter:
    def __init__(self) -> None:
        self._made: dict[type, Any] = {}

    def rewritten(self, kind: Any) -> Any:
        if typing_extensions.is_typeddict(kind):
            return self._typed_dict(kind)
        if isinstance(kind, type) and (described := _pydantic_1(kind)):
            schema, read = described
            return Annotated[Any, PlainValidator(read), WithJsonSchema(schema)]
        return self._form(kind, get_origin(kind), get_args(kind))

    def _form(self, kind: Any, origin: Any, arguments: tuple[Any, ...]) -> Any:
        if origin is Literal:
            return kind
        changed = tuple(map(self.rewritten, arguments[:1] if origin is Annotated else arguments))
        if all(new is old for new, old in zip(changed, arguments, strict=False)):
            return kind
        if origin is Annotated:
            return Annotated[(*changed, *arguments[1:])]
        if origin is types.UnionType:
            return Union[changed]  # noqa: UP007 - made of a tuple
        return origin[changed[0] if len(changed) == 1 else changed]

    def _typed_dict(self, kind: Any) -> Any:
        if kind not in self._made:
            make: Any = typing_extensions.TypedDict  # in the form of a call
            self._made[kind] = made = make(kind.__name__, {})  # before its fields are read: they may name it
            hints = get_type_hints(kind, include_extras=True)
            made.__annotations__ = {name: self._field(hint) for name, hint in hints.items()}
            for name in ("__required_keys__", "__optional_keys__", "__total__", "__doc__", "__module__"):
                setattr(made, name, getattr(kind, name))
            if config := getattr(kind, "__pydantic_config__", None):
                made.__pydantic_config__ = config
        return self._made[kind]

    def _field(self, hint: Any) -> Any:
        inner, *told = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        if len(told) < _DESCRIBED or not isinstance(told[1], str):
            return self.rewritten(hint)
        default, description = told[:2]
        if default is ...:
            return Annotated[self.rewritten(inner), Field(description=description)]
        shown = Field(description=description, json_schema_extra={"default": default})
        return typing_extensions.NotRequired[Annotated[self.rewritten(inner), shown]]


def _pydantic_1(kind: type) -> tuple[dict[str, Any], Callable[[Any], Any]] | None:
    """Return the schema and the reader of a class of pydantic 1; None for others."""
    if not (hasattr(kind, "__get_validators__") and hasattr(kind, "parse_obj")) or hasattr(kind, "model_fields"):
        return None
    return kind.schema(), kind.parse_obj  # type: ignore[attr-defined]
