"""What each forward pass computes: of every stream its next token and its draft, of the prompts a chunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from hermes_runtime.engines.local.batch.costs import PassCosts
from hermes_runtime.engines.local.batch.limits import EngineLimits
from hermes_runtime.engines.local.batch.sequence import Sequence
from hermes_runtime.engines.local.cache.slots import SlotRow

_LEAST_CHUNK = 16


@dataclass(frozen=True, slots=True)
class Step:
    """What a pass adds to one sequence.

    Attributes:
        sequence: It.
        row: Its next tokens, prompt or draft included.
        logits: How many rows of logits are asked for, the last ones: where the next tokens are decided.
    """

    sequence: Sequence
    row: SlotRow
    logits: int

    @classmethod
    def of(cls, sequence: Sequence, room: int) -> Step:
        """Take all that is pending and the draft, or else as much of a prompt as there is room for."""
        pending = sequence.ids[sequence.cached :]
        is_whole = len(pending) <= room
        new = (*pending, *sequence.draft) if is_whole else pending[:room]
        row = SlotRow(sequence.slot.index, sequence.cached, tuple(new))
        return cls(sequence, row, sequence.undecided if is_whole else 0)


class Scheduler:
    """Plans passes, and learns from those that ran how long drafts and chunks may be.

    Args:
        limits: Bounds of the running batch.
        device: Where it runs.
    """

    def __init__(self, limits: EngineLimits, device: torch.device) -> None:
        self._patience = limits.patience
        self._chunk = limits.chunk_on(device)
        self._costs = PassCosts()

    def plan(self, running: list[Sequence], fail: Callable[[Sequence, Exception], None]) -> list[Step]:
        """Return the steps of the next pass, by slot.

        Args:
            running: The sequences in the cache, first those whose prompts come first; brought into the next pass's
                order.
            fail: Takes a sequence for which no draft could be made out of `running`.
        """
        prompts = [sequence for sequence in running if sequence.pending > 1]
        streams = [sequence for sequence in running if sequence.pending == 1]
        price = self._costs.price(len(streams))

        def has_draft(sequence: Sequence) -> bool:
            try:
                sequence.plan_draft(price)
            except Exception as error:  # noqa: BLE001 - whatever broke belongs to this request; the others go on
                fail(sequence, error)
                return False
            return True

        steps = [Step.of(sequence, 1) for sequence in streams if has_draft(sequence)]
        room = self._chunk_beside(len(streams))
        for sequence in prompts:
            if room > 0 and (sequence.pending > room or has_draft(sequence)):
                steps.append(Step.of(sequence, room))
                room -= len(steps[-1].row.ids)
        if prompts and prompts[0] in running:  # to the end of the line: long prompts take turns
            running.remove(prompts[0])
            running.append(prompts[0])
        return sorted(steps, key=lambda step: step.row.slot)

    def note(self, steps: list[Step], seconds: float) -> None:
        """Take note of how long a pass took."""
        self._costs.note(sum(len(step.row.ids) for step in steps), seconds)

    def _chunk_beside(self, streams: int) -> int:
        affordable = self._costs.tokens_within(self._patience) if streams else None
        return self._chunk if affordable is None else max(_LEAST_CHUNK, min(affordable, self._chunk))
