"""What the benchmarks share: the shape of a result, the machine's description and its physical limits."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch


@dataclass(frozen=True, slots=True)
class Result:
    """One measured figure.

    Attributes:
        name: What was measured.
        value: The figure.
        unit: Its unit.
        ratio_to: What was measured beside it in the same run.
        ratio: `value` over that figure.
        goal: The mark, in words.
        holds: Whether the mark is reached.
        limit_share: Which part of the physical limit is used, 0 to 1, where one applies.
    """

    name: str
    value: float
    unit: str
    ratio_to: str | None = None
    ratio: float | None = None
    goal: str | None = None
    holds: bool | None = None
    limit_share: float | None = None


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options of every benchmark."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="a smaller run that ends in two minutes on two cores")
    made.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    return made


def machine() -> dict[str, Any]:
    """CPU, cores, GPU and memory of this machine."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = (line.partition(":") for line in info.read_text().splitlines())
        cpu = next((value.strip() for key, _, value in lines if key.strip() == "model name"), cpu)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": f"{cpu} ({torch.backends.cpu.get_cpu_capability()})",
        "cores": cores,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "memory": f"{psutil.virtual_memory().total / 1e9:.0f} GB",
    }


def versions(*distributions: str) -> dict[str, str]:
    """Versions of Python and of those distributions that are installed."""
    found = {"python": platform.python_version()}
    for name in distributions:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def publish(benchmark: str, results: Sequence[Result], used: dict[str, str], path: Path | None) -> None:
    """Print the results and, if asked for, write them to `path`."""
    rows = [asdict(result) for result in results]
    for result in rows:
        print(row(result))
    if path is not None:
        write(benchmark, rows, machine(), used, path)


def write(
    benchmark: str, results: Sequence[dict[str, Any]], where: dict[str, Any], used: dict[str, str], path: Path
) -> None:
    """Write results, and what they were measured with, to `path`."""
    document = {
        "benchmark": benchmark,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "command": shlex.join(["python", "-m", f"benchmarks.{benchmark}", *sys.argv[1:]]),
        "machine": where,
        "versions": used,
        "results": list(results),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def row(result: dict[str, Any]) -> str:
    """One line of the table that the docs show."""
    beside = f"{result['ratio']:.2f} x {result['ratio_to']}" if result.get("ratio") is not None else ""
    goal = result.get("goal") or ""
    if goal and result.get("holds") is not None:
        goal += ": yes" if result["holds"] else ": no"
    share = f"{result['limit_share']:.0%}" if result.get("limit_share") is not None else ""
    return f"| {result['name']} | {result['value']:.4g} {result['unit']} | {beside} | {goal} | {share} |"


def seconds(
    run: Callable[[], object],
    repeats: int = 3,
    device: torch.device | None = None,
    clock: Callable[[], float] = time.perf_counter,
    *,
    warm: bool = True,
) -> float:
    """The least time of `repeats` runs, after one that does not count unless `warm` is false."""

    def wait() -> None:
        if device is not None and device.type == "cuda":
            torch.cuda.synchronize(device)

    if warm:
        run()
    times = []
    for _ in range(repeats):
        wait()
        start = clock()
        run()
        wait()
        times.append(clock() - start)
    return min(times)


def memory_bandwidth(
    device: torch.device, nbytes: int = 1 << 30, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Bytes per second that a plain read of a large tensor reaches."""
    block = torch.ones(nbytes // 4, dtype=torch.float32, device=device)
    return block.nbytes / seconds(block.sum, 5, device, clock)


def matmul_rate(
    device: torch.device, dtype: torch.dtype, size: int = 2048, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Floating-point operations per second that a square matrix product reaches."""
    a = torch.randn(size, size, device=device, dtype=dtype)
    return 2 * size**3 / seconds(lambda: a @ a, 5, device, clock)


def int8_rate(size: int = 2048, clock: Callable[[], float] = time.perf_counter) -> float:
    """Operations per second that a square product of bytes reaches on the CPU."""
    a = torch.randint(-128, 128, (size, size), dtype=torch.int8)
    return 2 * size**3 / seconds(lambda: torch._int_mm(a, a), 5, a.device, clock)  # noqa: SLF001  # no public name
