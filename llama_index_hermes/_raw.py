"""A prompt that goes to the model as it stands: no roles, no tools, no parsing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from hermes_runtime.engines.base import (
    Engine,
    FinishReason,
    Generation,
    GenerationRequest,
    TokenDelta,
    TokenLogprob,
    Usage,
)
from hermes_runtime.errors import ContextWindowExceededError, InvalidRequestError
from hermes_runtime.parser import TextDelta
from hermes_runtime.turn import TurnRequest, TurnResult


class RawCompletion:
    """A running completion with the interface of a `Turn`.

    Args:
        engine: What computes it.
        prompt: Encoded with control tokens on: whoever formats a prompt writes its `<|im_start|>` himself. A BOS token
            is added where the prompt does not begin with one.
        options: Sampling, limits and stop strings; its messages are not used.

    Raises:
        InvalidRequestError: The options ask for what a raw prompt cannot give.
        ContextWindowExceededError: The prompt leaves no room for an answer.
    """

    def __init__(self, engine: Engine, prompt: str, options: TurnRequest) -> None:
        asked = (options.schema, options.regex, options.choices, options.tools or None)
        if any(option is not None for option in asked):
            raise InvalidRequestError(
                "a formatted prompt goes to the model as it is; response_format, regex, choices and tools need chat"
            )
        tokenizer = engine.tokenizer
        has_bos = bool(tokenizer.bos_token) and prompt.startswith(tokenizer.bos_token)
        prompt_ids = tuple(tokenizer.encode(prompt, add_special_tokens=not has_bos))
        if len(prompt_ids) >= engine.context_window:
            raise ContextWindowExceededError(len(prompt_ids), engine.context_window)
        self._engine = engine
        self._request = GenerationRequest(
            prompt_ids=prompt_ids,
            sampling=options.sampling,
            stop=options.stop,
            max_tokens=options.max_tokens,
            seed=options.seed,
            logprobs=options.logprobs,
            timeout=options.timeout,
        )
        self._generation: Generation | None = None
        self._cancelled = False
        self._text = ""
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._finish_reason: FinishReason | None = None

    def __iter__(self) -> Iterator[TextDelta]:
        generation = self._start()
        try:
            for delta in generation:
                yield from self._take(delta)
        finally:
            generation.cancel()

    async def __aiter__(self) -> AsyncIterator[TextDelta]:
        generation = self._start()
        try:
            async for delta in generation:
                for event in self._take(delta):
                    yield event
        finally:
            generation.cancel()

    def cancel(self) -> None:
        """Stop within one token; safe from any thread."""
        self._cancelled = True
        if self._generation is not None:
            self._generation.cancel()

    @property
    def result(self) -> TurnResult:
        """What was generated.

        Raises:
            RuntimeError: The completion has not been iterated to its end.
        """
        if self._generation is None or self._finish_reason is None:
            raise RuntimeError("the completion has no result before it was iterated to its end")
        usage = self._generation.usage or Usage(len(self._request.prompt_ids), len(self._token_ids))
        return TurnResult(
            content=self._text,
            reasoning="",
            tool_calls=(),
            invalid_tool_calls=(),
            finish_reason=self._finish_reason,
            usage=usage,
            repairs=0,
            token_ids=tuple(self._token_ids),
            logprobs=None if self._request.logprobs is None else tuple(self._logprobs),
        )

    def _start(self) -> Generation:
        self._generation = self._engine.submit(self._request)
        if self._cancelled:
            self._generation.cancel()
        return self._generation

    def _take(self, delta: TokenDelta) -> Iterator[TextDelta]:
        self._token_ids += delta.ids
        self._logprobs += delta.logprobs or ()
        self._finish_reason = delta.finish_reason or self._finish_reason
        if delta.text:
            self._text += delta.text
            yield TextDelta(delta.text)
