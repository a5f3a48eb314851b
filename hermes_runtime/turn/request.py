"""Everything that one turn depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hermes_runtime.dialects import Dialect
from hermes_runtime.errors import (
    InvalidRequestError,
)
from hermes_runtime.grammar.build import DEFAULT_MAX_CALLS
from hermes_runtime.messages import (
    MessageLike,
    ToolChoiceLike,
    ToolLike,
)
from hermes_runtime.options.generation import SamplingParams
from hermes_runtime.schema.edits import without_null_keywords


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """Everything one assistant turn depends on.

    Attributes:
        messages: The conversation; message objects or OpenAI-style dicts.
        tools: What may be called.
        tool_choice: Which calls may or must be made; see `ToolChoice.coerce`.
        parallel_tool_calls: Whether one turn may make several calls.
        max_calls: Upper bound on the calls of the turn.
        schema: JSON Schema that the final answer follows; an empty one means any JSON object. Keywords that are null
            are left out.
        regex: Regular expression that the final answer matches as a whole (Rust `regex` syntax); only a grammar in
            Lark keeps it.
        choices: The final answer is one of these strings.
        dialect: How the model is told of tools.
        constrained: Whether a grammar makes malformed calls impossible. Without one, be it for this option or for an
            engine that takes none, the answer is checked when it is there: see `max_repairs`. An answer then ends with
            the last call that it may make, and `regex` is refused.
        sampling: Unset options come from the checkpoint.
        max_tokens: Upper bound on generated tokens of one attempt.
        stop: Strings that end the answer.
        seed: Makes sampling reproducible.
        timeout: Seconds for one attempt.
        logprobs: How many alternatives to report per token; None reports nothing.
        max_repairs: How often the model is shown a call that is malformed or breaks its schema, and asked again. Where
            no grammar keeps them, so is an answer that misses the tool choice, the choices or the schema.
        allow_unmet: Whether an answer that still misses the tool choice or the choices is returned, to a caller who
            checks it himself; else the turn fails.
    """

    messages: Sequence[MessageLike]
    tools: Sequence[ToolLike] = ()
    tool_choice: ToolChoiceLike = None
    parallel_tool_calls: bool = True
    max_calls: int = DEFAULT_MAX_CALLS
    schema: Mapping[str, Any] | None = None
    regex: str | None = None
    choices: Sequence[str] | None = None
    dialect: str | Dialect = "card"
    constrained: bool = True
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    timeout: float | None = None
    logprobs: int | None = None
    max_repairs: int = 0
    allow_unmet: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "schema", without_null_keywords(self.schema))


def asked_logprobs(logprobs: bool | None, top_logprobs: int | None) -> int | None:
    """Return `TurnRequest.logprobs` for the pair of options that hosted models have; `top_logprobs` alone is enough.

    Raises:
        InvalidRequestError: The two contradict each other.
    """
    if top_logprobs is None:
        return 0 if logprobs else None
    if logprobs is False:
        raise InvalidRequestError("top_logprobs needs logprobs, which is False; leave it out or set it to True")
    return top_logprobs
