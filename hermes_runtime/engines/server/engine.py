"""The server engine: the same prompt ids, grammar and parser over `/v1/completions` of a server somewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hermes_runtime.checkpoint.context_window import stated_context_window
from hermes_runtime.checkpoint.vocabulary import Vocabulary, load_vocabulary
from hermes_runtime.control_tokens import named_tokens
from hermes_runtime.engines.base import FinishReason, GenerationRequest, GrammarLanguage, Usage, most_tokens
from hermes_runtime.engines.retries import RetryPolicy, check_max_retries, retried
from hermes_runtime.engines.server.client import Client, TransientServerError
from hermes_runtime.engines.server.probe import COMPLETIONS, probe
from hermes_runtime.engines.server.prompt_text import PromptText
from hermes_runtime.engines.server.wire import ServerProfile, read_chunk, request_body
from hermes_runtime.engines.streams.channel import StreamedGeneration
from hermes_runtime.engines.streams.delta_writer import DeltaWriter
from hermes_runtime.engines.streams.loop_thread import LoopThread, TaskChannel
from hermes_runtime.errors import (
    EngineError,
    InvalidRequestError,
)
from hermes_runtime.literals.escapes import well_formed

_RETRIES = 2  # where nobody says how many
_PROBE_TEXT = "one two three"


class ServerEngine:
    """A completion server as an `Engine`.

    What the server can do is tried once, when the engine is made; see `profile`.

    Args:
        model: A local folder, a hub id, or "tiny-hermes": whose tokenizer and generation_config are used. No weights
            are read.
        base_url: The server's address, with or without `/v1`.
        api_key: Sent as a bearer token.
        max_retries: How often it is tried again to find out what a server can do that is busy, failing or gone; None is
            2. Of requests, whoever submits them says so: see `retries`.
        context_window: Prompt and answer together, in tokens; None takes what the server says, or else the checkpoint.
        served_model: What the server calls the model; None looks for `model`, or takes the only one.
        headers: Further headers of every request.
        extra_body: Further fields of every completion request, such as `priority` or `cache_salt`.
        connect_timeout: Seconds until a connection must stand.
        idle_timeout: Seconds in which the server must send something.
        retry_delay: Seconds before the first further try; see `RetryPolicy`.

    Raises:
        InvalidRequestError: An option is out of range, or the context window is larger than the server's.
        ModelNotFoundError: Nobody has such a model: neither files here, nor the server.
        EngineError: The server cannot be reached.

    Attributes:
        retries: How it may be asked again; see `RetriedGeneration`.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str,
        api_key: str | None = None,
        max_retries: int | None = None,
        context_window: int | None = None,
        served_model: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        connect_timeout: float = 10.0,
        idle_timeout: float = 600.0,
        retry_delay: float = 0.5,
    ) -> None:
        check_max_retries(max_retries)
        self.model_name = model
        self.retries = RetryPolicy(_RETRIES, TransientServerError, retry_delay)
        self._extra_body = dict(extra_body or {})
        self._client = Client(
            base_url, api_key=api_key, headers=headers, connect_timeout=connect_timeout, idle_timeout=idle_timeout
        )
        self._vocabulary: Vocabulary = load_vocabulary(model)
        self.tokenizer = self._vocabulary.tokenizer
        self._text = PromptText(self.tokenizer)
        self._end_texts = [self._decode([token]) for token in self._vocabulary.eos_ids]
        self._is_closed = False
        self._loop = LoopThread(f"the engine of {model!r} at {self._client.root}")
        try:
            self.profile: ServerProfile = self._loop.run(
                retried(lambda: self._probe(served_model), self.retries, max_retries)
            )
            self.context_window = self._bounded_window(context_window)
            self.grammar_tokens = named_tokens(self.tokenizer) if self.profile.names_tokens else frozenset()
        except BaseException:
            self.close()
            raise

    @property
    def grammar_language(self) -> GrammarLanguage | None:
        """What the server reads grammars in; None where it takes none."""
        return self.profile.grammar_language

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called, or this process was forked since."""
        return self._is_closed or self._loop.is_left_behind

    def submit(self, request: GenerationRequest) -> StreamedGeneration:
        """Send a request; see `Engine.submit`."""
        most = most_tokens(request, self.context_window, self.tokenizer)
        profile = self.profile
        prompt = (
            list(request.prompt_ids)
            if profile.takes_ids
            else self._text.write(request.prompt_ids, with_bos=not profile.adds_bos)
        )
        body = request_body(
            profile,
            request,
            prompt,
            defaults=self._vocabulary.generation_defaults,
            end_ids=self._vocabulary.eos_ids,
            end_texts=self._end_texts,
            max_tokens=most,
        )
        if self.is_closed:
            raise EngineError(f"the engine of {self.model_name!r} is closed; load it again")
        channel = TaskChannel(len(request.prompt_ids))
        writer = DeltaWriter(channel, request, self._decode, self._vocabulary.eos_ids)
        self._loop.start(lambda: self._run({**body, **self._extra_body}, request, writer), channel)
        return StreamedGeneration(channel)

    def close(self) -> None:
        """Cancel what runs and close the connections; safe to call twice and from any thread."""
        self._is_closed = True
        self._loop.close(self._client.close)

    async def _run(self, body: dict[str, Any], request: GenerationRequest, writer: DeltaWriter) -> None:
        await writer.complete(
            lambda: self._complete(body, request, writer),
            lambda error: EngineError(f"generation failed: {type(error).__name__}: {error}"),
        )

    async def _complete(self, body: dict[str, Any], request: GenerationRequest, writer: DeltaWriter) -> None:
        reason: FinishReason | None = None
        usage: Usage | None = None
        texts: list[str] = []
        events = self._client.stream(COMPLETIONS, body)
        try:
            async for event in events:
                chunk = read_chunk(event, self._decode, request.options.logprobs)
                if writer.is_stopped and chunk.finish_reason is None and reason is None and (chunk.ids or chunk.text):
                    reason = "stop"  # a stop string was met here, and the server goes on past it
                    break
                if chunk.ids:
                    writer.write_ids(chunk.ids, chunk.logprobs)
                elif not self.profile.tells_ids:
                    writer.write_text(chunk.text, chunk.logprobs)
                texts.append(chunk.text)
                reason, usage = chunk.finish_reason or reason, chunk.usage or usage
        except TransientServerError:
            if reason is None:
                raise
        finally:
            await events.aclose()
        if reason is None:
            raise TransientServerError(f"{self._client.root} ended the answer in its middle")
        text = "".join(texts)
        if text and self.profile.tells_ids and not writer.count:
            raise EngineError(f"{self._client.root} told token ids when it was tried, and tells none now")
        if usage is None and not self.profile.tells_ids:  # as near as it can be counted here
            usage = Usage(
                len(request.prompt_ids), len(self.tokenizer.encode(well_formed(text), add_special_tokens=False))
            )
        writer.end(reason, usage)

    async def _probe(self, served_model: str | None) -> ServerProfile:
        bos = self.tokenizer.bos_token_id
        ids = [
            *([] if bos is None else [int(bos)]),
            *self.tokenizer.encode(_PROBE_TEXT, add_special_tokens=False),
        ]
        return await probe(self._client, self.model_name, ids, _PROBE_TEXT, served_model)

    def _bounded_window(self, asked: int | None) -> int:
        known = self.profile.context_window or asked or stated_context_window(self.model_name)
        if known is None:
            raise InvalidRequestError("neither the server nor config.json states a context window; set context_window")
        if asked is not None and not 0 < asked <= known:
            raise InvalidRequestError(f"context_window must be between 1 and the server's {known}, got {asked}")
        return asked or known

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))
