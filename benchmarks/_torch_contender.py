"""One torch contender of `benchmarks.awq`, in a process of its own: takes its work as JSON, prints what it measured."""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hermes_runtime.weights.kernels.awq import AwqWeight, unpack_codes
from hermes_runtime.weights.kernels.table import KERNELS
from hermes_runtime.weights.loader import load_checkpoint


class NaiveLinear(nn.Module):
    """What a first reading of torch's documentation gives: codes as int32, packed by torch, one layer at a time."""

    def __init__(self, weight: AwqWeight, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        assert device.type == "cpu"
        codes = unpack_codes(weight.qweight).t().to(torch.int32).contiguous()
        self.packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)  # noqa: SLF001  # no public name
        scales, zeros = weight.scales.float(), weight.zeros().float()
        self.pairs = torch.stack([scales, (8 - zeros) * scales], dim=-1).to(dtype)
        self.group_size, self.out_features = weight.group_size, weight.out_features

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] -> [..., N]."""
        rows = x.reshape(-1, x.shape[-1])
        y = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self.packed, self.group_size, self.pairs)  # noqa: SLF001  # as above
        return y.view(*x.shape[:-1], self.out_features)


def peak_memory() -> int:
    """The most memory that this process has held, in bytes; Linux only.

    Not from `getrusage`, whose figure begins with that of the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def measure(work: dict[str, Any]) -> dict[str, Any]:
    """Load once, prefill and decode several times."""
    if work["contender"] == "naive":
        KERNELS["torch"] = replace(KERNELS["torch"], make=NaiveLinear)
    kernel = {"hermes": "auto", "naive": "torch"}.get(work["contender"], work["contender"].removeprefix("kernel "))
    clock = time.process_time if work["cpu_time"] else time.perf_counter
    start = clock()
    loaded = load_checkpoint(work["folder"], device="cpu", kernel=kernel, progress=False)
    load = clock() - start
    peak = peak_memory()
    model = loaded.model
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 200, (1, work["prompt_tokens"]), generator=generator)
    prefills, decodes = [], []
    with torch.inference_mode():
        start = clock()
        model(ids[:, :8])  # gptqmodel compiles on its first forward
        first = clock() - start
        for _ in range(work["repeats"]):
            start = clock()
            output = model(ids, use_cache=True, logits_to_keep=1)
            prefills.append(clock() - start)
        for _ in range(work["decoded_tokens"]):
            start = clock()
            token = output.logits[:, -1:].argmax(-1)
            output = model(token, past_key_values=output.past_key_values, use_cache=True)
            decodes.append(clock() - start)
    found: dict[str, Any] = {"load": load, "first": first, "peak": peak}
    found |= {"prefill": min(prefills), "decode": statistics.median(decodes)}
    if kernel == "gptqmodel":
        found["version:gptqmodel"] = metadata.version("gptqmodel")
    return found


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
