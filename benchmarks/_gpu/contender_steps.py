"""What a user would get on this device without us: one stream, greedy, the same shape with random weights."""

from __future__ import annotations

import importlib.util
import time
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks._common import Result
from benchmarks._gpu.rig import IDS, Rig
from benchmarks._gpu.slot import Log

_PROMPT = 128
_WARM = 8  # tokens, in which whatever compiles has compiled


def generate(rig: Rig, log: Log) -> None:
    """`model.generate` over bfloat16 weights."""
    _measure(rig, log, "transformers, bfloat16", _dense(rig))


def compiled(rig: Rig, log: Log) -> None:
    """The same with a static cache, for which transformers compiles the forward pass on a GPU."""
    _measure(rig, log, "transformers, bfloat16, static cache, compiled", _dense(rig), cache_implementation="static")


def bitsandbytes(rig: Rig, log: Log) -> None:
    """The code of the model card: 4 bits by bitsandbytes."""
    if importlib.util.find_spec("bitsandbytes") is None:
        log.write(left_out="bitsandbytes", reason="it is not installed")
        return
    import bitsandbytes as bnb

    model = _dense(rig)
    for module in list(model.model.layers.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.Linear):
                four = bnb.nn.Linear4bit(
                    child.in_features, child.out_features, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4"
                )
                four.weight = bnb.nn.Params4bit(child.weight.data.cpu(), requires_grad=False, quant_type="nf4")
                setattr(module, name, four.to(rig.device))
    _measure(rig, log, "the card's code, 4 bits by bitsandbytes", model)


def _dense(rig: Rig) -> Any:
    config = AutoConfig.from_pretrained(rig.checkpoint)
    del config.quantization_config
    config.eos_token_id = None
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with rig.device:
            return AutoModelForCausalLM.from_config(config).eval()
    finally:
        torch.set_default_dtype(before)


@torch.inference_mode()
def _measure(rig: Rig, log: Log, name: str, model: Any, **options: Any) -> None:
    tokens = 2 * rig.plan.tokens
    for length in (_PROMPT, max(rig.plan.prompts[:3])):
        ids = torch.randint(IDS.start, IDS.stop, (1, min(length, rig.plan.shape.context // 2)), device=rig.device)

        def run(count: int, ids: torch.Tensor = ids) -> float:
            start = rig.wait()
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=count,
                min_new_tokens=count,
                do_sample=False,
                pad_token_id=0,
                **options,
            )
            return rig.wait() - start

        begun = time.perf_counter()
        run(_WARM)
        log.figure(Result(f"{name}: first answer", time.perf_counter() - begun, "s"))
        first = min(run(1) for _ in range(2))
        whole = run(tokens + 1)
        log.figure(Result(f"{name}: prompt of {ids.shape[1]} tokens", first * 1e3, "ms"))
        log.figure(Result(f"{name}: decode after {ids.shape[1]} tokens", tokens / (whole - first), "tokens/s"))
