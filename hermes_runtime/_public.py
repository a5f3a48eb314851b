"""The names that `hermes_runtime` offers; it imports them from here at the first use of one."""

from hermes_runtime.dialects import DIALECTS, Dialect
from hermes_runtime.engines.base import Engine, Generation, GenerationRequest, TokenDelta, Usage
from hermes_runtime.engines.registry import load_engine
from hermes_runtime.errors import (
    CheckpointError,
    ContextWindowExceededError,
    DeviceMemoryError,
    EngineError,
    GenerationTimeoutError,
    HermesError,
    InvalidRequestError,
    ModelNotFoundError,
    SchemaError,
    ToolChoiceError,
    UnmetDemandError,
)
from hermes_runtime.messages import Assistant, InvalidToolCall, System, ToolCall, ToolChoice, ToolResult, ToolSpec, User
from hermes_runtime.options.generation import GenerationOptions, SamplingParams
from hermes_runtime.parser.stream_parser import Completion, StreamParser, parse_completion
from hermes_runtime.problems import Problem
from hermes_runtime.prompt.build import Prompt, build_prompt
from hermes_runtime.turn.request import TurnRequest
from hermes_runtime.turn.result import TurnResult
from hermes_runtime.turn.turn import Turn

__all__ = [
    "DIALECTS",
    "Assistant",
    "CheckpointError",
    "Completion",
    "ContextWindowExceededError",
    "DeviceMemoryError",
    "Dialect",
    "Engine",
    "EngineError",
    "Generation",
    "GenerationOptions",
    "GenerationRequest",
    "GenerationTimeoutError",
    "HermesError",
    "InvalidRequestError",
    "InvalidToolCall",
    "ModelNotFoundError",
    "Problem",
    "Prompt",
    "SamplingParams",
    "SchemaError",
    "StreamParser",
    "System",
    "TokenDelta",
    "ToolCall",
    "ToolChoice",
    "ToolChoiceError",
    "ToolResult",
    "ToolSpec",
    "Turn",
    "TurnRequest",
    "TurnResult",
    "UnmetDemandError",
    "Usage",
    "User",
    "build_prompt",
    "load_engine",
    "parse_completion",
]
