"""The local engine: a running batch that requests join and leave between forward passes.

One worker thread owns the model. Its life is: schedule, run, postprocess.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from hermes_runtime.engines.base import GenerationRequest
from hermes_runtime.engines.local.constraint import ConstraintCompiler
from hermes_runtime.engines.local.lifecycle import as_typed_error, bounded_context_window, close_at_exit
from hermes_runtime.engines.local.loader import LoadedCheckpoint
from hermes_runtime.engines.local.memory import free_bytes
from hermes_runtime.engines.local.pool import Placement, SlotPool
from hermes_runtime.engines.local.sequence import Sequence
from hermes_runtime.engines.local.slots import SlotCache, SlotRow
from hermes_runtime.engines.stream import DeltaChannel, StreamedGeneration
from hermes_runtime.errors import ContextWindowExceededError, DeviceMemoryError, EngineError, HermesError


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Bounds of the running batch.

    Attributes:
        slots: Sequences in the cache, running or kept as prefixes; fewer where memory is short, see `affordable_slots`.
        waiting: Requests in the queue; one more is refused.
        chunk: Prompt tokens computed in one pass, so that a long prompt does not freeze the other streams.
        draft: Drafted tokens verified in one pass; 0 drafts nothing.
    """

    slots: int = 8
    waiting: int = 1024
    chunk: int = 256
    draft: int = 16


# Of the memory that is free when the weights are loaded; the rest is for the passes themselves and for everybody else.
_CACHE_SHARE = 0.5
# Rows of up to this many new tokens share a pass; longer ones run alone, because shorter rows are padded to them.
_SHORT = 8


