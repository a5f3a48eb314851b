"""What can be known of a model without loading it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW

import hermes_runtime

_TINY_HERMES = "tiny-hermes"
_TINY_FOLDER = Path(hermes_runtime.__file__).parent / "tiny" / "checkpoint"
_CONFIG = "config.json"


@lru_cache(maxsize=64)
def context_window_of(model: str) -> int:
    """Return the context window that a checkpoint's `config.json` states, read once and without any network.

    Args:
        model: As in `HermesLLM.model`. A hub id is looked up among the files downloaded already.

    Returns:
        Tokens; LlamaIndex's own default of 3900 where no config is at hand.
    """
    for path in _config_paths(model):
        if path.is_file():
            window = json.loads(path.read_text(encoding="utf-8")).get("max_position_embeddings")
            return window if isinstance(window, int) and window > 0 else DEFAULT_CONTEXT_WINDOW
    return DEFAULT_CONTEXT_WINDOW


def _config_paths(model: str) -> Iterator[Path]:
    yield (_TINY_FOLDER if model == _TINY_HERMES else Path(model).expanduser()) / _CONFIG
    try:
        cached = try_to_load_from_cache(model, _CONFIG)
    except HFValidationError:  # a path, not a hub id
        return
    if isinstance(cached, str):
        yield Path(cached)
