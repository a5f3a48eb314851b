"""How families of models are told of tools and write calls: a family is a file here, a dialect an object."""

from collections.abc import Mapping

from hermes_runtime.dialects.base import CallShape, Dialect
from hermes_runtime.dialects.hermes2pro import HERMES_2_PRO
from hermes_runtime.errors import InvalidRequestError

__all__ = ["DIALECTS", "CallShape", "Dialect", "resolve_dialect"]

_FAMILIES: tuple[tuple[Dialect, ...], ...] = (HERMES_2_PRO,)
"""What each family's file offers."""

DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for family in _FAMILIES for dialect in family}
"""All of them by name."""


def resolve_dialect(dialect: str | Dialect) -> Dialect:
    """Return the dialect of that name, or the given one.

    Raises:
        InvalidRequestError: No dialect has that name.
    """
    if isinstance(dialect, Dialect):
        return dialect
    if dialect not in DIALECTS:
        raise InvalidRequestError(f"unknown dialect {dialect!r}; choose one of {', '.join(DIALECTS)}")
    return DIALECTS[dialect]
