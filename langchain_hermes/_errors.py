"""The runtime's errors as LangChain knows them: every class here is both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from langchain_core import exceptions as langchain

from hermes_runtime import errors as runtime
from hermes_runtime.options.fields import validation_errors


class HermesInvalidRequestError(runtime.InvalidRequestError, langchain.ModelInvalidRequestError):
    """An option or a message cannot be honored; the same object answers the next call."""


class HermesSchemaError(runtime.SchemaError, langchain.ModelInvalidRequestError):
    """A tool's parameters or a response schema is no usable JSON Schema."""


class HermesToolChoiceError(runtime.ToolChoiceError, langchain.ModelInvalidRequestError):
    """The tool choice names a tool that was not bound, or contradicts the tools given."""


class HermesContextOverflowError(runtime.ContextWindowExceededError, langchain.ContextOverflowError):
    """The prompt does not fit the context window; middleware that shortens conversations catches this."""


class HermesModelNotFoundError(runtime.ModelNotFoundError, langchain.ModelNotFoundError):
    """`model` names neither a local checkpoint folder nor a reachable hub repository."""


class HermesCheckpointError(runtime.CheckpointError, langchain.ModelError):
    """The checkpoint exists but cannot be read."""


class HermesDeviceMemoryError(runtime.DeviceMemoryError, langchain.ModelError):
    """The device has too little free memory; the same request would fail again."""


class HermesEngineError(runtime.EngineError, langchain.ModelAPIError):
    """The engine failed while it computed."""


class HermesTimeoutError(runtime.GenerationTimeoutError, langchain.ModelTimeoutError):
    """The answer was not finished within `timeout`; the computation was stopped."""


class HermesUnmetDemandError(runtime.UnmetDemandError, langchain.ModelError):
    """The model answered without the call, or the choice, that was demanded of it."""


_TRANSLATIONS: dict[type[runtime.HermesError], type[runtime.HermesError]] = {
    runtime.InvalidRequestError: HermesInvalidRequestError,
    runtime.SchemaError: HermesSchemaError,
    runtime.ToolChoiceError: HermesToolChoiceError,
    runtime.ContextWindowExceededError: HermesContextOverflowError,
    runtime.ModelNotFoundError: HermesModelNotFoundError,
    runtime.CheckpointError: HermesCheckpointError,
    runtime.DeviceMemoryError: HermesDeviceMemoryError,
    runtime.EngineError: HermesEngineError,
    runtime.GenerationTimeoutError: HermesTimeoutError,
    runtime.UnmetDemandError: HermesUnmetDemandError,
}


@contextmanager
def made() -> Iterator[None]:
    """Raise what keeps an object from being made as one error of this project, LangChain's twin of it."""
    with langchain_errors(), validation_errors():
        yield


@contextmanager
def langchain_errors() -> Iterator[None]:
    """Raise the runtime's errors as their LangChain twins; everything else passes through."""
    try:
        yield
    except runtime.HermesError as error:
        twin = as_langchain_error(error)
        if twin is error:
            raise
        raise twin from error


@contextmanager
def model_call() -> Iterator[None]:
    """Raise LangChain's twin of whatever goes wrong in a call of the model, be it foreseen or not."""
    with langchain_errors(), runtime.unexpected_errors():
        yield


def as_langchain_error(error: runtime.HermesError) -> runtime.HermesError:
    """Return the LangChain twin of an error: same message, same attributes; the error itself where it has none."""
    if isinstance(error, langchain.ModelError):
        return error
    twin_class = next((_TRANSLATIONS[base] for base in type(error).__mro__ if base in _TRANSLATIONS), None)
    if twin_class is None:
        return error
    if isinstance(error, runtime.ContextWindowExceededError):
        return HermesContextOverflowError(error.prompt_tokens, error.context_window)
    return twin_class(*error.args)
