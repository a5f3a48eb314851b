"""llama.cpp as a contender of `benchmarks.awq`: needs llama-cpp-python and gguf, nothing of this project."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np

BLOCK = {gguf.GGMLQuantizationType.Q4_0: (32, 18), gguf.GGMLQuantizationType.Q6_K: (256, 210)}


def random_blocks(rng: np.random.Generator, rows: int, columns: int, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    """Random quantized rows, uint8 [rows, bytes per row], with scales that keep activations near 1."""
    per_block, nbytes = BLOCK[kind]
    blocks = rng.integers(0, 256, (rows, columns // per_block, nbytes), dtype=np.uint8)
    spread = 4.6 if kind == gguf.GGMLQuantizationType.Q4_0 else 18.0 * 64
    scale = np.frombuffer(np.float16(1 / (spread * columns**0.5)).tobytes(), dtype=np.uint8)
    at = slice(0, 2) if kind == gguf.GGMLQuantizationType.Q4_0 else slice(208, 210)
    blocks[..., at] = scale
    return blocks.reshape(rows, -1)


def write_gguf(path: Path, shape: dict[str, Any]) -> None:
    """A random Mistral in Q4_0, its output head in Q6_K as llama.cpp's own quantizer makes it."""
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    head_dim = shape["hidden"] // shape["heads"]
    writer.add_context_length(shape["context"])
    writer.add_embedding_length(shape["hidden"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["ffn"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(shape["vocab"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [f"t{index}" for index in range(len(tokens), shape["vocab"])]
    types = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, *[gguf.TokenType.BYTE] * 256]
    types += [gguf.TokenType.NORMAL] * (shape["vocab"] - len(types))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    kv = head_dim * shape["kv_heads"]
    linears = {
        "attn_q": (shape["hidden"], shape["hidden"]),
        "attn_k": (kv, shape["hidden"]),
        "attn_v": (kv, shape["hidden"]),
        "attn_output": (shape["hidden"], shape["hidden"]),
        "ffn_gate": (shape["ffn"], shape["hidden"]),
        "ffn_up": (shape["ffn"], shape["hidden"]),
        "ffn_down": (shape["hidden"], shape["ffn"]),
    }
    q4, q6 = gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q6_K
    ones = np.ones(shape["hidden"], dtype=np.float32)

    def add(name: str, rows: int, columns: int, kind: gguf.GGMLQuantizationType) -> None:
        writer.add_tensor(name, random_blocks(rng, rows, columns, kind), raw_dtype=kind)

    add("token_embd.weight", shape["vocab"], shape["hidden"], q4)
    for index in range(shape["layers"]):
        for name, (rows, columns) in linears.items():
            add(f"blk.{index}.{name}.weight", rows, columns, q4)
        writer.add_tensor(f"blk.{index}.attn_norm.weight", ones)
        writer.add_tensor(f"blk.{index}.ffn_norm.weight", ones)
    writer.add_tensor("output_norm.weight", ones)
    add("output.weight", shape["vocab"], shape["hidden"], q6)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def measure(work: dict[str, Any]) -> dict[str, Any]:
    """Load once, prefill and decode several times."""
    path = Path(work["folder"]) / "q4_0.gguf"
    if not path.is_file():
        write_gguf(path, work["shape"])
    threads = 1 if work["cpu_time"] else len(os.sched_getaffinity(0))
    clock = time.process_time if work["cpu_time"] else time.perf_counter
    context = work["prompt_tokens"] + work["decoded_tokens"] + 16
    start = clock()
    model = llama_cpp.Llama(
        str(path),
        n_ctx=context,
        n_batch=work["prompt_tokens"],
        n_ubatch=work["prompt_tokens"],
        n_threads=threads,
        n_threads_batch=threads,
        verbose=False,
    )
    load = clock() - start
    ids = np.random.default_rng(0).integers(260, 1000, work["prompt_tokens"]).tolist()
    model.eval(ids[:8])
    prefills, decodes = [], []
    for _ in range(work["repeats"]):
        model.reset()
        start = clock()
        model.eval(ids)
        prefills.append(clock() - start)
    for token in ids[: work["decoded_tokens"]]:
        start = clock()
        model.eval([token])
        decodes.append(clock() - start)
    version = metadata.version("llama-cpp-python")
    return {
        "load": load,
        "prefill": min(prefills),
        "decode": statistics.median(decodes),
        "version:llama-cpp-python": version,
    }


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
