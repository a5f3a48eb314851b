"""The local engine: a running batch that requests join and leave between forward passes.

One worker thread owns the model. Its life is: schedule, run, postprocess.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch

from hermes_runtime.engines.base import GenerationRequest, GrammarLanguage, most_tokens
from hermes_runtime.engines.local.batch.limits import DEFAULT_LIMITS, EngineLimits, affordable_tokens
from hermes_runtime.engines.local.batch.scheduler import Scheduler, Step
from hermes_runtime.engines.local.batch.sequence import Sequence
from hermes_runtime.engines.local.cache.attention import (
    PackedPass,
    PassAbandonedError,
    use_slot_attention,
    varied_lengths,
)
from hermes_runtime.engines.local.cache.graphs import FixedPasses
from hermes_runtime.engines.local.cache.pool import Placement, SlotPool, rounded
from hermes_runtime.engines.local.cache.slots import SlotCache
from hermes_runtime.engines.local.decoding.constraint import ConstraintCompiler
from hermes_runtime.engines.local.lifecycle import as_typed_error, bounded_context_window, is_of_the_device
from hermes_runtime.engines.local.process import close_at_exit, open_channel, refusal
from hermes_runtime.engines.streams.channel import StreamedGeneration
from hermes_runtime.errors import (
    DeviceMemoryError,
    EngineError,
    HermesError,
    InvalidRequestError,
)
from hermes_runtime.weights.loader import LoadedCheckpoint

_LESS = 0.75  # of the memory that the cache may take, once it was too much
_NO_MASK = torch.empty(1, 1, 1, 1)  # of four dimensions, so that transformers makes none; a packed pass has its own


class LocalEngine:
    """A transformers causal language model as an `Engine`.

    Args:
        checkpoint: A loaded checkpoint; the engine owns it from now on.
        context_window: Prompt and completion together, in tokens; None takes all that the checkpoint was made for.
        limits: Bounds of the running batch.

    Raises:
        InvalidRequestError: The context window is larger than the checkpoint's, or not positive.
    """

    grammar_language: GrammarLanguage = "lark"
    grammar_tokens: frozenset[str] = frozenset()

    def __init__(
        self,
        checkpoint: LoadedCheckpoint,
        *,
        context_window: int | None = None,
        limits: EngineLimits = DEFAULT_LIMITS,
    ) -> None:
        config = checkpoint.model.config
        self.tokenizer = checkpoint.tokenizer
        self.model_name = checkpoint.name
        self.context_window = bounded_context_window(checkpoint, context_window)
        self._checkpoint = checkpoint
        self._defaults = checkpoint.generation_defaults
        self._end_ids = checkpoint.eos_ids
        self._limits = limits
        self._vocabulary_size, self._embeddings = len(self.tokenizer), int(config.vocab_size)
        self._constraints = ConstraintCompiler(self.tokenizer, config.vocab_size, end_ids=checkpoint.eos_ids)
        # One conversation of full length must fit, whatever is free: a long prompt then fails by itself, if at all.
        self._least_tokens = rounded(self.context_window)
        self._cache = SlotCache(
            config.num_hidden_layers,
            longest=self.context_window,
            tokens=max(affordable_tokens(checkpoint), self._least_tokens),
            window=getattr(config, "sliding_window", None),
            device=torch.device(checkpoint.device),
            dtype=checkpoint.model.dtype,
        )
        use_slot_attention(checkpoint.model)
        self._fixed = self._fixed_passes() if limits.graphs_on(torch.device(checkpoint.device)) else None
        self._scheduler = Scheduler(limits, torch.device(checkpoint.device))
        self._pool = SlotPool(limits.slots)
        self._running: list[Sequence] = []
        self._waiting: deque[Sequence] = deque()
        self._inbox: queue.SimpleQueue[Sequence | None] = queue.SimpleQueue()
        self._queued = 0
        self._unended: set[Sequence] = set()  # whatever becomes of them: somebody reads their streams
        self._is_closed = self._is_left_behind = False
        self._lock = threading.Lock()
        self._worker = threading.Thread(target=self._work, name=f"hermes-{self.model_name}", daemon=True)
        self._worker.start()
        close_at_exit(self)

    def submit(self, request: GenerationRequest) -> StreamedGeneration:
        """Queue a request; see `Engine.submit`."""
        if self._is_closed:
            raise refusal(self.model_name, is_left_behind=self._is_left_behind)
        most = most_tokens(request, self.context_window, self.tokenizer)
        # On a GPU a single one of these would end the whole process's use of the device.
        if min(request.prompt_ids) < 0 or max(request.prompt_ids) >= self._embeddings:
            raise InvalidRequestError(f"prompt_ids must be at least 0 and below {self._embeddings}, the model's own")
        channel = open_channel()
        sequence = Sequence(
            replace(request, stop_ids=(*self._end_ids, *request.stop_ids)),
            None if request.constraint is None else self._constraints.compile(request.constraint),
            channel,
            defaults=self._defaults,
            limit=len(request.prompt_ids) + most,
            vocabulary_size=self._vocabulary_size,
            decode=self._decode,
            longest_draft=self._limits.draft,
        )
        with self._lock:
            if self._is_closed:
                raise refusal(self.model_name, is_left_behind=self._is_left_behind)
            if self._queued >= self._limits.waiting:
                raise EngineError(f"{self._queued} requests wait already, which is the limit; try again later")
            self._queued += 1
            self._unended.add(sequence)
            self._inbox.put(sequence)
        return StreamedGeneration(channel)

    def close(self) -> None:
        """Cancel what runs and what waits, free the weights; safe to call twice and from any thread."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._inbox.put(None)
        if threading.current_thread() is not self._worker:
            self._worker.join()

    def leave_behind(self) -> None:
        """Take note, in a forked child, that the worker is not here."""
        self._lock = threading.Lock()
        self._is_closed = self._is_left_behind = True

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))

    @torch.inference_mode()
    def _work(self) -> None:
        failure: HermesError | None = None
        try:
            while not self._is_closed:
                self._receive()
                self._drop_unwanted()
                self._admit()
                if planned := self._schedule():
                    self._run(planned)
        except Exception as error:  # noqa: BLE001 - nobody else would see it, and all readers would wait for ever
            failure = as_typed_error(error)
        self._end_all(failure)
        is_on_cuda = self._cache.device.type == "cuda"
        del self._checkpoint, self._cache, self._fixed
        if is_on_cuda:
            with suppress(RuntimeError):  # of a device that has failed
                torch.cuda.empty_cache()  # torch keeps what is freed, where nobody else can have it

    def _end_all(self, failure: HermesError | None) -> None:
        """End every stream, as cancelled or with what broke the engine; from then on there is none to be had."""
        with self._lock:
            self._is_closed = True
            unended = list(self._unended)
        for sequence in unended:
            try:
                if failure is None:
                    sequence.finish("cancelled")
                else:
                    sequence.channel.fail(failure)
            except Exception as error:  # noqa: BLE001 - the others must end too
                sequence.channel.fail(as_typed_error(error))

    def _receive(self) -> None:
        """Take what has arrived; wait for something if there is nothing else to do."""
        if not self._running and not self._waiting and (sequence := self._inbox.get()) is not None:
            self._waiting.append(sequence)
        self._waiting.extend(self._drained())

    def _drained(self) -> list[Sequence]:
        arrived: list[Sequence] = []
        while True:
            try:
                sequence = self._inbox.get_nowait()
            except queue.Empty:
                return arrived
            if sequence is not None:
                arrived.append(sequence)

    def _drop_unwanted(self) -> None:
        for sequence in [*self._running, *self._waiting]:
            try:
                sequence.check_deadline()
            except HermesError as error:
                self._end(sequence, error)
            else:
                if sequence.is_cancelled:
                    self._end(sequence)

    def _admit(self) -> None:
        for sequence in list(self._waiting):
            if not self._has_room(sequence):
                return
            placement = self._pool.place(sequence.ids)
            if placement is not None:
                self._waiting.remove(sequence)
                with self._lock:
                    self._queued -= 1
                self._running.append(sequence)
                self._begin(sequence, placement)
            elif self._pool.is_full:
                return  # otherwise it waits for a prefix that is being computed, and those behind it need not

    def _begin(self, sequence: Sequence, placement: Placement) -> None:
        sequence.placement = placement
        try:
            self._fit()
            # Making room may have evicted what was to be copied, or lost all there was.
            if not self._pool.holds(placement.copy_from or placement.slot, placement.cached):
                placement = placement.without_prefix()
            elif placement.copy_from is not None:
                self._cache.copy_prefix(placement)
        except Exception as error:  # noqa: BLE001 - as in `_run`
            failure = _of_requests(error)
            self._note_failure(failure)
            self._fail(sequence, failure)
        else:
            sequence.start(placement.cached)

    def _has_room(self, sequence: Sequence) -> bool:
        running = [*self._running, sequence]
        return len(running) == 1 or len(running) * self._row_length(running) <= self._cache.tokens

    def _row_length(self, running: list[Sequence]) -> int:
        """Return how long rows must be for the next pass; all rows of the cache are as long as its longest."""
        longest = max(len(sequence.ids) for sequence in running) + self._limits.draft + 1
        return rounded(min(longest, self.context_window))

    def _fit(self) -> None:
        """Make room for the next pass: let idle slots go, and where that is not enough, the youngest sequence wait."""
        length = self._row_length(self._running)
        if self._pool.rows * max(length, self._cache.length) <= self._cache.tokens:
            return
        while len(self._running) > 1 and len(self._running) * length > self._cache.tokens:
            self._pause(max(self._running, key=lambda sequence: sequence.slot.last_used))
            length = self._row_length(self._running)
        rows, length = self._pool.keep(self._cache.tokens, length)
        if rows == list(range(self._cache.slots)) and length >= self._cache.length:
            return
        try:
            self._cache.reshape(rows, length)
        except Exception:  # noqa: BLE001 - mostly memory that ran out halfway; all that was kept can be computed again
            self._cache.clear()
            self._pool.forget()
            for sequence in self._running:
                sequence.cached = 0

    def _pause(self, sequence: Sequence) -> None:
        self._running.remove(sequence)
        self._pool.release(sequence.slot, sequence.ids[: sequence.cached])
        sequence.pause()
        self._waiting.appendleft(sequence)
        with self._lock:
            self._queued += 1

    def _schedule(self) -> list[Step]:
        """Return what the next pass computes."""
        if self._running:
            self._fit()
        return self._scheduler.plan(self._running, lambda sequence, error: self._end(sequence, as_typed_error(error)))

    def _run(self, steps: list[Step], *, is_retry: bool = False) -> None:
        """Compute a pass. Where it fails, each sequence runs alone, so that an error fails only whom it concerns."""
        start = time.perf_counter()
        try:
            logits, best = self._computed(steps)
        except PassAbandonedError:
            return
        except Exception as error:  # noqa: BLE001 - whatever broke belongs to these requests; the others go on
            failure = _of_requests(error)
        else:
            ends = accumulate(step.logits for step in steps)
            for step, rows, end in zip(steps, logits, ends, strict=True):
                self._advance(step, rows, best[end - step.logits : end])
            if self._fixed is None or not self._fixed.has_captured:
                self._scheduler.note(steps, time.perf_counter() - start)
            return
        if not is_retry:
            self._note_failure(failure)
        if len(steps) == 1:
            self._fail(steps[0].sequence, failure)
            return
        del failure  # it holds the tensors of the failed pass
        for step in steps:
            self._run([step], is_retry=True)

    def _computed(self, steps: list[Step]) -> tuple[Iterable[torch.Tensor], list[int]]:
        """Run the model; return the logits that each step asks for, (rows, columns), and the best id of all rows.

        On a GPU each look at a number waits for all that runs: so the best ids are looked at together, where they are
        of use.
        """
        rows = [step.row for step in steps]
        ends = accumulate(len(row.ids) for row in rows)
        kept = [position for step, end in zip(steps, ends, strict=True) for position in range(end - step.logits, end)]
        logits = None if self._fixed is None else self._fixed.run(rows, kept)
        if logits is None:
            with varied_lengths():
                logits = self._forward(self._cache.prepare(rows, lambda: self._is_wanted(steps)), kept)
        logits = logits.float()
        is_of_use = any(step.sequence.takes_best for step in steps)
        best = logits[:, : self._vocabulary_size].argmax(-1).tolist() if is_of_use else []
        return torch.split(logits, [step.logits for step in steps]), best

    def _forward(self, packed: PackedPass, kept: list[int] | None = None) -> torch.Tensor:
        """Return the logits (rows, columns) of some tokens, or of all."""
        model: Any = self._checkpoint.model
        logits: torch.Tensor = model(
            packed.input_ids,
            attention_mask=_NO_MASK,
            position_ids=packed.position_ids,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=0 if kept is None else torch.tensor(kept, device=packed.input_ids.device, dtype=torch.long),
            packed=packed,
        ).logits[0]
        return logits

    def _fixed_passes(self) -> FixedPasses:
        return FixedPasses(
            self._cache,
            lambda numbers, slots, length: self._forward(self._cache.prepare_fixed(numbers, slots, length)),
            draft=self._limits.draft,
        )

    def _is_wanted(self, steps: list[Step]) -> bool:
        return not self._is_closed and any(step.sequence.is_wanted for step in steps)

    def _advance(self, step: Step, logits: torch.Tensor, best: list[int]) -> None:
        sequence = step.sequence
        sequence.note_prompt_computed(step.row.end)
        if not step.logits:
            sequence.cached = step.row.end
            return
        try:
            sequence.settle(logits, best)
        except Exception as error:  # noqa: BLE001 - as in `_run`
            self._end(sequence, _of_requests(error))
        else:
            if sequence.finish_reason is not None:
                self._end(sequence)

    def _note_failure(self, error: HermesError) -> None:
        """Go on with a smaller cache after memory ran out."""
        if isinstance(error, DeviceMemoryError):
            self._cache.tokens = max(int(self._cache.tokens * _LESS), self._least_tokens)

    def _fail(self, sequence: Sequence, error: HermesError) -> None:
        sequence.cached = 0  # what the slot holds now is in doubt
        self._end(sequence, error)

    def _end(self, sequence: Sequence, error: HermesError | None = None) -> None:
        """Take a sequence out; its slot stays as a prefix for others."""
        if sequence.placement is None:
            self._waiting.remove(sequence)
            with self._lock:
                self._queued -= 1
        else:
            self._running.remove(sequence)
            self._pool.release(sequence.placement.slot, sequence.ids[: sequence.cached])
        if error is None:
            sequence.finish("cancelled")
        else:
            sequence.channel.fail(error)
        with self._lock:
            self._unended.discard(sequence)


def _of_requests(error: Exception) -> HermesError:
    """Return what those who asked for a failed computation are told.

    Raises:
        Exception: The error, where the device has failed: that is the end of the engine.
    """
    if is_of_the_device(error):
        raise error
    return as_typed_error(error)
