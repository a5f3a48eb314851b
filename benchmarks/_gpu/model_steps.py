"""Whether the engine's tokens and logits are right on this device, whichever attention and kernels serve it."""

from __future__ import annotations

import random
from contextlib import closing
from dataclasses import replace

import torch

from benchmarks._common import Result
from benchmarks._gpu.engine_steps import GREEDY
from benchmarks._gpu.rig import Rig
from benchmarks._gpu.slot import Log
from benchmarks._random_checkpoint import Shape, write_random_checkpoint
from hermes_runtime.engines.base import GenerationRequest
from hermes_runtime.engines.local.batch.limits import EngineLimits
from hermes_runtime.engines.local.engine import LocalEngine
from hermes_runtime.engines.local.generate import GenerateEngine
from hermes_runtime.weights.loader import load_checkpoint

_LOGITS_TOLERANCE = 3e-2  # of bfloat16 through a few layers, against float32
_CHOSEN_TOLERANCE = 0.05  # natural logarithm
_LAYERS = 4


def tokens(rig: Rig, log: Log) -> None:
    """Greedy tokens of a small float32 model, eight ragged requests at once, twice, beside `model.generate`."""
    folder = rig.folder / "float32"
    if not (folder / "config.json").is_file():
        write_random_checkpoint(folder, Shape(context=512), quantized=False)
    chance = random.Random(0)
    prompts = [(1, *chance.choices(range(100, 106), k=chance.randint(3, 80))) for _ in range(8)]
    requests = [
        GenerationRequest(prompt, replace(GREEDY, max_tokens=64)) for prompt in prompts
    ] * 2  # long enough for graphs
    loaded = load_checkpoint(str(folder), device=str(rig.device), dtype=torch.float32, progress=False)
    with closing(LocalEngine(loaded, limits=EngineLimits(chunk=32))) as engine:
        running = [engine.submit(request) for request in requests]
        ours = [[token for delta in generation for token in delta.ids] for generation in running]
    with closing(GenerateEngine(loaded)) as oracle:
        theirs = [[token for delta in oracle.submit(request) for token in delta.ids] for request in requests]
    wrong = sum(one != other for one, other in zip(ours, theirs, strict=True))
    name = f"answers that differ from model.generate, of {len(requests)}"
    log.figure(Result(name, wrong, "", goal="none", holds=not wrong))


@torch.inference_mode()
def logits(rig: Rig, log: Log) -> None:
    """Logits of each kernel in bfloat16 against float32, by norm, on a few layers of the model's widths."""
    folder = rig.folder / "few"
    if not (folder / "config.json").is_file():
        few = replace(rig.plan.shape, layers=min(_LAYERS, rig.plan.shape.layers), window=None)
        write_random_checkpoint(folder, few)
    ids = torch.tensor([[1, *range(5, 200)]], device=rig.device)
    found = {}
    for kernel, dtype in (("dequantize", torch.float32), ("torch", torch.bfloat16), ("dense", torch.bfloat16)):
        loaded = load_checkpoint(str(folder), device=str(rig.device), kernel=kernel, dtype=dtype, progress=False)
        found[kernel] = loaded.model(ids).logits[0].double()
    exact = found.pop("dequantize")
    for kernel, ours in found.items():
        error = float((ours - exact).norm() / exact.norm())
        goal = f"at most {_LOGITS_TOLERANCE:g}"
        same = float((ours.argmax(-1) == exact.argmax(-1)).float().mean())
        result = Result(
            f"logits, kernel {kernel}: error", error, "relative", goal=goal, holds=error <= _LOGITS_TOLERANCE
        )
        log.figure(result, same_best=same)


def graphs(rig: Rig, log: Log) -> None:
    """Log-probabilities of one greedy stream with CUDA graphs, beside the same without them."""
    if not rig.is_cuda:
        log.write(left_out="graphs", reason="there are none without a GPU")
        return
    found = []
    for is_on in (True, False):
        bounds = EngineLimits(slots=1, draft=0, graphs=is_on)
        with closing(LocalEngine(rig.loaded, context_window=1024, limits=bounds)) as engine:
            request = GenerationRequest((1, *range(300, 360)), replace(GREEDY, max_tokens=48, logprobs=5))
            found.append([entry for delta in engine.submit(request) for entry in delta.logprobs or ()])
    with_graphs, eager = found
    pairs = list(zip(with_graphs, eager, strict=True))
    same = next((place for place, (one, other) in enumerate(pairs) if one.id != other.id), len(pairs))
    worst = max((abs(one.logprob - other.logprob) for one, other in pairs[:same]), default=0.0)
    goal = f"at most {_CHOSEN_TOLERANCE:g}"
    result = Result(
        "graphs against eager passes", worst, "log-probability", goal=goal, holds=worst <= _CHOSEN_TOLERANCE
    )
    # Random logits are nearly equal: where two streams part, the first two candidates say whether that is why.
    parted = [entry.logprob for entry in pairs[same][1].top[:2]] if same < len(pairs) else None
    log.figure(result, same_tokens=same, of=len(pairs), parted_between=parted)
