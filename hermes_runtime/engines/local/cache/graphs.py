"""Decoding passes of a few fixed shapes, each captured once as a CUDA graph and then replayed.

A pass over a handful of tokens launches hundreds of small kernels, which on a large GPU takes longer than they do. A
graph launches them together, but always over the same addresses and shapes: so rows are filled up to one length, the
keys they may see rounded up, and what changes from pass to pass is written to one small tensor.
"""

from __future__ import annotations

import threading
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

import torch

from hermes_runtime.engines.local.cache.pool import rounded
from hermes_runtime.engines.local.cache.slots import SlotCache, SlotRow

_KEPT = 64  # graphs, the least recently replayed go first
_WORTH_CAPTURING = 3  # passes of a shape: a capture takes about as long as two
_FREE_TOKENS = 16  # in one pass; as many as the int4 kernels take for little more than one
_MOST_WASTE = 2  # times as many tokens as there are, beyond that
_ENOUGH_REFUSED = 4  # shapes that cannot be captured, where no other could: more are not tried
_ONE_CAPTURE = threading.Lock()  # at a time in a process: a capture begins by waiting for all that runs

Forward = Callable[[torch.Tensor, slice, int], torch.Tensor]
Capture = Callable[[Callable[[], torch.Tensor]], Callable[[], torch.Tensor]]


class FixedShape(NamedTuple):
    """What must be equal for two passes to be one graph.

    Attributes:
        first: The first slot.
        slots: How many slots from there.
        new: Tokens of each.
        length: How many positions of each slot can be seen.
    """

    first: int
    slots: int
    new: int
    length: int

    def start_of(self, row: SlotRow) -> int:
        """Return which token of the pass is the first of a row."""
        return (row.slot - self.first) * self.new


