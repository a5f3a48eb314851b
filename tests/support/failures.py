"""Everything that can go wrong in a call of a model, and the kinds of errors that frameworks misread."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from pydantic import BaseModel, ValidationError

from hermes_runtime import errors

# What frameworks take for text of the model that did not parse; a pydantic ValidationError is a ValueError. And what
# LlamaIndex takes for an event loop that runs already.
MISREAD = (ValueError, TypeError, LookupError, RuntimeError)


class _Number(BaseModel):
    value: int


def _validation_error() -> ValidationError:
    try:
        _Number.model_validate({"value": "much"})
    except ValidationError as error:
        return error
    raise AssertionError("a word is no integer")


FORESEEN: dict[str, Callable[[], Exception]] = {
    "InvalidRequestError": lambda: errors.InvalidRequestError("temperature must be at least 0, got -1"),
    "SchemaError": lambda: errors.SchemaError("tool 'add': the schema is broken"),
    "ToolChoiceError": lambda: errors.ToolChoiceError("tool_choice names 'sub', but the tools are ['add']"),
    "ContextWindowExceededError": lambda: errors.ContextWindowExceededError(9000, 8192),
    "ModelNotFoundError": lambda: errors.ModelNotFoundError("'nobody/nothing' is neither a folder nor a repository"),
    "CheckpointError": lambda: errors.CheckpointError("model.safetensors is cut off"),
    "DeviceMemoryError": lambda: errors.DeviceMemoryError("the weights need 5 GB, and 1 GB is free"),
    "UnmetDemandError": lambda: errors.UnmetDemandError("the model was asked in vain: Call a function now."),
    "EngineError": lambda: errors.EngineError("the kernel failed"),
    "GenerationTimeoutError": lambda: errors.GenerationTimeoutError("no complete answer within 1 seconds"),
}
UNFORESEEN: dict[str, Callable[[], Exception]] = {
    "ValueError": lambda: ValueError("a shape does not fit"),
    "TypeError": lambda: TypeError("None is no tensor"),
    "KeyError": lambda: KeyError("lm_head"),
    "IndexError": lambda: IndexError("no such row"),
    "ValidationError": _validation_error,
    "RuntimeError": lambda: RuntimeError("the device was lost"),
}
FAILURES = FORESEEN | UNFORESEEN


def failing(name: str) -> Callable[[str], NoReturn]:
    """Return replies for a `ScriptedEngine` whose every request fails."""

    def reply(_: str) -> NoReturn:
        error = FAILURES[name]()
        raise error

    return reply
