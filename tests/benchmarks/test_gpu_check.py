"""`benchmarks.gpu_check` runs from end to end where there is no GPU, so that it works where there is one."""

from __future__ import annotations

import torch

from benchmarks import gpu_check


def test_the_gpu_check_runs_on_the_cpu(tmp_path):
    found = gpu_check.figures(torch.device("cpu"), gpu_check.SMALL, tmp_path)
    assert gpu_check.is_right(found)
    names = [result.name for result in found]
    decoded = "decode, 3 streams at 64 tokens"
    assert {"kernel torch: error", "attention MATH, 64 keys", "prefill, 64 tokens", decoded} <= set(names)
    checked = [result for result in found if result.holds is not None]
    assert len(checked) == len(gpu_check.kernels(torch.device("cpu"))) + 1
    assert all(result.limit_share is None or result.limit_share > 0 for result in found)
