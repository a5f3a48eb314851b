"""One row of logits -> one token id, as transformers' logits processors compute it, with a random state per request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


class LogitBias(LogitsProcessor):
    """Adds to the scores of some tokens."""

    def __init__(self, biases: Mapping[int, float]) -> None:
        self._ids = torch.tensor(list(biases), dtype=torch.long)
        self._biases = torch.tensor(list(biases.values()))

    def __call__(  # noqa: D102 - the base class says it
        self, input_ids: torch.LongTensor, scores: torch.FloatTensor
    ) -> torch.FloatTensor:
        scores[0, self._ids.to(scores.device)] += self._biases.to(scores.device, scores.dtype)
        return scores


class GeneratedPenalties(LogitsProcessor):
    """Makes rarer what was generated: by `frequency` for each time, by `presence` once.

    Args:
        frequency: Taken off a score for each time that its token was generated.
        presence: Taken off the score of every token that was.
        prompt_length: How many of the ids it will see are the prompt, which does not count.
    """

    def __init__(self, frequency: float, presence: float, *, prompt_length: int) -> None:
        self._frequency, self._presence = frequency, presence
        self._prompt_length = prompt_length

    def __call__(  # noqa: D102 - the base class says it
        self, input_ids: torch.LongTensor, scores: torch.FloatTensor
    ) -> torch.FloatTensor:
        tokens, counts = torch.unique(input_ids[0, self._prompt_length :], return_counts=True)
        scores[0, tokens] -= self._frequency * counts.to(scores.dtype) + self._presence
        return scores


class LeastLength(LogitsProcessor):
    """Masks what would end a completion before it has so many tokens, where a grammar leaves anything else.

    Args:
        min_tokens: So many.
        end_ids: Ids that end it.
        prompt_length: How many of the ids it will see are the prompt.
    """

    def __init__(self, min_tokens: int, end_ids: Sequence[int], *, prompt_length: int) -> None:
        self._end_ids = torch.tensor(end_ids, dtype=torch.long)
        self._until = prompt_length + min_tokens

    def __call__(  # noqa: D102 - the base class says it
        self, input_ids: torch.LongTensor, scores: torch.FloatTensor
    ) -> torch.FloatTensor:
        if input_ids.shape[1] >= self._until:
            return scores
        longer = cast("torch.FloatTensor", scores.clone())
        longer[0, self._end_ids.to(scores.device)] = float("-inf")
        return longer if bool((longer > float("-inf")).any()) else scores


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
    is_as_scored = not _score_changes(params, 0) and not request.options.min_tokens
    return not params.temperature and is_as_scored and request.options.logprobs is None


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
    chain += _score_changes(params, len(request.prompt_ids))
    if constraint is not None:
        chain.append(constraint)
    if least := request.options.min_tokens:
        chain.append(LeastLength(least, request.stop_ids, prompt_length=len(request.prompt_ids)))
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


def _score_changes(params: SamplingParams, prompt_length: int) -> list[LogitsProcessor]:
    """Return what changes scores token by token, in vLLM's order."""
    changes: list[LogitsProcessor] = []
    if params.logit_bias:
        changes.append(LogitBias(params.logit_bias))
    if params.repetition_penalty not in (None, 1.0):
        changes.append(RepetitionPenaltyLogitsProcessor(float(params.repetition_penalty)))
    if params.frequency_penalty or params.presence_penalty:
        frequency, presence = params.frequency_penalty or 0.0, params.presence_penalty or 0.0
        changes.append(GeneratedPenalties(frequency, presence, prompt_length=prompt_length))
    return changes
