"""What a finished turn is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hermes_runtime.engines.base import TokenLogprob, Usage
from hermes_runtime.messages import InvalidToolCall, ToolCall

TurnFinishReason = Literal["stop", "length", "tool_calls", "cancelled"]


@dataclass(frozen=True, slots=True)
class TurnResult:
    """A finished turn.

    Attributes:
        content: Text without any markup.
        reasoning: What the model thought aloud, in `<scratch_pad>` or `<think>`.
        tool_calls: Well-formed calls, in order.
        invalid_tool_calls: Calls that must not run.
        finish_reason: `tool_calls` where the turn ended by itself and made a call.
        usage: Token counts over all attempts.
        repairs: How many further attempts were needed.
        token_ids: The generated ids of the accepted attempt.
        logprobs: The logarithm of the probability of each id of the accepted attempt, where asked for.
    """

    content: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    invalid_tool_calls: tuple[InvalidToolCall, ...]
    finish_reason: TurnFinishReason
    usage: Usage
    repairs: int
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None
