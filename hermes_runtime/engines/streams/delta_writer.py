"""What a remote engine reports -> deltas as the local engine writes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from hermes_runtime.engines.base import FinishReason, GenerationRequest, TokenDelta, TokenLogprob, Usage
from hermes_runtime.engines.streams.channel import DeltaChannel
from hermes_runtime.engines.streams.detokenizer import Detokenizer, StopScanner
from hermes_runtime.errors import GenerationTimeoutError, HermesError


class DeltaWriter:
    """Writes one completion to its channel: whole characters, nothing of a stop string, one end.

    Args:
        channel: Where deltas go.
        request: The request that is answered.
        decode: Ids to text, control tokens included.
        end_ids: Ids that end a turn.
    """

    def __init__(
        self,
        channel: DeltaChannel,
        request: GenerationRequest,
        decode: Callable[[list[int]], str],
        end_ids: Iterable[int],
    ) -> None:
        self._channel = channel
        self._prompt_tokens = len(request.prompt_ids)
        self._timeout = request.options.timeout
        self._detokenizer = Detokenizer(decode)
        self._scanner = StopScanner(request.options)
        self._stop_ids = frozenset((*end_ids, *request.stop_ids))
        self.count = 0
        self.is_stopped = False

    def write_ids(self, ids: Sequence[int], logprobs: Sequence[TokenLogprob] | None = None) -> None:
        """Take new ids and, where they were asked for, the log-probability of each; what follows the end is dropped."""
        text: list[str] = []
        taken: list[int] = []
        for token in ids:
            if self.is_stopped:
                break
            taken.append(token)
            is_end = token in self._stop_ids
            text.append("" if is_end else self._scanner.feed(self._detokenizer.feed(token)))
            self.is_stopped = is_end or self._scanner.is_stopped
        if taken:
            self.count += len(taken)
            kept = None if logprobs is None else tuple(logprobs[: len(taken)])
            self._channel.put(TokenDelta(tuple(taken), "".join(text), kept))

    def write_text(self, text: str, logprobs: Sequence[TokenLogprob] | None = None) -> None:
        """Take new text of an engine that does not tell its ids, or tells them with log-probabilities only."""
        if not self.is_stopped and (text or logprobs):
            shown = self._scanner.feed(text)
            self.is_stopped = self._scanner.is_stopped
            self._channel.put(TokenDelta((), shown, None if logprobs is None else tuple(logprobs)))

    def end(self, reason: FinishReason, usage: Usage | None = None) -> None:
        """End the stream with what is held back; a stop that was met here is the reason, whatever was reported."""
        text = self._scanner.feed(self._detokenizer.flush()) + self._scanner.flush()
        self._channel.put(TokenDelta((), text, finish_reason="stop" if self.is_stopped else reason))
        self._channel.finish(usage or Usage(self._prompt_tokens, self.count))

    async def complete(self, work: Callable[[], Awaitable[None]], typed: Callable[[Exception], HermesError]) -> None:
        """Do the work that writes here, in the request's time; whatever it raises ends this channel and nothing else.

        Args:
            work: Writes the completion, its end included.
            typed: What its reader is told of an error that is none of the project's own.
        """
        try:
            async with asyncio.timeout(self._timeout):
                await work()
        except asyncio.CancelledError:
            self.end("cancelled")
        except HermesError as error:
            self._channel.fail(error)
        except TimeoutError:
            self._channel.fail(GenerationTimeoutError(f"no complete answer within {self._timeout} seconds"))
        except Exception as error:  # noqa: BLE001 - whatever broke belongs to this request; the next one must still run
            failure = typed(error)
            failure.__cause__ = error
            self._channel.fail(failure)
