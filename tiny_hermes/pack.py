"""Quantizes a trained model to 4 bits and writes it as an AutoAWQ GEMM checkpoint, and reads such a checkpoint densely.

Layout (AutoAWQ's `WQLinear_GEMM`): for a linear layer of K inputs and N outputs `qweight` [K, N/8] int32 holds eight
codes a word, `qzeros` [K/group, N/8] int32 the zero points alike and `scales` [K/group, N] float16; a weight is
(code - zero) * scale. Within a word nibble i belongs to column (0, 2, 4, 6, 1, 3, 5, 7)[i].
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from tiny_hermes.model import GROUP
from tiny_hermes.tokenizer import BEGIN, CONTEXT_WINDOW, END, TURN_END

_COLUMN_OF_NIBBLE = (0, 2, 4, 6, 1, 3, 5, 7)


def quantize(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Round a weight [N, K] to the nearest of 16 levels per group of 128 inputs.

    Returns:
        Codes [K, N] and zero points [K/128, N], both int32 in 0..15, and scales [K/128, N] float16.
    """
    grouped = weight.float().T.reshape(-1, GROUP, weight.shape[0])
    low, high = grouped.amin(1).clamp(max=0), grouped.amax(1).clamp(min=0)
    scales = ((high - low).clamp(min=1e-6) / 15).half()
    zeros = torch.round(-low / scales.float()).clamp(0, 15).int()
    codes = torch.round(grouped / scales.float()[:, None]) + zeros[:, None]
    return codes.clamp(0, 15).int().flatten(0, 1), zeros, scales


def pack_nibbles(codes: Tensor) -> Tensor:
    """Pack int32 codes [rows, N] into words [rows, N/8] in AutoAWQ's order."""
    columns = codes.view(*codes.shape[:-1], -1, 8)
    words = torch.zeros(columns.shape[:-1], dtype=torch.int64)
    for nibble, column in enumerate(_COLUMN_OF_NIBBLE):
        words |= columns[..., column].long() << (4 * nibble)
    return torch.where(words >= 2**31, words - 2**32, words).int()


def unpack_nibbles(words: Tensor) -> Tensor:
    """Undo `pack_nibbles`."""
    codes = torch.empty(*words.shape, 8, dtype=torch.int32)
    for nibble, column in enumerate(_COLUMN_OF_NIBBLE):
        codes[..., column] = (words >> (4 * nibble)) & 15
    return codes.flatten(-2)


def dequantize(qweight: Tensor, qzeros: Tensor, scales: Tensor) -> Tensor:
    """Return the weight [N, K] in float32."""
    codes, zeros = unpack_nibbles(qweight), unpack_nibbles(qzeros)
    expand = qweight.shape[0] // scales.shape[0]
    return ((codes - zeros.repeat_interleave(expand, 0)) * scales.float().repeat_interleave(expand, 0)).T.contiguous()


def dense_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name the stacked training weights as `MistralForCausalLM` does."""
    named = {
        "model.embed_tokens.weight": state["embedding"],
        "lm_head.weight": state["embedding"],
        "model.norm.weight": state["norms"][-1],
    }
    for layer in range(state["qkv"].shape[0]):
        prefix = f"model.layers.{layer}."
        for kind, weight in zip("qkv", state["qkv"][layer], strict=True):
            named[f"{prefix}self_attn.{kind}_proj.weight"] = weight
        named[f"{prefix}self_attn.o_proj.weight"] = state["out"][layer]
        named[f"{prefix}mlp.gate_proj.weight"], named[f"{prefix}mlp.up_proj.weight"] = state["gate_up"][layer]
        named[f"{prefix}mlp.down_proj.weight"] = state["down"][layer]
        named[f"{prefix}input_layernorm.weight"] = state["norms"][2 * layer]
        named[f"{prefix}post_attention_layernorm.weight"] = state["norms"][2 * layer + 1]
    return {name: weight.detach().clone() for name, weight in named.items()}


def quantized_weights(dense: dict[str, Tensor]) -> dict[str, Tensor]:
    """Quantize the projections; embeddings, norms and the head stay as they are, in float16."""
    packed: dict[str, Tensor] = {}
    for name, weight in dense.items():
        stem = name.removesuffix(".weight")
        if not stem.endswith("_proj"):
            packed[name] = weight.half().contiguous()
            continue
        codes, zeros, scales = quantize(weight)
        packed[f"{stem}.qweight"] = pack_nibbles(codes)
        packed[f"{stem}.qzeros"] = pack_nibbles(zeros)
        packed[f"{stem}.scales"] = scales.contiguous()
    return packed


def model_config(state: dict[str, Tensor], tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the contents of `config.json`, without the quantization."""
    layers, _, hidden, _ = state["qkv"].shape
    return {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "vocab_size": state["embedding"].shape[0],
        "hidden_size": hidden,
        "intermediate_size": state["down"].shape[-1],
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 64,
        "num_key_value_heads": hidden // 64,
        "head_dim": 64,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT_WINDOW,
        "sliding_window": None,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "attention_dropout": 0.0,
        "use_cache": True,
        "torch_dtype": "float16",
        "bos_token_id": tokenizer.token_to_id(BEGIN),
        "eos_token_id": tokenizer.token_to_id(TURN_END),
        "pad_token_id": tokenizer.token_to_id(END),
    }


def write_checkpoint(state: dict[str, Tensor], tokenizer_folder: Path, folder: Path) -> None:
    """Quantize trained weights and write a whole checkpoint folder.

    Args:
        state: State dict of a `TinyMistral`.
        tokenizer_folder: Where `save_tokenizer` put the tokenizer it was trained with.
        folder: Where the checkpoint goes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if tokenizer_folder != folder:
            (folder / name).write_bytes((tokenizer_folder / name).read_bytes())
    config = model_config(state, Tokenizer.from_file(str(folder / "tokenizer.json")))
    quantization = {
        "quant_method": "awq",
        "version": "gemm",
        "bits": 4,
        "group_size": GROUP,
        "zero_point": True,
        "modules_to_not_convert": None,
    }
    _write_json(folder / "config.json", {**config, "quantization_config": quantization})
    ids = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    _write_json(folder / "generation_config.json", {"do_sample": False, "max_new_tokens": 512, **ids})
    partial = folder / "model.safetensors.partial"
    save_file(quantized_weights(dense_weights(state)), str(partial), metadata={"format": "pt"})
    partial.chmod(0o644)
    partial.replace(folder / "model.safetensors")


def read_dense(folder: Path) -> dict[str, Tensor]:
    """Read a written checkpoint back with every projection dequantized to float32."""
    stored = load_file(str(folder / "model.safetensors"))
    dense: dict[str, Tensor] = {}
    for name, value in stored.items():
        stem, kind = name.rsplit(".", 1)
        if kind == "weight":
            dense[name] = value.float()
        elif kind == "qweight":
            dense[f"{stem}.weight"] = dequantize(value, stored[f"{stem}.qzeros"], stored[f"{stem}.scales"])
    return dense


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
