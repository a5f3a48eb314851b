"""One request while it runs: its tokens, what of them is in the cache, and how far its text has been shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

import torch

from hermes_runtime.engines.base import FinishReason, GenerationRequest, TokenDelta, TokenLogprob, Usage
from hermes_runtime.engines.local.batch.drafts import Drafter
from hermes_runtime.engines.local.cache.pool import Placement, Slot
from hermes_runtime.engines.local.decoding.constraint import Constraint
from hermes_runtime.engines.local.decoding.sampler import (
    ConstraintMask,
    LogprobRecorder,
    sampling_processors,
    takes_best,
)
from hermes_runtime.engines.streams.channel import DeltaChannel
from hermes_runtime.engines.streams.detokenizer import Detokenizer, StopScanner
from hermes_runtime.errors import GenerationTimeoutError
from hermes_runtime.options.generation import SamplingParams


class Sequence:
    """A request and its state.

    Args:
        request: What to generate; its `stop_ids` are all that end it.
        constraint: A fresh grammar state, or None.
        channel: Where deltas go.
        defaults: The checkpoint's sampling options.
        limit: Upper bound on tokens in all.
        vocabulary_size: Ids from here on are never sampled.
        decode: Ids to text, control tokens included.
        longest_draft: Upper bound on drafted tokens per pass; 0 drafts nothing.
    """

    def __init__(
        self,
        request: GenerationRequest,
        constraint: Constraint | None,
        channel: DeltaChannel,
        *,
        defaults: SamplingParams,
        limit: int,
        vocabulary_size: int,
        decode: Callable[[list[int]], str],
        longest_draft: int,
    ) -> None:
        self.request = request
        self.channel = channel
        self.ids = list(request.prompt_ids)
        self.draft: list[int] = []
        self.placement: Placement | None = None
        self.cached = 0
        self.reused = 0
        self.finish_reason: FinishReason | None = None
        self.takes_best = takes_best(request, defaults)
        self._certain = 0
        self._constraint = constraint
        self._drafter = Drafter(constraint, longest_draft)
        self._deadline = time.monotonic() + request.options.timeout if request.options.timeout else float("inf")
        self._limit = limit
        self._stop_ids = frozenset(request.stop_ids)
        self._decode = decode
        self._detokenizer = Detokenizer(decode)
        self._scanner = StopScanner(request.options)
        self._recorder = None if request.options.logprobs is None else LogprobRecorder()
        self._processors = sampling_processors(
            request,
            defaults,
            None if constraint is None else ConstraintMask(constraint),
            self._recorder,
            vocabulary_size,
        )
        self._seen: torch.Tensor | None = None  # the ids as the processors read them, once they do

    @property
    def slot(self) -> Slot:
        """Where a running one is."""
        assert self.placement is not None
        return self.placement.slot

    @property
    def pending(self) -> int:
        """Tokens that are not in the cache yet, the draft not counted."""
        return len(self.ids) - self.cached

    @property
    def is_cancelled(self) -> bool:
        """Whether the reader asked to stop."""
        return self.channel.is_cancelled

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for the result."""
        return not self.is_cancelled and time.monotonic() <= self._deadline

    def check_deadline(self) -> None:
        """Raise once time is up.

        Raises:
            GenerationTimeoutError: It is.
        """
        if time.monotonic() > self._deadline:
            raise GenerationTimeoutError(f"no complete answer within {self.request.options.timeout:g} seconds")

    def start(self, cached: int) -> None:
        """Go on after the tokens that the slot holds."""
        self.cached = cached
        if len(self.ids) == len(self.request.prompt_ids):
            self.reused = cached

    def pause(self) -> None:
        """Give the slot up; what it held is computed again elsewhere."""
        self.placement, self.cached, self.draft = None, 0, []

    def plan_draft(self, price: float) -> None:
        """Choose the draft of the next pass; see `Drafter.draft`."""
        room = self._limit - len(self.ids) - 1
        draft, certain = self._drafter.draft(self.ids, price)
        self.draft, self._certain = draft[:room], min(certain, room)

    @property
    def undecided(self) -> int:
        """How many tokens the logits of the next pass shall decide: those of the draft that are not certain, one more.

        Log-probabilities are asked for of certain tokens too.
        """
        return 1 + len(self.draft) - (self._certain if self._recorder is None else 0)

    def note_prompt_computed(self, end: int) -> None:
        """Let other prompts share what is computed of this one, while it still is one."""
        slot = self.slot
        if len(slot.ids) < len(slot.prompt):
            slot.ids = slot.prompt[:end]

    def settle(self, logits: torch.Tensor, best: list[int]) -> None:
        """Take the logits that decide; accept, sample, show.

        Args:
            logits: Shape (undecided tokens, columns); changed in place.
            best: The best-scored id of each row; looked at only if `takes_best`.
        """
        drafted = self.draft
        decided = 1 + len(drafted) - len(logits)
        self.cached = len(self.ids)
        right = 0
        for position in range(len(drafted) + 1):
            row = position - decided
            if row < 0:
                token = drafted[position]
            elif self.takes_best and (self._constraint is None or self._constraint.permits(best[row])):
                token = best[row]
            else:
                token = self._sample(logits[row])
            is_right = position < len(drafted) and token == drafted[position]
            right += is_right
            self._take(token)
            if self.finish_reason is not None or not is_right:
                break
        self.cached += right
        self._drafter.learn(right)
        self.draft, self._certain = [], 0

    def finish(self, reason: FinishReason | None = None) -> None:
        """End the stream, by default for the reason that the last token gave."""
        text = self._scanner.feed(self._detokenizer.flush()) + self._scanner.flush()
        self.channel.put(TokenDelta((), text, finish_reason=self.finish_reason or reason))
        self.channel.finish(self.usage)

    @property
    def usage(self) -> Usage:
        """Token counts so far."""
        prompt = len(self.request.prompt_ids)
        return Usage(prompt, len(self.ids) - prompt, self.reused)

    def _sample(self, row: torch.Tensor) -> int:
        if self._seen is None:
            self._seen = torch.empty((1, self._limit), dtype=torch.long)
            self._seen[0, : len(self.ids)] = torch.tensor(self.ids)
        seen = cast("torch.LongTensor", self._seen[:, : len(self.ids)].to(row.device))
        scores = self._processors(seen, cast("torch.FloatTensor", row[None]))
        return int(scores.argmax())

    def _take(self, token: int) -> None:
        if self._constraint is not None:
            self._constraint.accept([token])
        if self._seen is not None:
            self._seen[0, len(self.ids)] = token
        self.ids.append(token)
        ended = token in self._stop_ids
        text = "" if ended else self._scanner.feed(self._detokenizer.feed(token))
        if ended or self._scanner.is_stopped:
            self.finish_reason = "stop"
        elif len(self.ids) >= self._limit:
            self.finish_reason = "length"
        self.channel.put(TokenDelta((token,), text, self._logprobs(token)))

    def _logprobs(self, token: int) -> tuple[TokenLogprob, ...] | None:
        alternatives = self.request.options.logprobs
        if self._recorder is None or alternatives is None:
            return None
        return (self._recorder.record(token, alternatives, self._decode),)
