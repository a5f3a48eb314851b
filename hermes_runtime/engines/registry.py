"""One engine per process and set of options, whoever asks for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hermes_runtime.engines.base import Engine
from hermes_runtime.errors import InvalidRequestError

if TYPE_CHECKING:
    from hermes_runtime.weights.loader import LoadedCheckpoint


def _local(
    model: str, *, context_window: int | None = None, engine_options: Mapping[str, Any] | None = None, **options: Any
) -> Engine:
    # Imported on first use: torch takes seconds that `import langchain_hermes` must not cost.
    from hermes_runtime.engines.local.batch.limits import EngineLimits  # noqa: PLC0415
    from hermes_runtime.engines.local.engine import LocalEngine  # noqa: PLC0415

    limits = EngineLimits(**(engine_options or {}))
    return LocalEngine(_loaded(model, **options), context_window=context_window, limits=limits)


def _generate(model: str, *, context_window: int | None = None, **options: Any) -> Engine:
    from hermes_runtime.engines.local.generate import GenerateEngine  # noqa: PLC0415 - as above

    return GenerateEngine(_loaded(model, **options), context_window=context_window)


def _loaded(model: str, **options: Any) -> LoadedCheckpoint:
    from hermes_runtime.engines.local.process import refuse_forked_torch  # noqa: PLC0415 - as above
    from hermes_runtime.weights.loader import load_checkpoint  # noqa: PLC0415

    refuse_forked_torch()
    return load_checkpoint(model, **options)


def _server(model: str, *, engine_options: Mapping[str, Any] | None = None, **options: Any) -> Engine:
    from hermes_runtime.engines.server.engine import ServerEngine  # noqa: PLC0415 - as above

    return ServerEngine(model, **options, **(engine_options or {}))


def _vllm(model: str, *, engine_options: Mapping[str, Any] | None = None, **options: Any) -> Engine:
    from hermes_runtime.engines.vllm import VLLMEngine  # noqa: PLC0415 - as above

    return VLLMEngine(model, engine_options=engine_options or {}, **options)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of engine: what makes one, which options that takes, and which `engine_options` beside them."""

    make: Callable[..., Engine]
    options: frozenset[str]
    engine_options: frozenset[str] | None = frozenset()  # None: whatever the engine's own library knows
    of_loading: frozenset[str] = frozenset()  # about making it, once; they tell no engine from another


_LOCAL_OPTIONS = frozenset({"device", "kernel", "context_window"})
_LIMITS = frozenset({"slots", "waiting", "chunk", "patience", "draft", "graphs"})
_SERVER_OPTIONS = frozenset({"served_model", "headers", "extra_body", "connect_timeout", "idle_timeout", "retry_delay"})
_KINDS = {
    "local": _Kind(_local, _LOCAL_OPTIONS, engine_options=_LIMITS),
    "generate": _Kind(_generate, _LOCAL_OPTIONS),
    "vllm": _Kind(_vllm, frozenset({"context_window"}), engine_options=None),
    "server": _Kind(
        _server,
        frozenset({"base_url", "api_key", "context_window"}),
        engine_options=_SERVER_OPTIONS,
        of_loading=frozenset({"max_retries"}),
    ),
}
_OPTIONS = frozenset({"engine_options"}).union(*(kind.options | kind.of_loading for kind in _KINDS.values()))
_ENGINES: dict[tuple[Any, ...], Engine] = {}
_LOCKS: dict[tuple[Any, ...], threading.Lock] = {}
_REGISTRY_LOCK = threading.Lock()


def load_engine(model: str, *, engine: str = "local", **options: Any) -> Engine:
    """Return the engine of a model, loading its weights on the first call.

    Later calls with the same arguments return the same engine, from any thread and either framework.

    Args:
        model: A hub id, a local folder, or `"tiny-hermes"`, the embedded checkpoint.
        engine: `"local"`; `"generate"`, transformers' own loop, one request at a time; `"vllm"`, which is vLLM in this
            process; or `"server"`, which a `base_url` chooses by itself.
        **options: None means the engine's choice. `context_window` is for every engine; `device` and `kernel` are for
            `local` and `generate`; `base_url` and `api_key` for `server`; `engine_options`, a dict, holds the fields of
            `EngineLimits` for `local`, and what `ServerEngine` or vLLM's `AsyncEngineArgs` take beside these.
            `max_retries`, for `server` too, is how often a server that is busy or gone is tried again while its engine
            is made; it makes no other engine, and requests have one of their own, see `TurnRequest`.

    Raises:
        InvalidRequestError: An unknown engine, kernel, device or option.
        ModelNotFoundError: Neither a folder nor a reachable hub id.
        CheckpointError: The checkpoint cannot be read.
        DeviceMemoryError: The weights do not fit.
        EngineError: The kernel is not available here, or this is a forked child in which torch cannot compute.
    """
    key = _key(model, engine, options)
    with _REGISTRY_LOCK:
        lock = _LOCKS.setdefault(key, threading.Lock())
    with lock:
        loaded = _ENGINES.get(key)
        if loaded is None or loaded.is_closed:
            given = {name: value for name, value in options.items() if value is not None}
            loaded = _ENGINES[key] = _KINDS[key[0]].make(model, **given)
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
    given = {name: value for name, value in options.items() if value is not None}
    kind = "server" if engine == "local" and "base_url" in given else engine
    if kind not in _KINDS:
        raise InvalidRequestError(f"unknown engine {engine!r}; choose one of {', '.join(_KINDS)}")
    _check(kind, set(options), given)
    telling = given.keys() - _KINDS[kind].of_loading
    return (kind, model, *sorted((name, _hashable(given[name])) for name in telling))


def _check(kind: str, names: set[str], given: Mapping[str, Any]) -> None:
    if unknown := sorted(names - _OPTIONS):
        raise InvalidRequestError(f"unknown option {unknown[0]!r}; the options are {', '.join(sorted(_OPTIONS))}")
    takes = _KINDS[kind]
    if misplaced := sorted(set(given) - takes.options - takes.of_loading - {"engine_options"}):
        known = ", ".join(sorted(takes.options))
        raise InvalidRequestError(f"engine {kind!r} has no {misplaced[0]}, its options are {known}; leave it out")
    further = given.get("engine_options") or {}
    if not isinstance(further, Mapping):
        raise InvalidRequestError(f"engine_options must be a dict, got {type(further).__name__}")
    if takes.engine_options is not None and (unknown := sorted(set(further) - takes.engine_options)):
        known = ", ".join(sorted(takes.engine_options)) or "none"
        raise InvalidRequestError(f"engine {kind!r} knows no engine option {unknown[0]!r}; it knows {known}")
    if kind == "server" and "base_url" not in given:
        raise InvalidRequestError("engine 'server' needs a base_url such as 'http://localhost:8000/v1'")


def _hashable(value: Any) -> Any:
    return json.dumps(value, sort_keys=True, default=repr) if isinstance(value, Mapping) else value
