"""One row of logits -> one token id, as transformers' logits processors compute it, with a random state per request."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from hermes_runtime.engines.base import GenerationRequest, TokenLogprob
from hermes_runtime.engines.local.decoding.constraint import Constraint
from hermes_runtime.options.generation import SamplingParams

_SEED_STRIDE = 1_000_003  # more than any context is long, so that neighboring seeds share no position's state


class VocabularyMask(LogitsProcessor):
    """Masks the columns past the tokenizer's last id: padding of the weight matrix, not tokens."""

    def __init__(self, vocabulary_size: int) -> None:
        self._size = vocabulary_size

    def __call__(  # noqa: D102 - the base class says it
        self, input_ids: torch.LongTensor, scores: torch.FloatTensor
    ) -> torch.FloatTensor:
        scores[:, self._size :] = float("-inf")
        return scores


class ConstraintMask(LogitsProcessor):
    """Masks a row by a constraint that somebody else moves forward."""

    def __init__(self, constraint: Constraint) -> None:
        self._constraint = constraint

    def __call__(  # noqa: D102 - the base class says it
        self, input_ids: torch.LongTensor, scores: torch.FloatTensor
    ) -> torch.FloatTensor:
        self._constraint.mask(scores[0])
        return scores


class LogprobRecorder(LogitsProcessor):
    """Keeps the model's own log-probabilities of the current step, before any option changes them."""

    def __init__(self) -> None:
        self._row: torch.Tensor | None = None

    def __call__(  # noqa: D102 - the base class says it
        self, input_ids: torch.LongTensor, scores: torch.FloatTensor
    ) -> torch.FloatTensor:
        self._row = scores[0].float().log_softmax(-1)
        return scores

    def record(self, token_id: int, alternatives: int, decode: Callable[[list[int]], str]) -> TokenLogprob:
        """Return the log-probability of the chosen token and of the best `alternatives`."""
        if self._row is None:
            raise RuntimeError("no step was recorded")
        values, ids = self._row.topk(alternatives)
        top = tuple(
            TokenLogprob(other, decode([other]), value)
            for other, value in zip(ids.tolist(), values.tolist(), strict=True)
        )
        return TokenLogprob(token_id, decode([token_id]), float(self._row[token_id]), top)


class SeededDraw(LogitsProcessor):
    """Draws the token itself and leaves it as the only candidate, so that the random state belongs to the request.

    Every position has a random state of its own, so that a draw does not depend on how many were made before it: tokens
    that need no draw may be skipped.
    """

    def __init__(self, seed: int | None) -> None:
        self._generator = torch.Generator()
        self._seed = self._generator.seed() if seed is None else seed

    def __call__(  # noqa: D102 - the base class says it
        self, input_ids: torch.LongTensor, scores: torch.FloatTensor
    ) -> torch.FloatTensor:
        self._generator.manual_seed((self._seed * _SEED_STRIDE + input_ids.shape[1]) % 2**63)
        drawn = torch.multinomial(scores[0].float().softmax(-1).cpu(), 1, generator=self._generator)
        only = torch.full_like(scores, float("-inf"))
        only[0, drawn] = 0.0
        return cast("torch.FloatTensor", only)


def takes_best(request: GenerationRequest, defaults: SamplingParams) -> bool:
    """Whether the best-scored token that may come next is always the one to take, and nothing else of it is asked."""
    params = request.options.sampling.with_defaults(defaults)
    return not params.temperature and params.repetition_penalty in (None, 1.0) and request.options.logprobs is None


def sampling_processors(
    request: GenerationRequest,
    defaults: SamplingParams,
    constraint: LogitsProcessor | None,
    recorder: LogprobRecorder | None,
    vocabulary_size: int,
) -> LogitsProcessorList:
    """Return the processors after which the best-scored token is the one to take.

    Args:
        request: What is asked for; its `stop_ids` are all that end it.
        defaults: The checkpoint's sampling options.
        constraint: Masks what the grammar forbids.
        recorder: Keeps log-probabilities.
        vocabulary_size: Ids from here on are never sampled.
    """
    params = request.options.sampling.with_defaults(defaults)
    chain = LogitsProcessorList([VocabularyMask(vocabulary_size)])
    if recorder is not None:
        chain.append(recorder)
    if params.repetition_penalty not in (None, 1.0):
        chain.append(RepetitionPenaltyLogitsProcessor(float(params.repetition_penalty)))
    if constraint is not None:
        chain.append(constraint)
    if not params.temperature:
        return chain
    chain.append(TemperatureLogitsWarper(float(params.temperature)))
    if params.top_k:
        chain.append(TopKLogitsWarper(int(params.top_k)))
    if params.top_p is not None and params.top_p < 1:
        chain.append(TopPLogitsWarper(float(params.top_p)))
    if params.min_p:
        chain.append(MinPLogitsWarper(float(params.min_p)))
    chain.append(SeededDraw(request.options.seed))
    return chain
