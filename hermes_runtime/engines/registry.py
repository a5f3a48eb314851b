"""One engine per process and set of options, whoever asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from hermes_runtime.engines.base import Engine
from hermes_runtime.errors import InvalidRequestError


def _local(model: str, *, context_window: int | None = None, **options: Any) -> Engine:
    # Imported on first use: torch takes seconds that `import langchain_hermes` must not cost.
    from hermes_runtime.engines.local.engine import LocalEngine  # noqa: PLC0415
    from hermes_runtime.engines.local.loader import load_checkpoint  # noqa: PLC0415

    return LocalEngine(load_checkpoint(model, **options), context_window=context_window)


_OPTIONS = frozenset({"device", "kernel", "context_window"})
_FACTORIES: dict[str, Callable[..., Engine]] = {"local": _local}
_ENGINES: dict[tuple[Any, ...], Engine] = {}
_LOCKS: dict[tuple[Any, ...], threading.Lock] = {}
_REGISTRY_LOCK = threading.Lock()


def load_engine(model: str, *, engine: str = "local", **options: Any) -> Engine:
    """Return the engine of a model, loading its weights on the first call.

    Later calls with the same arguments return the same engine, from any thread and either framework.

    Args:
        model: A hub id, a local folder, or `"tiny-hermes"`, the embedded checkpoint.
        engine: `"local"`.
        **options: For `local`: `device`, `kernel`, `context_window`; None means the engine's choice.

    Raises:
        InvalidRequestError: An unknown engine, kernel, device or option.
        ModelNotFoundError: Neither a folder nor a reachable hub id.
        CheckpointError: The checkpoint cannot be read.
        DeviceMemoryError: The weights do not fit.
    """
    key = _key(model, engine, options)
    with _REGISTRY_LOCK:
        lock = _LOCKS.setdefault(key, threading.Lock())
    with lock:
        loaded = _ENGINES.get(key)
        if loaded is None or loaded.is_closed:
            given = {name: value for name, value in options.items() if value is not None}
            loaded = _ENGINES[key] = _FACTORIES[engine](model, **given)
        return loaded


def loaded_engine(model: str, *, engine: str = "local", **options: Any) -> Engine | None:
    """Return what `load_engine` would return at once, or None where it would have to load; never waits.

    Raises:
        InvalidRequestError: An unknown engine.
    """
    loaded = _ENGINES.get(_key(model, engine, options))
    return None if loaded is None or loaded.is_closed else loaded


def _key(model: str, engine: str, options: dict[str, Any]) -> tuple[Any, ...]:
    if not isinstance(model, str) or not model:
        raise InvalidRequestError(f"model must be a hub id, a folder or 'tiny-hermes', got {model!r}")
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise InvalidRequestError(f"unknown option {unknown[0]!r}; the options are {', '.join(sorted(_OPTIONS))}")
    if engine not in _FACTORIES:
        raise InvalidRequestError(f"unknown engine {engine!r}; choose one of {', '.join(_FACTORIES)}")
    return (engine, model, *sorted((name, value) for name, value in options.items() if value is not None))
