"""4-bit products: against float64, and timed over weights of which each layer has its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks._common import Result
from benchmarks._gpu.rig import Rig
from benchmarks._gpu.slot import Log
from benchmarks._random_checkpoint import random_weight
from hermes_runtime.weights.kernels.awq import AwqWeight, pack_codes
from hermes_runtime.weights.kernels.linear import Int4Linear, int4_linear, reference
from hermes_runtime.weights.kernels.table import KERNELS, Kernel

_CHECKED = ((1024, 512, 128), (512, 1024, 64), (256, 64, 32), (512, 512, 256), (96, 40, 32))


def kernels(device: torch.device) -> list[Kernel]:
    """Those that make a layer here, torch's first: the others are compared with it."""
    rows = [row for row in KERNELS.values() if row.make is not None and row.reason_against(device) is None]
    return sorted(rows, key=lambda row: row.name != "torch")


def errors(rig: Rig, log: Log) -> None:
    """The largest relative error of each kernel over shapes, groups, zero points of 0 to 15, and row counts."""
    for kernel in kernels(rig.device):
        worst, where = 0.0, ""
        for rows, columns, group in _CHECKED:
            weight = _any_zeros(rows, columns, group)
            layer = kernel.make(weight, rig.device, torch.bfloat16)
            on_device = weight.to(rig.device)
            for count in rig.plan.rows:
                x = torch.randn(count, rows, generator=torch.Generator().manual_seed(count)).to(rig.device).bfloat16()
                expected = reference(x, on_device)
                error = float((layer(x).double() - expected).norm() / expected.norm())
                if not error <= worst:  # and not what is no number
                    worst, where = error, f"[{rows}, {columns}] in groups of {group}, {count} rows"
        goal = f"at most {kernel.error:g}"
        result = Result(f"kernel {kernel.name}: error", worst, "relative", goal=goal, holds=worst <= kernel.error)
        log.figure(result, where=where)


@torch.inference_mode()
def times(rig: Rig, log: Log) -> None:
    """All linear layers of a pass, by kernel and rows, beside what reading their 4-bit weights takes."""
    first: dict[int, float] = {}
    for kernel in kernels(rig.device):
        layers = _layers(rig, kernel)
        nbytes = _stored_bytes(rig)
        for rows in rig.plan.timed_rows:
            took = rig.seconds(_pass(rig, layers, rows))
            beside = None if kernel.name == "torch" else "kernel torch"
            ratio = None if beside is None else took / first[rows]
            first.setdefault(rows, took)
            name = f"kernel {kernel.name}: linear layers of a pass of {rows} rows"
            log.figure(Result(name, took * 1e3, "ms", beside, ratio, limit_share=nbytes / rig.bandwidth / took))


@torch.inference_mode()
def crossover(rig: Rig, log: Log) -> None:
    """Torch's kernel beside a dense block that is unpacked for each product: where `CUDA_DENSE_ROWS` belongs."""
    if not rig.is_cuda:
        log.write(left_out="crossover", reason="blocks are unpacked whole on a GPU only")
        return
    shape = rig.plan.shape
    weight = random_weight(shape.hidden, shape.ffn, 128, zero_point=True, random=torch.Generator().manual_seed(0))
    layer = int4_linear(weight, rig.device, torch.bfloat16)
    assert isinstance(layer, Int4Linear)
    log.figure(Result("unpacking one block", rig.seconds(layer.dense) * 1e3, "ms"))
    for rows in (16, 64, 128, 256, 512, 1024, 2048):
        x = torch.randn(rows, shape.hidden, device=rig.device).bfloat16()
        int4 = rig.seconds(lambda x=x: layer.int4(x))
        dense = rig.seconds(lambda x=x: torch.nn.functional.linear(x, layer.dense()))
        log.figure(Result(f"int4 product of {rows} rows", int4 * 1e3, "ms", "a dense block", int4 / dense))


def _any_zeros(rows: int, columns: int, group: int) -> AwqWeight:
    """A random layer whose zero points are all that 4 bits can say."""
    random = torch.Generator().manual_seed(rows)
    weight = random_weight(rows, columns, group, zero_point=True, random=random)
    zeros = torch.randint(0, 16, (weight.scales.shape[0], columns), dtype=torch.int32, generator=random)
    return replace(weight, qzeros=pack_codes(zeros))


def _layers(rig: Rig, kernel: Kernel) -> list[list[tuple[int, torch.nn.Module]]]:
    """Linear layers of each block, with how many inputs they have."""
    random = torch.Generator().manual_seed(1)
    shapes = rig.plan.shape.linears.values()
    one = [(rows, random_weight(rows, columns, 128, zero_point=True, random=random)) for rows, columns in shapes]
    return [
        [(rows, kernel.make(weight, rig.device, torch.bfloat16)) for rows, weight in one]
        for _ in range(rig.plan.layers)
    ]


def _stored_bytes(rig: Rig) -> float:
    """Codes, scales and zero points of all layers as they are stored, in groups of 128."""
    elements = sum(rows * columns for rows, columns in rig.plan.shape.linears.values())
    return rig.plan.layers * elements * (4 + (16 + 4) / 128) / 8


def _pass(rig: Rig, layers: list[list[tuple[int, torch.nn.Module]]], rows: int) -> Callable[[], None]:
    inputs = {width: torch.randn(rows, width, device=rig.device).bfloat16() for width, _ in layers[0]}

    def run() -> None:
        for block in layers:
            for width, layer in block:
                layer(inputs[width])

    return run
