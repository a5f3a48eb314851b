"""What to say of calls that were cut off or cannot be read.

Nothing runs them, and agents of both frameworks take what text there is beside them, none at all too, for the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace

from hermes_runtime.messages import InvalidToolCall
from hermes_runtime.problems import Problem
from hermes_runtime.turn.result import TurnResult

logger = logging.getLogger(__name__)


def length_limit(prompt_tokens: int, max_tokens: int | None, context_window: int) -> str:
    """Return what ends an answer that the model does not end itself, and what to do about it, for `cut_off`."""
    if max_tokens is not None and max_tokens <= context_window - prompt_tokens:
        return "by max_tokens; raise max_tokens"
    return (
        f"by the context window of {context_window}, {prompt_tokens} of which the prompt takes; shorten the "
        "conversation or its tool descriptions, or raise context_window if the checkpoint allows it"
    )


def cut_off(call: InvalidToolCall, tokens: int, limit: str) -> InvalidToolCall:
    """Return a call that ended with the answer's length, with a problem that says so; any other call as it is.

    Args:
        call: The call.
        tokens: How many tokens the answer has; 0 where nobody knows.
        limit: See `length_limit`.
    """
    if call.problem.reason != "truncated":
        return call
    after = f"after {tokens} tokens " if tokens else ""
    return replace(call, problem=Problem.cut_off(after + limit))


def lost_call(name: str | None, problem: Problem) -> str:
    """Say what became of a call that must not run."""
    named = f"the call of {name!r}" if name else "a call"
    if problem.is_cut_off:
        return f"{named} was {problem.detail}"
    if problem.reason == "truncated":
        return f"{named} is not complete: {problem.detail}"
    return f"{named} cannot be read: {problem}"


def lost_calls(calls: Iterable[InvalidToolCall]) -> str:
    """Say what became of calls that must not run; empty where there are none."""
    return "; ".join(lost_call(call.name, call.problem) for call in calls)


def warn_of_lost_calls(result: TurnResult, *, constrained: bool, max_repairs: int) -> None:
    """Log that a turn's only calls cannot run, why, and what to do about it; one that was cancelled is no surprise.

    Text beside them changes nothing: an agent takes it for the answer. Beside a call that runs there is no warning: the
    conversation goes on, and the model sees what it wrote.

    Args:
        result: The finished turn.
        constrained: Whether a grammar was asked for.
        max_repairs: How often the model may be asked again.
    """
    lost = result.invalid_tool_calls
    if result.tool_calls or not lost or result.finish_reason == "cancelled":
        return
    said = [f"the answer has no call that can run: {lost_calls(lost)}"]
    # Where the length was short, the problem says what helps, and neither of these does.
    if not all(call.problem.is_cut_off for call in lost):
        said += [] if constrained else ["constrained=True makes malformed calls impossible"]
        said.append(f"max_repairs={max_repairs + 1} shows the model what was wrong and asks again")
    logger.warning("%s", "; ".join(said))
