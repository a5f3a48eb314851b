"""The plain local engine: one request at a time through `model.generate`, behind one worker thread.

It is slow and simple on purpose: every faster engine is checked against it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria, StoppingCriteriaList

from hermes_runtime.engines.base import (
    FinishReason,
    GenerationRequest,
    GrammarLanguage,
    TokenDelta,
    TokenLogprob,
    Usage,
    most_tokens,
)
from hermes_runtime.engines.local.decoding.constraint import ConstraintCompiler, ConstraintLogitsProcessor
from hermes_runtime.engines.local.decoding.sampler import LogprobRecorder, sampling_processors
from hermes_runtime.engines.local.lifecycle import as_typed_error, bounded_context_window
from hermes_runtime.engines.local.process import close_at_exit, open_channel, refusal
from hermes_runtime.engines.streams.channel import DeltaChannel, StreamedGeneration
from hermes_runtime.engines.streams.detokenizer import Detokenizer, StopScanner
from hermes_runtime.errors import GenerationTimeoutError
from hermes_runtime.weights.loader import LoadedCheckpoint


@dataclass(frozen=True, slots=True)
class _Job:
    request: GenerationRequest
    most_tokens: int
    constraint: LogitsProcessor | None
    channel: DeltaChannel
    deadline: float


class GenerateEngine:
    """`model.generate` as an `Engine`.

    Args:
        checkpoint: A loaded checkpoint; the engine owns it from now on.
        context_window: Prompt and completion together, in tokens; None takes all that the checkpoint was made for.

    Raises:
        InvalidRequestError: The context window is larger than the checkpoint's, or not positive.
    """

    grammar_language: GrammarLanguage = "lark"
    grammar_tokens: frozenset[str] = frozenset()

    def __init__(self, checkpoint: LoadedCheckpoint, *, context_window: int | None = None) -> None:
        self.tokenizer = checkpoint.tokenizer
        self.model_name = checkpoint.name
        self.context_window = bounded_context_window(checkpoint, context_window)
        self._checkpoint = checkpoint
        self._end_ids = checkpoint.eos_ids
        # `generate` fills what a request leaves open from here; the request's own options must be all there is.
        checkpoint.model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
        self._constraints = ConstraintCompiler(
            self.tokenizer, checkpoint.model.config.vocab_size, end_ids=checkpoint.eos_ids
        )
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._is_closed = self._is_left_behind = False
        self._close_lock = threading.Lock()
        self._worker = threading.Thread(target=self._work, name=f"hermes-{self.model_name}", daemon=True)
        self._worker.start()
        close_at_exit(self)

    def submit(self, request: GenerationRequest) -> StreamedGeneration:
        """Queue a request; see `Engine.submit`."""
        if self._is_closed:
            raise refusal(self.model_name, is_left_behind=self._is_left_behind)
        most = most_tokens(request, self.context_window, self.tokenizer)
        constraint = None
        if request.constraint is not None:
            constraint = ConstraintLogitsProcessor(
                self._constraints.compile(request.constraint), prompt_length=len(request.prompt_ids)
            )
        request = replace(request, stop_ids=(*self._end_ids, *request.stop_ids))
        channel = open_channel()
        deadline = time.monotonic() + request.options.timeout if request.options.timeout else float("inf")
        with self._close_lock:
            if self._is_closed:
                raise refusal(self.model_name, is_left_behind=self._is_left_behind)
            self._jobs.put(_Job(request, most, constraint, channel, deadline))
        return StreamedGeneration(channel)

    def close(self) -> None:
        """Cancel what runs, fail what waits, free the weights; safe to call twice and from any thread."""
        with self._close_lock:
            if not self._is_closed:
                self._is_closed = True
                self._jobs.put(None)
        if threading.current_thread() is not self._worker:
            self._worker.join()

    def leave_behind(self) -> None:
        """Take note, in a forked child, that the worker is not here."""
        self._close_lock = threading.Lock()
        self._is_closed = self._is_left_behind = True

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._run(job)
        del self._checkpoint

    def _run(self, job: _Job) -> None:
        sink = _Sink(job, self._checkpoint, is_closing=lambda: self._is_closed)
        try:
            if sink.may_start():
                self._generate(job, sink)
            sink.end()
        except Exception as error:  # noqa: BLE001 - whatever broke belongs to this request; the next one must still run
            job.channel.fail(as_typed_error(error))

    @torch.inference_mode()
    def _generate(self, job: _Job, sink: _Sink) -> None:
        request = job.request
        model: Any = self._checkpoint.model  # its type does not know that it can generate
        prompt = torch.tensor([request.prompt_ids], device=self._checkpoint.device)
        model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=GenerationConfig(  # type: ignore[no-untyped-call]
                do_sample=False,
                max_new_tokens=job.most_tokens,
                eos_token_id=list(sink.stop_ids),
                pad_token_id=next(iter(sink.stop_ids)),
            ),
            logits_processor=sampling_processors(
                request,
                self._checkpoint.generation_defaults,
                job.constraint,
                sink.recorder,
                len(self.tokenizer),
            ),
            stopping_criteria=StoppingCriteriaList([sink]),
        )


class _Sink(StoppingCriteria):
    """Turns the ids of one request into deltas and says when to stop; `generate` asks it after every token.

    A streamer would see a token only after the decision to go on.
    """

    def __init__(self, job: _Job, checkpoint: LoadedCheckpoint, is_closing: Callable[[], bool]) -> None:
        self._job = job
        self._is_closing = is_closing
        self._decode = lambda ids: str(checkpoint.tokenizer.decode(ids, skip_special_tokens=False))
        self._detokenizer = Detokenizer(self._decode)
        self._scanner = StopScanner(job.request.options)
        self._seen = len(job.request.prompt_ids)
        self._ended_by_id = False
        self.stop_ids = frozenset(job.request.stop_ids)
        self.recorder = None if job.request.options.logprobs is None else LogprobRecorder()

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.BoolTensor:
        for token_id in input_ids[0, self._seen :].tolist():
            self._take(token_id)
        self._check_deadline()
        must_stop = self._is_cancelled or self._scanner.is_stopped
        return cast("torch.BoolTensor", torch.tensor([must_stop], device=input_ids.device))

    def _take(self, token_id: int) -> None:
        self._seen += 1
        self._ended_by_id = token_id in self.stop_ids
        text = "" if self._ended_by_id else self._scanner.feed(self._detokenizer.feed(token_id))
        self._job.channel.put(TokenDelta((token_id,), text, self._logprobs(token_id)))

    def _logprobs(self, token_id: int) -> tuple[TokenLogprob, ...] | None:
        alternatives = self._job.request.options.logprobs
        if self.recorder is None or alternatives is None:
            return None
        return (self.recorder.record(token_id, alternatives, self._decode),)

    def may_start(self) -> bool:
        """Whether the request is still wanted and in time."""
        self._check_deadline()
        return not self._is_cancelled

    @property
    def _is_cancelled(self) -> bool:
        return self._job.channel.is_cancelled or bool(self._is_closing())

    def _check_deadline(self) -> None:
        if time.monotonic() > self._job.deadline:
            raise GenerationTimeoutError(f"no complete answer within {self._job.request.options.timeout:g} seconds")

    def end(self) -> None:
        """Send what is held back and the reason of the end."""
        text = self._scanner.feed(self._detokenizer.flush()) + self._scanner.flush()
        self._job.channel.put(TokenDelta((), text, finish_reason=self._finish_reason()))
        prompt_tokens = len(self._job.request.prompt_ids)
        self._job.channel.finish(Usage(prompt_tokens, self._seen - prompt_tokens))

    def _finish_reason(self) -> FinishReason:
        if self._ended_by_id or self._scanner.is_stopped:
            return "stop"
        return "cancelled" if self._is_cancelled else "length"
