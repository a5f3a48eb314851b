"""What both adapters share: prompt, parser, constraint and engines for Hermes models, without any framework."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from hermes_runtime._version import __version__ as __version__

if TYPE_CHECKING:
    from hermes_runtime._public import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Import what is named at its first use: a command must be able to answer, and to end, before all is imported."""
    if find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    public = import_module("hermes_runtime._public")
    if name == "__all__":
        return [*public.__all__, "__version__"]
    if name in public.__all__:
        return getattr(public, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
