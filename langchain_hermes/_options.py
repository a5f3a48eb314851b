"""What one call of the model depends on: its fields, what was bound or passed for this call, and the conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hermes_runtime.messages import Message
from hermes_runtime.turn import TurnRequest, request
from langchain_hermes._tools import response_schema, tool_specs

OF_MODELS = ("model", *request.OF_MODELS)
"""The options that a model has and that a call may give otherwise."""
OF_CALLS = frozenset((*OF_MODELS, *request.OF_CALLS))
"""The options that a call takes."""
# Bound by chains of this package that check the answer themselves.
_OF_CHAINS = frozenset(("allow_unmet",))
# LangChain's own, consumed before or beside the model: which way to stream, and what tracers are told.
_OF_LANGCHAIN = frozenset(("stream", "ls_structured_output_format", "structured_output_format"))
BESIDE_OPTIONS = _OF_CHAINS | _OF_LANGCHAIN
"""What calls have beside the options."""


def turn_request(messages: Sequence[Message], options: Mapping[str, Any], stop: Sequence[str] | None) -> TurnRequest:
    """Return the turn to run.

    Args:
        messages: The conversation.
        options: The model's own with the call's laid over them.
        stop: LangChain's own word for the option of this name, which wins.

    Raises:
        InvalidRequestError: An option that cannot be honored.
    """
    return request.turn_request(
        messages,
        options if stop is None else {**options, "stop": stop},
        tools=tool_specs(options.get("tools", ())),
        tool_choice=options.get("tool_choice"),
        schema=response_schema(options.get("response_format")),
    )
