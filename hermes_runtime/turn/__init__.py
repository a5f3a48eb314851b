"""One assistant turn: prompt, constraint, engine and parser joined into a stream of events."""

from hermes_runtime.turn.raw_turn import RawTurn
from hermes_runtime.turn.request import TurnRequest, turn_request
from hermes_runtime.turn.result import TurnFinishReason, TurnResult
from hermes_runtime.turn.running import RunningTurn
from hermes_runtime.turn.turn import Turn, render

__all__ = [
    "RawTurn",
    "RunningTurn",
    "Turn",
    "TurnFinishReason",
    "TurnRequest",
    "TurnResult",
    "render",
    "turn_request",
]
