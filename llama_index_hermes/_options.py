"""Options of the LLM and of one call -> a `TurnRequest`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hermes_runtime.answers.answer_type import response_schema
from hermes_runtime.messages import Message
from hermes_runtime.turn import TurnRequest, request
from llama_index_hermes._tools import asked_choice, tool_specs

OF_CALLS = frozenset((*request.OF_CALLS, "tool_required"))
"""The options that a call takes."""


def turn_request(messages: Sequence[Message], options: Mapping[str, Any]) -> TurnRequest:
    """Return the turn to run.

    Args:
        messages: The conversation.
        options: The LLM's own with the call's laid over them.

    Raises:
        InvalidRequestError: A value out of range.
    """
    specs = tool_specs(options.get("tools", ()))
    required = options.get("tool_required", False)
    return request.turn_request(
        messages,
        options,
        tools=specs,
        tool_choice=asked_choice(options.get("tool_choice"), specs, tool_required=required),
        schema=response_schema(options.get("response_format")),
    )
