"""The options of HermesLLM."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, SecretStr

from hermes_runtime.options.fields import GenerationFields
from llama_index_hermes._structured import StructuredPrediction


class HermesFields(GenerationFields, StructuredPrediction):
    """An LLM's options; what they mean to a call is `_options`' to say."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    model: str = Field(description="A hub id, a local folder, or 'tiny-hermes', the embedded checkpoint.")
    engine: str = Field(
        default="local",
        description="What runs the model: 'local' or 'vllm', both in this process; base_url alone chooses 'server'.",
    )
    base_url: str | None = Field(
        default=None, description="Address of a completion server, such as 'http://localhost:8000/v1'."
    )
    api_key: SecretStr | None = Field(
        default=None, exclude=True, repr=False, description="Sent to the server at base_url as a bearer token."
    )
    engine_options: dict[str, Any] | None = Field(
        default=None,
        repr=False,
        description="What the engine takes beside the options here; see `hermes_runtime.load_engine`.",
    )
    device: str | None = Field(default=None, description="Torch device; unset takes the best one at hand.")
    kernel: str | None = Field(default=None, description="Kernel of 4-bit weights; unset takes the fastest at hand.")
    context_window: int | None = Field(
        default=None, gt=0, description="Prompt and answer together, in tokens; unset takes the checkpoint's."
    )
    dialect: str = Field(default="card", description="How the model is told of tools; see `hermes_runtime.DIALECTS`.")
    max_retries: int | None = Field(
        default=None,
        ge=0,
        description="Further tries where the engine failed before an answer began; unset is 0, and 2 for a server.",
    )
    constrained: bool = Field(
        default=True, description="Make malformed tool calls and JSON that breaks its schema impossible."
    )
    max_repairs: int = Field(
        default=0, ge=0, description="How often the model is shown a call that breaks its schema, and asked again."
    )
