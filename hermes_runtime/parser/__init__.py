"""What a model wrote -> text, reasoning and tool calls, while it arrives."""

from hermes_runtime.parser.events import (
    Event,
    InvalidToolCallEvent,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallEvent,
)
from hermes_runtime.parser.stream_parser import Completion, StreamParser, parse_completion

__all__ = [
    "Completion",
    "Event",
    "InvalidToolCallEvent",
    "ReasoningDelta",
    "StreamParser",
    "TextDelta",
    "ToolCallDelta",
    "ToolCallEvent",
    "parse_completion",
]