@dataclass(slots=True)
class _Graph:
    numbers: torch.Tensor  # ids, positions and slots, as `SlotCache.prepare_fixed` takes them
    replay: Callable[[], torch.Tensor]


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream that captures on a device run on: for each stream, libraries keep memory for ever.

    Torch's own belongs to the device that captured first.
    """
    with torch.cuda.device(device):
        return torch.cuda.Stream()  # type: ignore[no-untyped-call]


def cuda_capture(device: torch.device) -> Capture:
    """Return what runs a computation once, captures it and returns its replay; a replay overwrites earlier results.

    All graphs that it makes share the memory of their intermediate results.
    """
    pool = torch.cuda.graph_pool_handle()
    side = _side_stream(device)

    def capture(compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        graph = torch.cuda.CUDAGraph()
        with _ONE_CAPTURE, torch.cuda.device(device):
            own = torch.cuda.current_stream()
            side.wait_stream(own)
            try:
                with torch.cuda.stream(side):
                    compute()  # libraries set themselves up in the first run, which no graph may contain
                own.wait_stream(side)
                # Other engines of this process may compute on the GPU meanwhile.
                with torch.cuda.graph(graph, pool=pool, stream=side, capture_error_mode="thread_local"):
                    result = compute()
            finally:
                torch.cuda.set_stream(own)  # a capture that fails leaves its own behind

        def replay() -> torch.Tensor:
            with torch.cuda.device(device):
                graph.replay()
            return result

        return replay

    return capture


class FixedPasses:
    """Runs passes in fixed shapes, where that pays.

    Attributes:
        has_captured: The last pass was captured, which took longer than it ever will again.
        passes: How many were replayed, how many captured first, and how many left to a packed pass.

    Args:
        cache: Of the engine.
        forward: Computes the logits (T, columns) of all tokens: given the numbers of `SlotCache.prepare_fixed`, the
            slots, and how many positions each sees.
        draft: How many tokens a row has at most besides its first.
    """

    def __init__(self, cache: SlotCache, forward: Forward, *, draft: int) -> None:
        self._cache = cache
        self._forward = forward
        self._capture: Capture | None = None
        self._lengths = sorted({length for length in (1, 2, 4, 8) if length <= draft} | {draft + 1})
        self._graphs: OrderedDict[FixedShape, _Graph] = OrderedDict()
        self._met: Counter[FixedShape] = Counter()
        self._moves = 0
        self._refused: set[FixedShape] = set()
        self.has_captured = False
        self.passes: Counter[Literal["replayed", "captured", "eager"]] = Counter()

    def run(self, rows: Sequence[SlotRow], kept: Sequence[int]) -> torch.Tensor | None:
        """Compute a pass.

        Args:
            rows: See `SlotCache.prepare`.
            kept: Whose logits are wanted, counted over the tokens of all rows.

        Returns:
            (len(kept), columns), the logits; None where a packed pass serves better, or must.
        """
        logits = self._run(rows, kept)
        self.passes["eager" if logits is None else "captured" if self.has_captured else "replayed"] += 1
        return logits

    def _run(self, rows: Sequence[SlotRow], kept: Sequence[int]) -> torch.Tensor | None:
        self.has_captured = False
        if len(self._refused) >= _ENOUGH_REFUSED and not self._graphs:
            return None
        self._cache.make_room(rows)
        shape = self._shape(rows)
        if shape is None:
            return None
        if self._moves != self._cache.moves:  # graphs hold on to addresses
            self.forget()
            self._moves = self._cache.moves
        graph = self._graphs.get(shape) or self._captured(shape, rows)
        if graph is None:
            return None
        self._graphs.move_to_end(shape)
        graph.numbers[:2].copy_(torch.tensor(self._numbers(shape, rows)), non_blocking=True)
        logits = graph.replay()
        places = [shape.start_of(row) + place for row in rows for place in range(len(row.ids))]
        wanted = torch.tensor([places[token] for token in kept], dtype=torch.long, device=logits.device)
        return logits[wanted]

    def forget(self) -> None:
        """Let all graphs and their memory go."""
        self._graphs.clear()
        self._capture = None

    def _shape(self, rows: Sequence[SlotRow]) -> FixedShape | None:
        longest = max(len(row.ids) for row in rows)
        new = next((length for length in self._lengths if length >= longest), None)
        if new is None:
            return None
        slots = rows[-1].slot + 1 - rows[0].slot
        if slots * new > max(_FREE_TOKENS, _MOST_WASTE * sum(len(row.ids) for row in rows)):
            return None
        return FixedShape(rows[0].slot, slots, new, self._seen(max(row.end for row in rows)))

    def _seen(self, length: int) -> int:
        """Round up by an eighth or so, and to the cache's own steps: few shapes, and few keys that nobody sees."""
        step = rounded(max(1, length // 8))
        return min(-(-length // step) * step, self._cache.length)

    def _numbers(self, shape: FixedShape, rows: Sequence[SlotRow]) -> tuple[list[int], list[int]]:
        """Return ids and positions of all tokens; those that only fill up stand at the spare position."""
        ids = [0] * (shape.slots * shape.new)
        positions = [self._cache.spare] * len(ids)
        for row in rows:
            start = shape.start_of(row)
            ids[start : start + len(row.ids)] = row.ids
            positions[start : start + len(row.ids)] = range(row.start, row.end)
        return ids, positions

    def _captured(self, shape: FixedShape, rows: Sequence[SlotRow]) -> _Graph | None:
        self._met[shape] += 1
        if self._met[shape] < _WORTH_CAPTURING or shape in self._refused:
            return None
        slots = slice(shape.first, shape.first + shape.slots)
        each = [slot for slot in range(slots.start, slots.stop) for _ in range(shape.new)]
        numbers = torch.tensor([*self._numbers(shape, rows), each], device=self._cache.device)
        self.has_captured = True
        self._capture = self._capture or cuda_capture(self._cache.device)
        try:
            replay = self._capture(lambda: self._forward(numbers, slots, shape.length))
        except torch.OutOfMemoryError:
            self.forget()
            raise
        except RuntimeError as error:
            if isinstance(error.__context__, torch.OutOfMemoryError):  # ending the capture failed over it
                self.forget()
                raise error.__context__ from None
            self._refuse(shape, error)
            return None
        if len(self._graphs) >= _KEPT:
            self._graphs.popitem(last=False)
        self._graphs[shape] = _Graph(numbers, replay)
        return self._graphs[shape]

    def _refuse(self, shape: FixedShape, error: RuntimeError) -> None:
        """Leave a shape that cannot be captured to packed passes, and the others as they are."""
        self._capture = None
        if not self._refused:
            warnings.warn(
                f"some passes run without CUDA graphs, which takes longer: {error}", RuntimeWarning, stacklevel=4
            )
        self._refused.add(shape)
