"""Check the CUDA path on a machine that has one: kernels against float64, then a 7B-shaped checkpoint.

python -m benchmarks.gpu_check --json benchmarks/results/gpu_check.json

Needs torch, transformers, safetensors, rich and psutil. Exits with 1 where a kernel is wrong.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks import _common
from benchmarks._common import Result, seconds
from benchmarks.awq import bytes_per_token, flops_per_token
from hermes_runtime.engines.local.awq import AwqWeight
from hermes_runtime.engines.local.kernels import CUDA_DENSE_ROWS, LINEAR_OF_KERNEL, Int4Linear, reference
from hermes_runtime.engines.local.loader import LoadedCheckpoint, load_checkpoint
from hermes_runtime.engines.local.random_checkpoint import SEVEN_B, random_weight, write_random_checkpoint

TOLERANCE = 6e-3  # of bfloat16 against float64, as in the tests
ROWS = (1, 2, 5, 64, CUDA_DENSE_ROWS + 3)
KERNELS = ("torch", "dequantize", "dense")


def check_kernels(device: torch.device) -> list[Result]:
    """The largest relative error of each kernel over shapes, groups and row counts."""
    found = []
    for kernel in KERNELS:
        worst = 0.0
        for rows, columns, group in ((4096, 1024, 128), (1024, 4096, 64), (256, 64, 32), (512, 512, 256), (96, 40, 32)):
            weight = random_weight(rows, columns, group, zero_point=True, random=torch.Generator().manual_seed(rows))
            layer = LINEAR_OF_KERNEL[kernel](weight, device, torch.bfloat16)
            for count in ROWS:
                x = torch.randn(count, rows, device=device).bfloat16()
                expected = reference(x, weight.to(device))
                worst = max(worst, float((layer(x).double() - expected).norm() / expected.norm()))
        goal = f"at most {TOLERANCE:g}"
        found.append(Result(f"kernel {kernel}: error", worst, "relative", goal=goal, holds=worst <= TOLERANCE))
    return found


def crossover(device: torch.device, weight: AwqWeight) -> list[Result]:
    """Torch's kernel beside a dense block, by rows: where `CUDA_DENSE_ROWS` belongs."""
    layer = LINEAR_OF_KERNEL["torch"](weight, device, torch.bfloat16)
    assert isinstance(layer, Int4Linear)
    found = []
    for rows in (1, 8, 16, 64, 128, 256, 512, 1024, 2048):
        x = torch.randn(rows, weight.in_features, device=device).bfloat16()
        int4 = seconds(lambda x=x: layer.int4(x), 10, device)
        dense = seconds(lambda x=x: torch.nn.functional.linear(x, layer.dense()), 10, device)
        found.append(Result(f"int4, {rows} rows", int4 * 1e3, "ms", "a dense block", int4 / dense))
    return found


def decode_linears(loaded: LoadedCheckpoint) -> float:
    """Seconds that all linear layers of one token take without launch overhead, from a CUDA graph."""
    layers = [module for module in loaded.model.modules() if isinstance(module, (Int4Linear, torch.nn.Linear))]
    inputs = {layer.in_features: torch.randn(1, layer.in_features, device=loaded.device).bfloat16() for layer in layers}
    for layer in layers:
        layer(inputs[layer.in_features])
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for layer in layers:
            layer(inputs[layer.in_features])
    return seconds(graph.replay, 10, loaded.device)


def whole_model(device: torch.device, folder: Path, layers: int, repeats: int) -> list[Result]:
    """Load, decode and prefill the 7B shape, with the distance to the limits of memory and arithmetic."""
    shape = replace(SEVEN_B, layers=layers)
    if not (folder / "config.json").is_file():
        write_random_checkpoint(folder, shape)
    torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    loaded = load_checkpoint(str(folder), device=str(device), kernel="torch")
    load = time.perf_counter() - start
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    found = [
        Result("load", load, "s", goal="at most 30 s", holds=load <= 30),
        Result("peak device memory of loading", torch.cuda.max_memory_allocated(device) / size, "x checkpoint"),
    ]
    bandwidth = _common.memory_bandwidth(device, 1 << 32)
    rate = _common.matmul_rate(device, torch.bfloat16, 8192)
    found += [
        Result("memory read", bandwidth / 1e9, "GB/s"),
        Result("bfloat16 matrix product", rate / 1e12, "TFLOP/s"),
    ]
    with torch.inference_mode():
        read = bytes_per_token(folder, shape) / bandwidth
        bare = decode_linears(loaded)
        found.append(Result("linear layers of one token, CUDA graph", bare * 1e3, "ms", limit_share=read / bare))
        for tokens in (256, 2048):
            ids = torch.randint(5, 200, (1, tokens), device=device)
            prefill = seconds(lambda ids=ids: loaded.model(ids, logits_to_keep=1), repeats, device)
            limit = tokens * flops_per_token(shape) / rate
            found.append(Result(f"prefill, {tokens} tokens", prefill * 1e3, "ms", limit_share=limit / prefill))
        output = loaded.model(ids, use_cache=True, logits_to_keep=1)
        times = []
        for _ in range(32):
            start = time.perf_counter()
            token = output.logits[:, -1:].argmax(-1)
            output = loaded.model(token, past_key_values=output.past_key_values, use_cache=True)
            torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
        decode = statistics.median(times)
        found.append(Result("decode, one token, eager", decode * 1e3, "ms", limit_share=read / decode))
    return found


def main() -> int:
    """Run all checks; the exit status says whether the kernels are right."""
    parser = _common.parser(__doc__)
    parser.add_argument("--folder", type=Path, help="keep the checkpoint here, or use the one that is there")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("this machine has no CUDA device")
    device = torch.device("cuda", torch.cuda.current_device())
    figures = check_kernels(device)
    random = torch.Generator().manual_seed(0)
    figures += crossover(device, random_weight(4096, 14336, 128, zero_point=True, random=random))
    with tempfile.TemporaryDirectory() as scratch:
        figures += whole_model(device, options.folder or Path(scratch), 2 if options.quick else 32, 3)
    _common.publish("gpu_check", figures, _common.versions("torch", "transformers", "safetensors"), options.json)
    return 0 if all(figure.holds is not False for figure in figures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