class LocalEngine:
    """A transformers causal language model as an `Engine`.

    Args:
        checkpoint: A loaded checkpoint; the engine owns it from now on.
        context_window: Prompt and completion together, in tokens; None takes all that the checkpoint was made for.
        limits: Bounds of the running batch.

    Raises:
        InvalidRequestError: The context window is larger than the checkpoint's, or not positive.
    """

    def __init__(
        self,
        checkpoint: LoadedCheckpoint,
        *,
        context_window: int | None = None,
        limits: EngineLimits = EngineLimits(),
    ) -> None:
        config = checkpoint.model.config
        self.tokenizer = checkpoint.tokenizer
        self.model_name = checkpoint.name
        self.context_window = bounded_context_window(checkpoint, context_window)
        self._checkpoint = checkpoint
        self._defaults = checkpoint.generation_defaults
        self._end_ids = checkpoint.eos_ids
        self._limits = limits
        self._vocabulary_size = len(self.tokenizer)
        self._constraints = ConstraintCompiler(self.tokenizer, config.vocab_size, end_ids=checkpoint.eos_ids)
        self._cache = SlotCache(
            config.num_hidden_layers,
            longest=self.context_window,
            window=getattr(config, "sliding_window", None),
            device=torch.device(checkpoint.device),
        )
        self._pool = SlotPool(min(limits.slots, affordable_slots(checkpoint, self.context_window)))
        self._running: list[Sequence] = []
        self._waiting: deque[Sequence] = deque()
        self._inbox: queue.SimpleQueue[Sequence | None] = queue.SimpleQueue()
        self._queued = 0
        self._is_closed = False
        self._lock = threading.Lock()
        self._worker = threading.Thread(target=self._work, name=f"hermes-{self.model_name}", daemon=True)
        self._worker.start()
        close_at_exit(self)

    def submit(self, request: GenerationRequest) -> StreamedGeneration:
        """Queue a request; see `Engine.submit`."""
        prompt_length = len(request.prompt_ids)
        if prompt_length >= self.context_window:
            raise ContextWindowExceededError(prompt_length, self.context_window)
        channel = DeltaChannel()
        room = self.context_window - prompt_length
        sequence = Sequence(
            request,
            None if request.constraint is None else self._constraints.compile(request.constraint),
            channel,
            defaults=self._defaults,
            end_ids=self._end_ids,
            limit=prompt_length + min(request.max_tokens or room, room),
            vocabulary_size=self._vocabulary_size,
            decode=self._decode,
            longest_draft=self._limits.draft,
        )
        with self._lock:
            if self._is_closed:
                raise EngineError(f"the engine of {self.model_name!r} is closed; load it again")
            if self._queued >= self._limits.waiting:
                raise EngineError(f"{self._queued} requests wait already, which is the limit; try again later")
            self._queued += 1
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

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))

    @torch.inference_mode()
    def _work(self) -> None:
        while not self._is_closed:
            self._receive()
            self._drop_unwanted()
            self._admit()
            for group in self._schedule():
                self._guarded(group, partial(self._forward, group))
        for sequence in (*self._running, *self._waiting, *self._drained()):
            sequence.finish("cancelled")
        del self._checkpoint, self._cache

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
        while self._waiting:
            placement = self._pool.place(self._waiting[0].request.prompt_ids)
            if placement is None:
                return
            sequence = self._waiting.popleft()
            with self._lock:
                self._queued -= 1
            self._running.append(sequence)
            sequence.placement = placement
            self._guarded([sequence], partial(self._begin, sequence, placement))

    def _begin(self, sequence: Sequence, placement: Placement) -> None:
        if placement.copy_from is not None:
            self._cache.copy_prefix(placement)
        sequence.begin(placement.cached)

    def _schedule(self) -> list[list[Sequence]]:
        """Return groups of sequences, each for one pass: all short rows together, and one long row."""
        short = [sequence for sequence in self._running if sequence.pending + len(sequence.draft) <= _SHORT]
        long = [sequence for sequence in self._running if sequence.pending + len(sequence.draft) > _SHORT]
        short.sort(key=_slot)
        groups = [short] if short else []
        if long:
            groups.append([long[0]])
            self._running.remove(long[0])  # to the end of the line: long prompts take turns
            self._running.append(long[0])
        return groups

    def _guarded(self, group: list[Sequence], work: Callable[[], None]) -> None:
        """Do work for some sequences; an error of it is theirs alone."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever broke belongs to these requests; the others go on
            failure = as_typed_error(error)
            if isinstance(failure, DeviceMemoryError):
                self._pool.shrink()
            self._fail(group, failure)

    def _forward(self, group: list[Sequence]) -> None:
        rows = [self._row(sequence) for sequence in group]
        inputs = self._cache.prepare(rows)
        # A prompt's last chunk, and every short row, needs logits after its last token and after each drafted one.
        wanted = inputs.input_ids.shape[1] if len(rows) > 1 else len(group[0].draft) + 1
        model: Any = self._checkpoint.model
        logits = model(
            inputs.input_ids,
            attention_mask=inputs.attention_mask,
            position_ids=inputs.position_ids,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=wanted,
        ).logits
        for index, (sequence, row) in enumerate(zip(group, rows, strict=True)):
            sequence.note_prompt_computed(row.end)
            if row.end < len(sequence.ids) + len(sequence.draft):
                sequence.cached = row.end
                continue
            last = len(row.ids) - inputs.input_ids.shape[1] + logits.shape[1]
            self._settle(sequence, logits[index, last - len(sequence.draft) - 1 : last].float())

    def _row(self, sequence: Sequence) -> SlotRow:
        pending = sequence.ids[sequence.cached :]
        new = pending[: self._limits.chunk] if len(pending) > self._limits.chunk else pending + sequence.draft
        return SlotRow(_slot(sequence), sequence.cached, tuple(new))

    def _settle(self, sequence: Sequence, logits: torch.Tensor) -> None:
        try:
            sequence.settle(logits)
        except Exception as error:  # noqa: BLE001 - as in `_guarded`
            self._end(sequence, as_typed_error(error))
        else:
            if sequence.finish_reason is not None:
                self._end(sequence)

    def _fail(self, group: list[Sequence], error: HermesError) -> None:
        for sequence in group:
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


def affordable_slots(checkpoint: LoadedCheckpoint, context_window: int) -> int:
    """Return how many conversations of full length fit the memory that is free, at least one.

    A token takes two vectors per layer and key-value head: 128 KiB for Mistral 7B in 16 bits.
    """
    config = checkpoint.model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token_bytes = 2 * config.num_hidden_layers * heads * width * checkpoint.model.dtype.itemsize
    room = int(free_bytes(torch.device(checkpoint.device)) * _CACHE_SHARE)
    return max(1, int(room // (token_bytes * context_window)))


def _slot(sequence: Sequence) -> int:
    assert sequence.placement is not None
    return sequence.placement.slot.index
