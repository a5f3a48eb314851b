"""A prompt that goes to the model as it stands."""

from __future__ import annotations

from collections.abc import Iterator

from hermes_runtime.engines.base import Engine
from hermes_runtime.errors import (
    InvalidRequestError,
)
from hermes_runtime.literals.escapes import well_formed
from hermes_runtime.parser.plain_text import VerbatimReader
from hermes_runtime.turn.attempt import Attempt
from hermes_runtime.turn.request import TurnRequest
from hermes_runtime.turn.running import RunningTurn


class RawTurn(RunningTurn):
    """A prompt that goes to the model as it stands: no roles, no tools, no parsing.

    Args:
        engine: What computes it.
        prompt: Encoded with control tokens on: whoever formats a prompt writes its `<|im_start|>` himself. A BOS token
            is added where the prompt does not begin with one.
        request: Sampling, limits and stop strings; its messages are not used.

    Raises:
        InvalidRequestError: The request asks for what a raw prompt cannot give.
        ContextWindowExceededError: The prompt leaves no room for an answer.
    """

    def __init__(self, engine: Engine, prompt: str, request: TurnRequest) -> None:
        super().__init__(engine, request)
        asked = (request.schema, request.regex, request.choices, request.tools or None)
        if any(option is not None for option in asked):
            raise InvalidRequestError(
                "a formatted prompt goes to the model as it is; a response schema, regex, choices and tools need chat"
            )
        tokenizer = engine.tokenizer
        has_bos = bool(tokenizer.bos_token) and prompt.startswith(tokenizer.bos_token)
        self._prompt_ids = tuple(tokenizer.encode(well_formed(prompt), add_special_tokens=not has_bos))
        self._check_room(self._prompt_ids)

    def _attempts(self) -> Iterator[Attempt]:
        attempt = Attempt(self._submit(self._prompt_ids), VerbatimReader())
        yield attempt
        self._result = attempt.result(self._count(attempt, self._prompt_ids), repairs=0)
