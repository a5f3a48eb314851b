"""Everything that one turn depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from hermes_runtime.dialects import Dialect, resolve_dialect
from hermes_runtime.engines.retries import check_max_retries
from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.grammar.build import DEFAULT_MAX_CALLS
from hermes_runtime.messages import (
    MessageLike,
    ToolChoiceLike,
    ToolLike,
)
from hermes_runtime.options.generation import OPTION_NAMES, GenerationOptions, takes_flat_options
from hermes_runtime.schema.edits import without_null_keywords


@takes_flat_options
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
        options: Sampling, and the limits of one attempt.
        max_repairs: How often the model is shown a call that is malformed or breaks its schema, and asked again. Where
            no grammar keeps them, so is an answer that misses the tool choice, the choices or the schema.
        max_retries: How often a generation is submitted again when the engine fails before its first token; None is 0
            in this process and 2 for a server. Bad input, timeouts and answers that have begun are never retried.
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
    options: GenerationOptions = field(default_factory=GenerationOptions)
    max_repairs: int = 0
    max_retries: int | None = None
    allow_unmet: bool = False

    def __post_init__(self) -> None:
        check_max_retries(self.max_retries)
        object.__setattr__(self, "schema", without_null_keywords(self.schema))


OF_MODELS = (*OPTION_NAMES, "dialect", "constrained", "max_repairs", "max_retries")
"""The options that a model has and that a call may give otherwise, in both frameworks."""
OF_CALLS = (
    *OF_MODELS,
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "max_calls",
    "response_format",
    "regex",
    "choices",
)
"""The options that a call takes in both frameworks."""
_TAKEN = frozenset(part.name for part in fields(TurnRequest)) - {
    "messages",
    "tools",
    "tool_choice",
    "schema",
    "options",
}


def turn_request(
    messages: Sequence[MessageLike],
    options: Mapping[str, Any],
    *,
    tools: Sequence[ToolLike],
    tool_choice: ToolChoiceLike,
    schema: Mapping[str, Any] | None,
) -> TurnRequest:
    """Return the request of a call.

    Args:
        messages: The conversation.
        options: The model's own with the call's laid over them; what a framework has its own forms of is given beside.
        tools: What may be called.
        tool_choice: Which calls may or must be made.
        schema: JSON Schema that the final answer follows.

    Raises:
        InvalidRequestError: An option that cannot be honored.
    """
    generation = checked_options(options)
    taken = {name: options[name] for name in _TAKEN if name in options}
    return TurnRequest(messages, tools=tools, tool_choice=tool_choice, schema=schema, options=generation, **taken)


def checked_options(options: Mapping[str, Any]) -> GenerationOptions:
    """Return the options of a generation; refuse what no call could honor, without a conversation or an engine.

    Raises:
        InvalidRequestError: Names the option and its value.
    """
    resolve_dialect(options["dialect"])
    check_max_retries(options["max_retries"])
    repairs = options["max_repairs"]
    if isinstance(repairs, bool) or not isinstance(repairs, int) or repairs < 0:
        raise InvalidRequestError(f"max_repairs must be an integer of at least 0, got {repairs!r}")
    for name in ("constrained", "parallel_tool_calls", "logprobs"):
        if not isinstance(options.get(name), bool | None):
            raise InvalidRequestError(f"{name} must be True or False, got {options[name]!r}")
    return GenerationOptions.of(options)
