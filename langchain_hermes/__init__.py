"""Local Hermes models as LangChain chat models."""

from __future__ import annotations

from hermes_runtime._version import __version__
from langchain_hermes._errors import (
    HermesCheckpointError,
    HermesContextOverflowError,
    HermesDeviceMemoryError,
    HermesEngineError,
    HermesInvalidRequestError,
    HermesModelNotFoundError,
    HermesSchemaError,
    HermesTimeoutError,
    HermesToolChoiceError,
    HermesUnmetDemandError,
)
from langchain_hermes._registry import register_provider
from langchain_hermes.chat_models import ChatHermes
from langchain_hermes.output_parsers import HermesJsonOutputParser, HermesToolsOutputParser
from langchain_hermes.prompts import HermesPrompt

__all__ = [
    "ChatHermes",
    "HermesCheckpointError",
    "HermesContextOverflowError",
    "HermesDeviceMemoryError",
    "HermesEngineError",
    "HermesInvalidRequestError",
    "HermesJsonOutputParser",
    "HermesModelNotFoundError",
    "HermesPrompt",
    "HermesSchemaError",
    "HermesTimeoutError",
    "HermesToolChoiceError",
    "HermesToolsOutputParser",
    "HermesUnmetDemandError",
    "__version__",
    "register_provider",
]
