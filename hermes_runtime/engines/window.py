"""What can be known of a checkpoint's context window before a single weight is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

TINY_HERMES = "tiny-hermes"
TINY_FOLDER = Path(__file__).parents[1] / "tiny" / "checkpoint"
_CONFIG = "config.json"
_KNOWN: dict[str, int] = {}


def stated_context_window(model: str) -> int | None:
    """Return the window that a checkpoint's config.json states, without any network; None where none is at hand.

    Args:
        model: A local folder, `"tiny-hermes"`, or a hub id, which is looked up among the files downloaded already.
    """
    # Only what is known is kept: a checkpoint may be downloaded at any time.
    if model not in _KNOWN and (window := _read_window(model)):
        _KNOWN[model] = window
    return _KNOWN.get(model)


def _read_window(model: str) -> int | None:
    for path in _config_paths(model):
        try:
            window = json.loads(path.read_text(encoding="utf-8")).get("max_position_embeddings")
        except (OSError, ValueError, AttributeError):
            continue
        return window if isinstance(window, int) and window > 0 else None
    return None


def _config_paths(model: str) -> Iterator[Path]:
    yield (TINY_FOLDER if model == TINY_HERMES else Path(model).expanduser()) / _CONFIG
    # Imported when it is needed, like all that costs time and may not be.
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415
    from huggingface_hub.errors import HFValidationError  # noqa: PLC0415

    try:
        cached = try_to_load_from_cache(model, _CONFIG)
    except HFValidationError:  # a path, not a hub id
        return
    if isinstance(cached, str):
        yield Path(cached)
