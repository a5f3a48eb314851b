"""One assistant turn: prompt, constraint, engine and parser joined into a stream of events."""

from hermes_runtime.turn.attempt import TurnFinishReason, TurnResult
from hermes_runtime.turn.turn import RawTurn, RunningTurn, Turn, TurnRequest, asked_logprobs, render

__all__ = [
    "RawTurn",
    "RunningTurn",
    "Turn",
    "TurnFinishReason",
    "TurnRequest",
    "TurnResult",
    "asked_logprobs",
    "render",
]
