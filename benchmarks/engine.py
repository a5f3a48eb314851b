"""The local engine on a 7B-shaped random AWQ checkpoint with Mistral's tokenizer, beside what transformers offers.

An agent's conversation, constrained calls, eight streams and one stream, each beside the usual way in the same run.

    python -m benchmarks.engine --json FILE          # the whole model, about half an hour on two cores
    python -m benchmarks.engine --quick              # two of its 32 layers
    python -m benchmarks.engine --small              # a model of a few megabytes: the engine's own cost
    python -m benchmarks.engine --soak 2000          # mixed requests from threads and tasks, see benchmarks/_soak.py
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks import _common
from benchmarks._common import Result
from benchmarks._engine_scenarios import Bench, agent, calls, concurrent, stream
from benchmarks._random_checkpoint import SEVEN_B, Shape, write_random_checkpoint
from benchmarks._soak import soak
from hermes_runtime.options.generation import SamplingParams
from hermes_runtime.weights.loader import LoadedCheckpoint, load_checkpoint
from tests.support.mistral import IM_END, load_mistral_tokenizer

_CONTEXT = 4096


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured, see `Bench`."""

    shape: Shape
    turns: int
    calls: int
    tokens: int
    repeats: int


FULL = Plan(SEVEN_B, turns=6, calls=6, tokens=32, repeats=1)
QUICK = Plan(replace(SEVEN_B, layers=2), turns=4, calls=3, tokens=24, repeats=1)
SMALL = Plan(
    Shape(hidden=256, ffn=512, heads=8, kv_heads=4, vocab=SEVEN_B.vocab, context=_CONTEXT),
    turns=6,
    calls=10,
    tokens=64,
    repeats=2,
)
SCENARIOS = {"agent": agent, "calls": calls, "concurrent": concurrent, "stream": stream}


def load(folder: Path, shape: Shape, *, quantized: bool) -> LoadedCheckpoint:
    """A random checkpoint with Mistral's tokenizer, whose ids and end of turn the tools of the benchmark need."""
    if not (folder / "config.json").is_file():
        print(f"writing a random checkpoint to {folder}", flush=True)
        write_random_checkpoint(folder, shape, quantized=quantized)
    loaded = load_checkpoint(str(folder), progress=False)
    # Up to this context the window changes nothing, and transformers batches better without.
    loaded.model.config.sliding_window = None
    return replace(
        loaded,
        tokenizer=load_mistral_tokenizer(),
        eos_ids=(IM_END,),
        generation_defaults=SamplingParams(0.0, 1.0, 0, 0.0, 1.0),
        context_window=_CONTEXT,
    )


def _without_time_goal(result: Result) -> Result:
    # Counts are those of any model; the goals of times are the whole model's.
    return replace(result, goal=None, holds=None) if result.unit in ("s", "tokens/s") else result


def main() -> int:
    """Run the benchmark; the exit status of a soak says whether it passed."""
    parser = _common.parser(__doc__)
    parser.add_argument("--folder", type=Path, help="keep the checkpoint here, or use the one that is there")
    parser.add_argument("--small", action="store_true", help="a small model instead")
    parser.add_argument("--layers", type=int, help="so many of the 7B shape's 32 layers")
    parser.add_argument("--only", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS))
    parser.add_argument("--soak", type=int, metavar="N", help="run N mixed requests instead, on a small model")
    parser.add_argument(
        "--cpu-time", action="store_true", help="CPU seconds of one thread: for a machine that is in use"
    )
    options = parser.parse_args()
    plan = SMALL if options.small or options.soak else QUICK if options.quick else FULL
    if options.layers:
        plan = replace(plan, shape=replace(plan.shape, layers=options.layers))
    if options.cpu_time:
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        # The oracle's tokens are compared one by one after a soak, so that it computes in float32.
        checkpoint = load(options.folder or Path(scratch), plan.shape, quantized=not options.soak)
        if options.soak:
            figures = soak(checkpoint, options.soak)
        else:
            bench = Bench(
                checkpoint,
                plan.turns,
                plan.calls,
                plan.tokens,
                plan.repeats,
                time.process_time if options.cpu_time else time.perf_counter,
            )
            figures = []
            for name in options.only:
                print(f"measuring: {name}", flush=True)
                found = SCENARIOS[name](bench)
                figures += found if plan is FULL else [_without_time_goal(result) for result in found]
    _common.publish("engine", figures, _common.versions("torch", "transformers", "llguidance"), options.json)
    return int(bool(options.soak) and any(figure.holds is False for figure in figures))


if __name__ == "__main__":
    raise SystemExit(main())
