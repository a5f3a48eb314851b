"""Checkpoints of random weights in any shape, for tests and for measuring without a download.

    python -m benchmarks._random_checkpoint FOLDER

writes one in the shape of Hermes 2 Pro Mistral 7B (4.1 GB) in about a minute.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from hermes_runtime.weights.kernels.awq import AwqWeight, dequantize, pack_codes

_SPECIAL_TOKENS = ("<unk>", "<s>", "</s>", "<|im_end|>", "<|im_start|>")
_CODE_SPREAD = 4.6  # standard deviation of a uniform code 0..15


@dataclass(frozen=True, slots=True)
class Shape:
    """Dimensions of a Mistral-architecture model; the defaults are small."""

    hidden: int = 128
    ffn: int = 256
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    vocab: int = 320
    window: int | None = None
    context: int = 512
    tied: bool = False

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Name within a block -> (K, N)."""
        kv = self.hidden // self.heads * self.kv_heads
        return {
            "self_attn.q_proj": (self.hidden, self.hidden),
            "self_attn.k_proj": (self.hidden, kv),
            "self_attn.v_proj": (self.hidden, kv),
            "self_attn.o_proj": (self.hidden, self.hidden),
            "mlp.gate_proj": (self.hidden, self.ffn),
            "mlp.up_proj": (self.hidden, self.ffn),
            "mlp.down_proj": (self.ffn, self.hidden),
        }


SEVEN_B = Shape(hidden=4096, ffn=14336, layers=32, heads=32, kv_heads=8, vocab=32032, window=4096, context=32768)
"""Mistral 7B v0.1 with Hermes 2 Pro's vocabulary."""


def write_random_checkpoint(
    folder: str | Path,
    shape: Shape | None = None,
    *,
    group_size: int = 128,
    zero_point: bool = True,
    quantized: bool = True,
    shard_bytes: int = 1 << 31,
    seed: int = 0,
) -> Path:
    """Write config, tokenizer (bytes and the ChatML tokens) and safetensors shards of at most about `shard_bytes`.

    The same seed gives the same weights whether `quantized` or not: without, they are dequantized, in float32.
    """
    shape, path = shape or Shape(), Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "vocab_size": shape.vocab,
        "max_position_embeddings": shape.context,
        "sliding_window": shape.window,
        "tie_word_embeddings": shape.tied,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "bos_token_id": _SPECIAL_TOKENS.index("<s>"),
        "eos_token_id": _SPECIAL_TOKENS.index("<|im_end|>"),
        "torch_dtype": "float16" if quantized else "float32",
    }
    if quantized:
        described = {"bits": 4, "group_size": group_size, "zero_point": zero_point, "modules_to_not_convert": None}
        config["quantization_config"] = {"quant_method": "awq", "version": "gemm", **described}
    (path / "config.json").write_text(json.dumps(config, indent=2))
    defaults = {key: config[key] for key in ("bos_token_id", "eos_token_id")} | {"do_sample": True, "temperature": 0.8}
    (path / "generation_config.json").write_text(json.dumps(defaults))
    _byte_tokenizer().save_pretrained(path)
    _save_shards(path, _tensors(shape, group_size, zero_point, quantized, seed), shard_bytes)
    return path


def _tensors(
    shape: Shape, group_size: int, zero_point: bool, quantized: bool, seed: int
) -> Iterator[tuple[str, Tensor]]:
    random = torch.Generator().manual_seed(seed)
    wide = torch.float16 if quantized else torch.float32

    def dense(rows: int, columns: int, spread: float) -> Tensor:
        return (torch.randn(rows, columns, generator=random) * spread).half().to(wide)

    def norm() -> Tensor:
        return (1 + 0.1 * torch.randn(shape.hidden, generator=random)).half().to(wide)

    yield "model.embed_tokens.weight", dense(shape.vocab, shape.hidden, 1.0)
    for index in range(shape.layers):
        block = f"model.layers.{index}"
        for name, (rows, columns) in shape.linears.items():
            weight = random_weight(rows, columns, group_size, zero_point=zero_point, random=random)
            if not quantized:
                yield f"{block}.{name}.weight", dequantize(weight, torch.float32).t().contiguous()
                continue
            yield f"{block}.{name}.qweight", weight.qweight
            yield f"{block}.{name}.scales", weight.scales
            if weight.qzeros is not None:
                yield f"{block}.{name}.qzeros", weight.qzeros
        yield f"{block}.input_layernorm.weight", norm()
        yield f"{block}.post_attention_layernorm.weight", norm()
    yield "model.norm.weight", norm()
    if not shape.tied:
        yield "lm_head.weight", dense(shape.vocab, shape.hidden, 1 / sqrt(shape.hidden))


def random_weight(rows: int, columns: int, group_size: int, *, zero_point: bool, random: torch.Generator) -> AwqWeight:
    """A random layer [K, N] whose outputs are about as large as its inputs."""
    groups = rows // (rows if group_size == -1 else group_size)
    qweight = torch.randint(-(2**31), 2**31 - 1, (rows, columns // 8), dtype=torch.int32, generator=random)
    scales = (0.5 + torch.rand(groups, columns, generator=random)) / (_CODE_SPREAD * sqrt(rows))
    zeros = torch.randint(6, 11, (groups, columns), dtype=torch.int32, generator=random)
    return AwqWeight(qweight, scales.half(), pack_codes(zeros) if zero_point else None)


def _save_shards(path: Path, tensors: Iterator[tuple[str, Tensor]], shard_bytes: int) -> None:
    shards: list[list[str]] = []
    pending: dict[str, Tensor] = {}
    total = size = 0

    def flush() -> None:
        shards.append(list(pending))
        save_file(pending, path / f"shard-{len(shards)}.safetensors", metadata={"format": "pt"})
        pending.clear()

    for name, tensor in tensors:
        if pending and size + tensor.nbytes > shard_bytes:
            flush()
            size = 0
        pending[name] = tensor
        size += tensor.nbytes
        total += tensor.nbytes
    flush()
    if len(shards) == 1:
        (path / "shard-1.safetensors").rename(path / "model.safetensors")
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        target = f"model-{number:05}-of-{len(shards):05}.safetensors"
        (path / f"shard-{number}.safetensors").rename(path / target)
        weight_map |= dict.fromkeys(names, target)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


def _byte_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate((*_SPECIAL_TOKENS, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    tokenizer.add_special_tokens(list(_SPECIAL_TOKENS))
    named = dict(zip(("unk_token", "bos_token", "eos_token"), ("<unk>", "<s>", "<|im_end|>"), strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)  # type: ignore[no-untyped-call]  # transformers leaves it untyped


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    write_random_checkpoint(parser.parse_args().folder, SEVEN_B)
