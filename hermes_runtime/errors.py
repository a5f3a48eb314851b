"""Typed errors. Every one says what was wrong, with the value, and what to do about it.

None of those that leave a model call is a ValueError, TypeError or KeyError. Frameworks take these for text that could
not be parsed: they go on without a word, and a request that failed looks like an empty answer. Nor is one a
RuntimeError, which LlamaIndex takes for an event loop that runs already, and replaces by advice about that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self


class HermesError(Exception):
    """Root of every error this project raises on purpose."""


class InvalidRequestError(HermesError):
    """An option or a message cannot be honoured: nothing was computed, the same object answers the next call."""


class SchemaError(InvalidRequestError):
    """A tool's parameters or a response schema is no usable JSON Schema."""


class ToolChoiceError(InvalidRequestError):
    """The tool choice names a tool that was not bound, or contradicts the tools given."""


class ContextWindowExceededError(InvalidRequestError):
    """The prompt, or the prompt and the tokens asked for, do not fit the context window.

    Attributes:
        prompt_tokens: Length of the rendered prompt in tokens.
        context_window: The engine's limit in tokens.
    """

    def __init__(self, prompt_tokens: int, context_window: int) -> None:
        self.prompt_tokens = prompt_tokens
        self.context_window = context_window
        super().__init__(
            f"the prompt has {prompt_tokens} tokens and the context window holds {context_window}, which must also "
            "leave room for the answer; shorten the conversation or its tool descriptions, or raise context_window "
            "if the checkpoint allows it"
        )

    def __reduce__(self) -> tuple[type[Self], tuple[int, int]]:
        """Pickle by the numbers; exceptions are otherwise made anew from their message."""
        return type(self), (self.prompt_tokens, self.context_window)


class ModelNotFoundError(HermesError, OSError):
    """`model` names no checkpoint folder and no reachable hub repository, or its files cannot be fetched."""


class CheckpointError(HermesError):
    """The checkpoint exists but cannot be read: a truncated shard, a missing tensor, a wrong quantisation."""


class DeviceMemoryError(HermesError, MemoryError):
    """The device has too little free memory for the weights or for the step that was tried."""


class EngineError(HermesError):
    """The engine failed while it computed, or a kernel it was asked for is not available here.

    Attributes:
        retry_after: Seconds that a server asked to wait before the next try; None where nobody did.
    """

    retry_after: float | None = None


class GenerationTimeoutError(EngineError, TimeoutError):
    """The answer was not finished within the timeout; the computation was stopped."""


class UnmetDemandError(HermesError):
    """The model answered, and not as was demanded: no grammar kept it to it, and all repairs are used up.

    The engine did not fail, so nothing is run again because of it.
    """


@contextmanager
def unexpected_errors() -> Iterator[None]:
    """Turn what nobody foresaw in a model call into an error that no framework takes for something else.

    Raises:
        EngineError: In place of a ValueError, TypeError, LookupError or RuntimeError, which is its cause.
    """
    try:
        yield
    except HermesError:
        raise
    except (ValueError, TypeError, LookupError, RuntimeError) as error:
        raise EngineError(f"the call failed with an unexpected {type(error).__name__}: {error}") from error


def chained(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from or during: C extensions make others of an interrupted import."""
    seen: set[int] = set()  # a library may have tied a loop
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        yield link
        seen.add(id(link))
        link = link.__cause__ or link.__context__
