"""What LangChain is told of the model's abilities; agents and middleware decide by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.language_models.model_profile import ModelProfile

from hermes_runtime.checkpoint.context_window import stated_context_window
from hermes_runtime.dialects import resolve_dialect
from hermes_runtime.engines.registry import loaded_engine


def profile_of(engine_options: Mapping[str, Any], *, constrained: bool, dialect: str) -> ModelProfile:
    """Return the profile; nothing is loaded and nothing is fetched for it.

    Args:
        engine_options: As `load_engine` takes them.
        constrained: Forced calls and schemas of answers are kept by the constraint, where the engine takes one.
        dialect: One of them reasons aloud.
    """
    loaded = loaded_engine(**engine_options)
    keeps = constrained and (loaded is None or loaded.grammar_language is not None)
    profile = ModelProfile(
        open_weights=True,
        text_inputs=True,
        image_inputs=False,
        image_url_inputs=False,
        pdf_inputs=False,
        audio_inputs=False,
        video_inputs=False,
        image_tool_message=False,
        pdf_tool_message=False,
        text_outputs=True,
        image_outputs=False,
        audio_outputs=False,
        video_outputs=False,
        reasoning_output=resolve_dialect(dialect).reasoning is not None,
        tool_calling=True,
        tool_choice=keeps,
        tool_call_streaming=True,
        structured_output=keeps,
        temperature=True,
    )
    window = engine_options["context_window"]
    if window is None:
        window = stated_context_window(engine_options["model"]) if loaded is None else loaded.context_window
    return profile if window is None else {**profile, "max_input_tokens": int(window)}
