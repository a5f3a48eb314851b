"""Options of the LLM and of one call -> a `TurnRequest`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from hermes_runtime.answers.answer_type import response_schema
from hermes_runtime.dialects import resolve_dialect
from hermes_runtime.engines.base import GenerationRequest
from hermes_runtime.grammar import DEFAULT_MAX_CALLS
from hermes_runtime.messages import Message
from hermes_runtime.options.generation import SamplingParams
from hermes_runtime.options.values import stop_strings
from hermes_runtime.turn import TurnRequest, asked_logprobs
from llama_index_hermes._tools import asked_choice, tool_specs

_SAMPLING = tuple(field.name for field in fields(SamplingParams))
TURN_OPTIONS = (
    *_SAMPLING,
    "max_tokens",
    "stop",
    "seed",
    "timeout",
    "dialect",
    "constrained",
    "max_repairs",
    "logprobs",
    "top_logprobs",
)
OF_CALLS = frozenset(
    (
        *TURN_OPTIONS,
        "tools",
        "tool_choice",
        "tool_required",
        "parallel_tool_calls",
        "max_calls",
        "response_format",
        "regex",
        "choices",
    )
)
"""The options that a call takes."""


def turn_request(messages: Sequence[Message], defaults: Mapping[str, Any], overrides: Mapping[str, Any]) -> TurnRequest:
    """Join the LLM's own options and those of one call.

    Args:
        messages: The conversation.
        defaults: A value for each of `TURN_OPTIONS`.
        overrides: Some of `OF_CALLS`.

    Raises:
        InvalidRequestError: A value out of range.
        ToolChoiceError: The tool choice does not fit the tools.
    """
    given = {**defaults, **overrides}
    if overrides.get("logprobs") is False and overrides.get("top_logprobs") is None:
        given["top_logprobs"] = None  # turned off for this call, whatever the LLM's own options are
    probe = generation_options(given)
    specs = tool_specs(given.get("tools", ()))
    return TurnRequest(
        messages,
        tools=specs,
        tool_choice=asked_choice(given.get("tool_choice"), specs, tool_required=given.get("tool_required", False)),
        parallel_tool_calls=given.get("parallel_tool_calls", True),
        max_calls=given.get("max_calls", DEFAULT_MAX_CALLS),
        schema=response_schema(given.get("response_format")),
        regex=given.get("regex"),
        choices=given.get("choices"),
        dialect=resolve_dialect(given["dialect"]),
        constrained=given["constrained"],
        sampling=probe.sampling,
        max_tokens=probe.max_tokens,
        stop=probe.stop,
        seed=probe.seed,
        timeout=probe.timeout,
        logprobs=probe.logprobs,
        max_repairs=given["max_repairs"],
    )


def generation_options(given: Mapping[str, Any]) -> GenerationRequest:
    """Check the options of a generation, in the object that will carry them, before a prompt is made.

    Raises:
        InvalidRequestError: A value out of range.
    """
    return GenerationRequest(
        prompt_ids=(0,),
        sampling=SamplingParams(**{name: given[name] for name in _SAMPLING}),
        max_tokens=given["max_tokens"],
        stop=tuple(stop_strings(given["stop"])),
        seed=given["seed"],
        timeout=given["timeout"],
        logprobs=asked_logprobs(given["logprobs"], given["top_logprobs"]),
    )
