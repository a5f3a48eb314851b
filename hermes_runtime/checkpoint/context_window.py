"""What can be known of a checkpoint's context window before a single weight is loaded."""

from __future__ import annotations

import json

from hermes_runtime.checkpoint.hub import CONFIG, find_local_folder
from hermes_runtime.errors import ModelNotFoundError

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
    try:
        folder = find_local_folder(model, weights=False)
        if folder is None:
            return None
        window = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("max_position_embeddings")
    except (ModelNotFoundError, OSError, ValueError, AttributeError):
        return None
    return window if isinstance(window, int) and window > 0 else None
