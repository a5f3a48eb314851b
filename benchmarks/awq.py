"""Loading, decoding and prefilling a 7B-shaped AWQ checkpoint on the CPU, beside what else can run it.

`hermes` is the default kernel here, `kernel torch` and the like are the other ones that compute from 4 bits in a layout
of their own, `naive` is what torch's documentation suggests.

Each contender runs in a process of its own, one after another, on the same random weights (llama.cpp on a random GGUF
of the same shape in Q4_0, its nearest format). Contenders that are not installed are left out and named. They can be
given environments of their own:

    python -m benchmarks.awq --gptqmodel-python ENV/bin/python --llama-python ENV/bin/python --json FILE
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import _common
from benchmarks._common import Result
from benchmarks._random_checkpoint import SEVEN_B, Shape, write_random_checkpoint
from hermes_runtime.weights.kernels.table import KERNELS, choose_kernel

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    shape: Shape
    prompt_tokens: int
    decoded_tokens: int
    repeats: int


FULL = Plan(SEVEN_B, 256, 16, 2)
QUICK = Plan(replace(SEVEN_B, layers=4), 256, 8, 1)


def other_kernels() -> list[str]:
    """The kernels beside the default that run here and compute from 4 bits in a layout of their own."""
    cpu = torch.device("cpu")
    default = choose_kernel(None, cpu)
    return [name for name, row in KERNELS.items() if row.pair_bytes and name != default and not row.reason_against(cpu)]


def contenders(options: Any) -> dict[str, str]:
    """Contender -> Python that runs it; those not installed are left out with a word."""
    found = dict.fromkeys(("hermes", *(f"kernel {name}" for name in other_kernels()), "naive"), sys.executable)
    for name, package, python in (
        ("gptqmodel", "gptqmodel", options.gptqmodel_python),
        ("llama.cpp", "llama_cpp", options.llama_python),
    ):
        if python is not None:
            found[name] = str(python)
        elif importlib.util.find_spec(package) is not None:
            found[name] = sys.executable
        else:
            print(f"{name}: not installed, left out")
    return found


def run_contender(name: str, python: str, folder: Path, plan: Plan, *, cpu_time: bool) -> dict[str, float]:
    """Load time, peak memory, prefill and decode time of one contender, measured in a fresh process."""
    script = "benchmarks._llama_cpp" if name == "llama.cpp" else "benchmarks._torch_contender"
    work = {
        "contender": name,
        "folder": str(folder),
        "shape": {key: getattr(plan.shape, key) for key in plan.shape.__slots__},
        "prompt_tokens": plan.prompt_tokens,
        "decoded_tokens": plan.decoded_tokens,
        "repeats": plan.repeats,
        "cpu_time": cpu_time,
    }
    result = subprocess.run(
        [python, "-m", script, json.dumps(work)],
        cwd=ROOT,
        env=os.environ | ({"OMP_NUM_THREADS": "1"} if cpu_time else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise SystemExit(f"{name} failed:\n{result.stderr[-3000:]}")
    measured: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    print(f"{name}: {measured}", flush=True)
    return measured


def bytes_per_token(folder: Path, shape: Shape) -> int:
    """Weights that one decoded token reads: all of them but the input embedding."""
    files = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return files - shape.vocab * shape.hidden * 2


def flops_per_token(shape: Shape) -> int:
    """Multiplications and additions of the linear layers of one token."""
    return 2 * shape.layers * sum(rows * columns for rows, columns in shape.linears.values())


def results(
    measured: dict[str, dict[str, float]], plan: Plan, folder: Path, *, full: bool, cpu_time: bool
) -> list[Result]:
    """Ours beside each other contender, with goals and limits."""
    cpu = torch.device("cpu")
    clock, unit = (time.process_time, "CPU s") if cpu_time else (time.perf_counter, "s")
    bandwidth = _common.memory_bandwidth(cpu, clock=clock)
    rate = _common.matmul_rate(cpu, torch.float32, clock=clock)
    bytes_rate = _common.int8_rate(clock=clock)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    limits = {
        "decode": bytes_per_token(folder, plan.shape) / bandwidth,
        "prefill": plan.prompt_tokens * flops_per_token(plan.shape) / max(rate, bytes_rate),
    }
    ours = measured["hermes"]
    made = [
        Result("memory read", bandwidth / 1e9, "GB/s"),
        Result("float32 matrix product", rate / 1e9, "GFLOP/s"),
        Result("int8 matrix product", bytes_rate / 1e9, "GOP/s"),
        _with_goal("load", ours["load"], unit, "at most 30 s", ours["load"] <= 30, full=full),
        _with_goal(
            "peak memory of loading",
            ours["peak"] / size,
            "x checkpoint",
            "at most 1.35",
            ours["peak"] <= 1.35 * size,
            full=full,
        ),
    ]
    labels = {"decode": "decode, one token", "prefill": f"prefill, {plan.prompt_tokens} tokens"}
    for key, label in labels.items():
        made.append(Result(label, ours[key], unit, limit_share=limits[key] / ours[key]))
    rivals = [name for name in measured if name != "hermes"]
    for key, label in {"load": "load", **labels}.items():
        for name in rivals:
            theirs = measured[name][key]
            ratio, beside = ours[key] / theirs, f"{name} ({theirs:.3g} {unit})"
            # Two runs of one kernel differ by a few percent.
            goal = "at most its time" if name == "gptqmodel" and key != "load" else None
            made.append(Result(label, ours[key], unit, beside, ratio, goal, ratio <= 1.03 if goal else None))
    return made


def _with_goal(name: str, value: float, unit: str, goal: str, holds: bool, *, full: bool) -> Result:
    return Result(name, value, unit, goal=goal if full else None, holds=holds if full else None)


def main() -> int:
    """Run the benchmark."""
    parser = _common.parser(__doc__)
    parser.add_argument("--gptqmodel-python", type=Path, metavar="PYTHON", help="of an environment with gptqmodel")
    parser.add_argument(
        "--llama-python", type=Path, metavar="PYTHON", help="of an environment with llama-cpp-python and gguf"
    )
    parser.add_argument("--folder", type=Path, help="keep the checkpoints here, or use those that are there")
    parser.add_argument(
        "--cpu-time", action="store_true", help="CPU seconds of one thread: for a machine that is in use"
    )
    options = parser.parse_args()
    plan = QUICK if options.quick else FULL
    if options.cpu_time:
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        if not (folder / "config.json").is_file():
            print(f"writing a random checkpoint to {folder}", flush=True)
            write_random_checkpoint(folder, plan.shape)
        measured = {
            name: run_contender(name, python, folder, plan, cpu_time=options.cpu_time)
            for name, python in contenders(options).items()
        }
        figures = results(measured, plan, folder, full=not options.quick, cpu_time=options.cpu_time)
    used = _common.versions("torch", "transformers", "safetensors")
    for theirs in measured.values():
        used |= {
            key.removeprefix("version:"): str(value) for key, value in theirs.items() if key.startswith("version:")
        }
    _common.publish("awq", figures, used, options.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
