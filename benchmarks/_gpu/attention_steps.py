"""Which of torch's attentions serve a decoding pass, how long they take, and what they make of a hidden row."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks._common import Result
from benchmarks._gpu.rig import Rig
from benchmarks._gpu.slot import Log

_FRESH = 8  # lengths of keys that no attention has met
_ON_CPU = ("FLASH_ATTENTION", "MATH")
_ON_CUDA = ("CUDNN_ATTENTION", "EFFICIENT_ATTENTION", "FLASH_ATTENTION", "MATH")


@torch.inference_mode()
def hidden_rows(rig: Rig, log: Log) -> None:
    """What each attention answers to a query that may see nothing: zeros are harmless, no numbers are not."""
    query, keys, values = _tensors(rig, 512)
    for name in _names(rig):
        for what, mask in (
            ("a row that sees nothing", torch.full((1, 1, query.shape[2], 512), float("-inf"), device=rig.device)),
            ("one mask for all queries", torch.zeros(1, 1, 1, 512, device=rig.device).expand(1, 1, query.shape[2], -1)),
        ):
            try:
                with sdpa_kernel(getattr(SDPBackend, name)):
                    answer = torch.nn.functional.scaled_dot_product_attention(
                        query, keys, values, attn_mask=mask.to(query.dtype)
                    )
                    rig.wait()
            except RuntimeError as error:
                log.write(left_out=f"attention {name}: {what}", reason=str(error)[:200])
                continue
            share = float(answer.isnan().float().mean())
            log.figure(Result(f"attention {name}: {what}", share, "of the answer is no number"))


@torch.inference_mode()
def times(rig: Rig, log: Log) -> None:
    """One token of one stream, beside what reading its keys and values takes; the default, and each by name.

    Some are planned anew for each number of keys: their first call at a length says what that takes.
    """
    lengths = (256, 1024, 4096, 16384) if rig.is_cuda else (64,)
    for name in (None, *_names(rig)):
        shown = name or "by default"
        with nullcontext() if name is None else sdpa_kernel(getattr(SDPBackend, name)):
            try:
                for length in lengths:
                    took, nbytes = _time_of(rig, length)
                    share = nbytes / rig.bandwidth / took
                    log.figure(Result(f"attention {shown}, {length} keys", took * 1e6, "us", limit_share=share))
                new = _fresh_lengths(rig, lengths[0])
                log.figure(Result(f"attention {shown}, keys of a new length", new * 1e6, "us"))
            except RuntimeError as error:
                log.write(left_out=f"attention {shown}", reason=str(error)[:200])


def _time_of(rig: Rig, length: int) -> tuple[float, int]:
    """Return the seconds of one token, and how many bytes of keys and values it reads."""
    query, keys, values = _tensors(rig, length)
    mask = torch.zeros(1, 1, 1, length, device=rig.device, dtype=query.dtype).expand(1, 1, query.shape[2], -1)
    took = rig.seconds(lambda: torch.nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask))
    return took, keys.nbytes + values.nbytes


def _fresh_lengths(rig: Rig, length: int) -> float:
    took = 0.0
    for fresh in range(length + 1, length + 1 + _FRESH):
        query, keys, values = _tensors(rig, fresh)
        start = rig.wait()
        torch.nn.functional.scaled_dot_product_attention(query, keys, values)
        took += rig.wait() - start
    return took / _FRESH


def _names(rig: Rig) -> tuple[str, ...]:
    return _ON_CUDA if rig.is_cuda else _ON_CPU


def _tensors(rig: Rig, length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, keys and values as the engine folds them: heads that share keys are rows of one query."""
    shape = rig.plan.shape
    width = shape.hidden // shape.heads
    query = torch.randn(1, shape.kv_heads, shape.heads // shape.kv_heads, width, device=rig.device)
    keys, values = torch.randn(2, 1, shape.kv_heads, length, width, device=rig.device)
    return query.bfloat16(), keys.bfloat16(), values.bfloat16()
