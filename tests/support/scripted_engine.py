"""An engine that says what a test wrote down, token by token from a thread, as a real one would."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from hermes_runtime.engines import registry
from hermes_runtime.engines.base import (
    FinishReason,
    GenerationRequest,
    GrammarLanguage,
    TokenDelta,
    TokenLogprob,
    Usage,
)
from hermes_runtime.engines.streams.channel import DeltaChannel, StreamedGeneration
from hermes_runtime.engines.streams.detokenizer import Detokenizer, StopScanner
from hermes_runtime.errors import ContextWindowExceededError, EngineError, GenerationTimeoutError

TURN_END = "<|im_end|>"
PATIENCE = 30.0  # seconds until a test that waits for something that never happens fails


def stand_in(monkeypatch: Any, make: Callable[..., Any]) -> None:
    """Let `make` load this process's local engines, none of which is there yet."""
    monkeypatch.setattr(registry, "_ENGINES", {})
    monkeypatch.setitem(registry._KINDS, "local", replace(registry._KINDS["local"], make=make))


class CutReply(str):
    """A reply that ends with finish_reason `length`, whatever the request's own limit."""

    __slots__ = ()


class ScriptedEngine:
    """Replies are tokenized with the given tokenizer and streamed through the project's own channel.

    Honors cancel, `max_tokens` (finish_reason `length`), stop strings, logprobs and timeout; constraint, sampling and
    seed are recorded with the request and otherwise ignored.

    Args:
        tokenizer: A `transformers` tokenizer with ChatML markers.
        replies: One text per request, in order; or a function of the prompt's text.
        context_window: Prompt and completion together, in tokens.
        model_name: What `model_name` says.
        grammar_language: What `grammar_language` says.
        pause_after: Number of tokens after which a reply stalls until it is cancelled, its timeout passes, or `resume`.
        cached_tokens: What `usage` reports as taken from a cache.

    Attributes:
        requests: Every request submitted, in order.
        prompts: The text of each request's prompt, control tokens included.
        runs: What became of each request, in order.
    """

    def __init__(
        self,
        tokenizer: Any,
        replies: Sequence[str] | Callable[[str], str],
        *,
        context_window: int = 8192,
        model_name: str = "scripted",
        grammar_language: GrammarLanguage | None = "lark",
        pause_after: int | None = None,
        cached_tokens: int = 0,
    ) -> None:
        self.tokenizer = tokenizer
        self.model_name = model_name
        self.grammar_language = grammar_language
        self.grammar_tokens: frozenset[str] = frozenset()
        self.context_window = context_window
        self.pause_after = pause_after
        self.cached_tokens = cached_tokens
        self.requests: list[GenerationRequest] = []
        self.prompts: list[str] = []
        self.runs: list[ScriptedRun] = []
        self._replies = replies
        self._changed = threading.Condition()
        self._is_closed = False
        self._resumed = threading.Event()

    def submit(self, request: GenerationRequest) -> StreamedGeneration:
        """Start a thread that streams the next reply."""
        if len(request.prompt_ids) >= self.context_window:
            raise ContextWindowExceededError(len(request.prompt_ids), self.context_window)
        if self._is_closed:
            raise EngineError(f"the engine of {self.model_name!r} is closed; load it again")
        prompt = self.tokenizer.decode(list(request.prompt_ids), skip_special_tokens=False)
        with self._changed:
            turn = len(self.requests)
            self.requests.append(request)
            self.prompts.append(prompt)
            run = ScriptedRun(self, request, self._reply(turn, prompt))
            self.runs.append(run)
            self._changed.notify_all()
        threading.Thread(target=run.stream, name=f"scripted-{turn}", daemon=True).start()
        return StreamedGeneration(run.channel)

    def resume(self) -> None:
        """Let replies that stall, and all later ones, go on."""
        self._resumed.set()
        with self._changed:
            for run in self.runs:
                run.channel.stirred.set()

    def wait_requests(self, count: int) -> None:
        """Wait until that many requests were submitted."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.runs) >= count, PATIENCE), "the requests never came"

    @property
    def is_resumed(self) -> bool:
        """Whether `resume` was called."""
        return self._resumed.is_set()

    def close(self) -> None:
        """Refuse further requests."""
        self._is_closed = True

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    def _reply(self, turn: int, prompt: str) -> str:
        if callable(self._replies):
            return self._replies(prompt)
        if turn >= len(self._replies):
            raise EngineError(
                f"the script has {len(self._replies)} replies and was asked for one more; prompt: {prompt}"
            )
        return self._replies[turn]


class ScriptedRun:
    """One request and what became of it.

    Attributes:
        request: The request.
        reply: The whole text scripted for it.
        ended: Set when the producer has stopped, for whatever reason.
        stalled: Set when the producer waits at `pause_after`.
        finish_reason: How it ended; None when it failed or still runs.
        tokens_made: Number of tokens put, the end-of-turn token included.
    """

    def __init__(self, engine: ScriptedEngine, request: GenerationRequest, reply: str) -> None:
        self.request = request
        self.reply = reply
        self.ended = threading.Event()
        self.stalled = threading.Event()
        self.finish_reason: FinishReason | None = None
        self.tokens_made = 0
        self.channel = _StirringChannel()
        self._engine = engine
        tokenizer = engine.tokenizer
        self._decode: Callable[[list[int]], str] = lambda ids: str(tokenizer.decode(ids, skip_special_tokens=False))
        self._end_id = int(tokenizer.convert_tokens_to_ids(TURN_END))
        self._ids = tokenizer.encode(reply, add_special_tokens=False)
        if not isinstance(reply, CutReply):
            self._ids.append(self._end_id)
        self._detokenizer = Detokenizer(self._decode)
        self._scanner = StopScanner(request.options)

    def wait_ended(self) -> None:
        """Wait until the producer has stopped."""
        assert self.ended.wait(PATIENCE), "the engine never stopped"

    def wait_stalled(self) -> None:
        """Wait until the producer waits at `pause_after`."""
        assert self.stalled.wait(PATIENCE), "the engine never stalled"

    def stream(self) -> None:
        """Produce the reply; runs in its own thread."""
        try:
            reason = self._produce()
            held = self._scanner.feed(self._detokenizer.flush()) + self._scanner.flush()
            self.finish_reason = reason
            self.channel.put(TokenDelta((), held, finish_reason=reason))
            usage = Usage(len(self.request.prompt_ids), self.tokens_made, self._engine.cached_tokens)
            self.channel.finish(usage)
        except Exception as error:  # noqa: BLE001 - whatever broke belongs to the reader
            self.channel.fail(error)
        finally:
            self.ended.set()

    def _produce(self) -> FinishReason:
        room = self._engine.context_window - len(self.request.prompt_ids)
        limit = min(self.request.options.max_tokens or room, room)
        for token_id in self._ids:
            if self.tokens_made == self._engine.pause_after:
                self._stall()
            if self.channel.is_cancelled:
                return "cancelled"
            self.tokens_made += 1
            is_end = token_id == self._end_id or token_id in self.request.stop_ids
            text = "" if is_end else self._scanner.feed(self._detokenizer.feed(token_id))
            self.channel.put(TokenDelta((token_id,), text, self._logprobs(token_id)))
            if is_end or self._scanner.is_stopped:
                return "stop"
            if self.tokens_made == limit:
                return "length"
        return "length"

    def _stall(self) -> None:
        self.stalled.set()
        while not (self._engine.is_resumed or self.channel.is_cancelled):
            self.channel.stirred.clear()
            if self._engine.is_resumed or self.channel.is_cancelled:
                return
            if not self.channel.stirred.wait(self.request.options.timeout or PATIENCE):
                raise GenerationTimeoutError(f"no complete answer within {self.request.options.timeout} seconds")

    def _logprobs(self, token_id: int) -> tuple[TokenLogprob, ...] | None:
        """Report certainty: the token itself at 0, `k` alternatives below it."""
        if self.request.options.logprobs is None:
            return None
        top = tuple(
            TokenLogprob(token_id + step, self._decode([token_id + step]), -float(step))
            for step in range(self.request.options.logprobs)
        )
        return (TokenLogprob(token_id, self._decode([token_id]), 0.0, top),)


class _StirringChannel(DeltaChannel):
    """A channel that wakes a stalled producer when it is cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.stirred = threading.Event()

    def cancel(self) -> None:
        super().cancel()
        self.stirred.set()
