"""What an engine is: token ids in, a stream of token deltas out. It knows nothing of prompts, tools or parsing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from hermes_runtime.errors import ContextWindowExceededError, InvalidRequestError
from hermes_runtime.options.generation import GenerationOptions, takes_flat_options

FinishReason = Literal["stop", "length", "cancelled"]
GrammarLanguage = Literal["lark", "gbnf"]


@takes_flat_options
@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One completion to generate.

    Attributes:
        prompt_ids: The whole prompt, BOS included.
        options: Sampling and limits.
        constraint: A grammar that the completion must match, in the engine's language, or None.
        stop_ids: Token ids that end the completion, beside the checkpoint's own end-of-turn id.
    """

    prompt_ids: tuple[int, ...]
    options: GenerationOptions = field(default_factory=GenerationOptions)
    constraint: str | None = None
    stop_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.prompt_ids:
            raise InvalidRequestError("the prompt is empty")


def most_tokens(request: GenerationRequest, context_window: int, tokenizer: Any) -> int:
    """Return how many tokens a request's completion may have.

    Raises:
        ContextWindowExceededError: The prompt leaves room for none.
        InvalidRequestError: It leaves less room than the completion must have, or a bias is of no token.
    """
    room = context_window - len(request.prompt_ids)
    if room <= 0:
        raise ContextWindowExceededError(len(request.prompt_ids), context_window)
    if (least := request.options.min_tokens) is not None and least > room:
        raise InvalidRequestError(f"min_tokens={least} is more than the {room} tokens that the prompt leaves room for")
    if biases := request.options.sampling.logit_bias:
        vocabulary_size = len(tokenizer)
        if unknown := [token for token in biases if token >= vocabulary_size]:
            raise InvalidRequestError(f"logit_bias has {unknown[0]}, and token ids are below {vocabulary_size}")
    return min(request.options.max_tokens or room, room)


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Log-probability of one token; `top` holds the alternatives, best first."""

    id: int
    text: str
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenDelta:
    """What is new since the last delta.

    Attributes:
        ids: New token ids, the stop id included.
        text: New text. Characters whose bytes are not complete yet, and text that may begin a stop string, are held
            back.
        logprobs: One per id where asked for, else None.
        finish_reason: Set on the last delta only.
    """

    ids: tuple[int, ...]
    text: str
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one generation; `cached_tokens` of the prompt were not computed again."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        """Add the counts of two generations."""
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


class Generation(Protocol):
    """A running completion: iterate it from a thread or from an event loop, once.

    Closing or dropping the iterator, or cancelling the task that iterates it, stops the computation.
    """

    def __iter__(self) -> Iterator[TokenDelta]: ...

    def __aiter__(self) -> AsyncIterator[TokenDelta]: ...

    def cancel(self) -> None:
        """Stop within one token, from any thread; the stream then ends with finish_reason `cancelled`."""

    @property
    def usage(self) -> Usage | None:
        """Token counts, once the stream has ended."""


@runtime_checkable
class Engine(Protocol):
    """Whatever turns token ids into token deltas.

    Attributes:
        tokenizer: The checkpoint's own tokenizer (`transformers`).
        model_name: What the user called the model.
        context_window: Prompt and completion together, in tokens.
    """

    tokenizer: Any
    model_name: str
    context_window: int

    @property
    def grammar_language(self) -> GrammarLanguage | None:
        """What a request's grammar is written in: llguidance's Lark, or GBNF.

        None where it takes none; a request that has one is then refused.
        """

    @property
    def grammar_tokens(self) -> frozenset[str]:
        """The tokens of text that can be sampled only where a grammar names them; none where spelling them will do."""

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""

    def submit(self, request: GenerationRequest) -> Generation:
        """Queue a request.

        Raises:
            ContextWindowExceededError: The prompt does not fit; nothing was computed.
            InvalidRequestError: An option cannot be honoured.
        """
        ...

    def close(self) -> None:
        """Stop the engine and release its memory; safe to call twice."""
