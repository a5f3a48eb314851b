"""What both adapters share: prompt, parser, constraint and engines for Hermes models, without any framework."""

from hermes_runtime.dialects import DIALECTS, Dialect
from hermes_runtime.engines.base import Engine, Generation, GenerationRequest, SamplingParams, TokenDelta, Usage
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
from hermes_runtime.parser import Completion, StreamParser, parse_completion
from hermes_runtime.prompt import Prompt, build_prompt
from hermes_runtime.turn import Turn, TurnRequest, TurnResult

__version__ = "0.1.0"

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
    "GenerationRequest",
    "GenerationTimeoutError",
    "HermesError",
    "InvalidRequestError",
    "InvalidToolCall",
    "ModelNotFoundError",
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
    "__version__",
    "build_prompt",
    "load_engine",
    "parse_completion",
]
