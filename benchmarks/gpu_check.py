"""Check and measure the engine on a GPU within a few minutes, what is worth most first.

    python -m benchmarks.gpu_check --minutes 4.3 --json benchmarks/results/gpu_check.json

Each figure is written to a file of lines (`--lines`, by default beside the results) as soon as it is there, so that
nothing is lost where the time is short or the machine breaks. A step that fails, hangs or ends its process leaves the
others alone. `--only` names steps; `make gpu-bundle` gathers what a machine without a network lacks.

Writes its own checkpoint in the shape of Hermes 2 Pro Mistral 7B (4.2 GB), or uses the one in `--folder`. Without a
CUDA device, or with `--small`, it runs on a small one, so that every line of it is known to work.
Exits with 1 where a kernel, a token or a logit is wrong, or a step failed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import _common
from benchmarks._gpu.slot import Slot, Step, stdout_log, work

# In order of worth: seconds of each.
LIMITS = {
    "limits": 40.0,
    "load": 90.0,
    "one_stream": 60.0,
    "profile": 40.0,
    "several_streams": 60.0,
    "prompts": 60.0,
    "drawn_tokens": 60.0,
    "drafted_tokens": 60.0,
    "agent": 90.0,
    "tokens": 60.0,
    "graphs": 60.0,
    "logits": 60.0,
    "errors": 60.0,
    "kernel_times": 90.0,
    "hidden_rows": 30.0,
    "attention_times": 60.0,
    "demo": 120.0,
    "many_streams": 90.0,
    "long_contexts": 60.0,
    "constrained_calls": 90.0,
    "generate": 60.0,
    "compiled": 120.0,
    "crossover": 40.0,
    "bitsandbytes": 90.0,
}
_VERSIONS = ("torch", "transformers", "safetensors", "llguidance", "triton", "autoawq", "bitsandbytes")


def steps() -> dict[str, Step]:
    """All steps, in order of worth."""
    from benchmarks._gpu import attention_steps, contender_steps, engine_steps, model_steps, product_steps

    run = {
        **{name: getattr(engine_steps, name) for name in LIMITS if hasattr(engine_steps, name)},
        "tokens": model_steps.tokens,
        "graphs": model_steps.graphs,
        "logits": model_steps.logits,
        "errors": product_steps.errors,
        "kernel_times": product_steps.times,
        "crossover": product_steps.crossover,
        "hidden_rows": attention_steps.hidden_rows,
        "attention_times": attention_steps.times,
        "generate": contender_steps.generate,
        "compiled": contender_steps.compiled,
        "bitsandbytes": contender_steps.bitsandbytes,
    }
    return {name: Step(name, limit, run[name]) for name, limit in LIMITS.items()}


def run_here(names: list[str], folder: Path, tokenizer: Path | None, *, small: bool) -> int:
    """Run steps in this process, for the one that watches it."""
    import torch

    from benchmarks._gpu.rig import FULL, SMALL, Rig

    log = stdout_log()
    has_gpu = torch.cuda.is_available()
    device = torch.device("cuda", torch.cuda.current_device()) if has_gpu else torch.device("cpu")
    log.write(machine=_common.machine(), versions=_common.versions(*_VERSIONS))
    rig = Rig(device, SMALL if small or not has_gpu else FULL, folder, tokenizer)
    known = steps()
    # A device that has failed once computes nothing more for this process.
    broken = getattr(torch, "AcceleratorError", ())
    return work([known[name] for name in names], rig, log, is_fatal=lambda error: isinstance(error, broken))


def show(line: dict[str, Any]) -> None:
    """Print a line for people."""
    if "name" in line:
        print(_common.row(line), flush=True)
        return
    for word in ("failed", "late", "died", "left_out"):
        if word in line:
            said = line.get("error") or line.get("reason") or line.get("said", "")
            print(
                f"# {line[word]}: {word.replace('_', ' ')}: {said.strip().splitlines()[-1] if said else ''}", flush=True
            )


def results(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures among the lines, and which steps have none."""
    beside = ("at", "where", "said")
    return [{key: value for key, value in line.items() if key not in beside} for line in lines if "name" in line]


def is_right(lines: list[dict[str, Any]]) -> bool:
    """Whether nothing is wrong and no step failed."""
    return all(line.get("holds") is not False and not {"failed", "late", "died"} & line.keys() for line in lines)


def main() -> int:
    """Run all steps that fit; the exit status says whether all was right."""
    parser = _common.parser(__doc__)
    parser.add_argument("--minutes", type=float, default=15.0, help="when to stop, whatever is left")
    parser.add_argument("--lines", type=Path, metavar="FILE", help="where each figure is written as it comes")
    parser.add_argument("--folder", type=Path, help="keep the checkpoints here, or use those that are there")
    parser.add_argument(
        "--tokenizer", type=Path, metavar="FOLDER", help="for the model under test; else bytes are tokens"
    )
    parser.add_argument("--small", action="store_true", help="a small model; also what runs where there is no GPU")
    parser.add_argument("--only", nargs="+", choices=LIMITS, metavar="STEP", help=f"of {', '.join(LIMITS)}")
    parser.add_argument("--here", action="store_true", help="run in this process; what the one that watches calls")
    options = parser.parse_args()
    is_small = options.small or options.quick
    names = options.only or list(LIMITS)
    if options.here:
        return run_here(names, options.folder, options.tokenizer, small=is_small)
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as scratch:
        folder = options.folder or Path(scratch)
        command = [sys.executable, "-m", "benchmarks.gpu_check", "--here", "--folder", str(folder)]
        command += [] if options.tokenizer is None else ["--tokenizer", str(options.tokenizer)]
        command += [*(["--small"] if is_small else []), "--only"]
        beside = Path(options.json).with_suffix(".jsonl") if options.json else Path(scratch) / "lines.jsonl"
        limits = {name: LIMITS[name] for name in names}
        slot = Slot(command, limits, seconds=60 * options.minutes, lines=options.lines or beside, show=show)
        lines = slot.run()
    if options.json:
        about = next((line for line in lines if "machine" in line), {"machine": {}, "versions": {}})
        _common.write("gpu_check", results(lines), about["machine"], about["versions"], options.json)
    return 0 if is_right(lines) else 1


def _memory_folder() -> str | None:
    """Where a checkpoint of some gigabytes is written and read at once, where there is such a place."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() and os.access(shared, os.W_OK) else None


if __name__ == "__main__":
    raise SystemExit(main())
