"""Remembers the ids that a model generated, so that the next prompt extends the last one token for token.

Frameworks hand a turn back as text, and text encoded anew rarely gives the ids that were sampled. A turn is recognized
by what it says *and* by the prompt it answered: another conversation in which the model said the same never matches.
"""

from __future__ import annotations

import json
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from threading import Lock

from hermes_runtime.messages import Assistant

_CAPACITY = 4096


class ReplayMap:
    """A bounded, thread-safe map from an assistant turn to its generated ids; the least recently used go first."""

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self._ids: OrderedDict[bytes, tuple[int, ...]] = OrderedDict()
        self._lock = Lock()

    def remember(self, prompt_ids: Sequence[int], turn: Assistant, generated: Sequence[int]) -> None:
        """Keep the ids that answered `prompt_ids` and read as `turn`."""
        key = _identity(prompt_ids, turn)
        with self._lock:
            self._ids[key] = tuple(generated)
            self._ids.move_to_end(key)
            while len(self._ids) > self._capacity:
                self._ids.popitem(last=False)

    def recall(self, prompt_ids: Sequence[int], turn: Assistant) -> tuple[int, ...] | None:
        """Return the ids of a turn at this place of this conversation, or None."""
        key = _identity(prompt_ids, turn)
        with self._lock:
            ids = self._ids.get(key)
            if ids is not None:
                self._ids.move_to_end(key)
            return ids


def _identity(prompt_ids: Sequence[int], turn: Assistant) -> bytes:
    # Arguments belong to the identity: a person may edit a call before it runs and keep its id.
    said = [
        turn.text.strip(),
        [[call.id, call.name, call.arguments] for call in turn.calls],
        [[call.id, call.arguments] for call in turn.invalid_calls],
    ]
    digest = blake2b(array("q", prompt_ids).tobytes(), digest_size=16)
    digest.update(json.dumps(said, sort_keys=True, default=str).encode("utf-8", "surrogatepass"))
    return digest.digest()
