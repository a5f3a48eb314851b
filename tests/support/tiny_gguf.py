"""Writes the embedded checkpoint as a GGUF file: `python tiny_gguf.py FOLDER WEIGHTS.npz OUT.gguf`.

Needs gguf and numpy, nothing of this project, so that it runs where llama.cpp is. FOLDER holds config.json and
tokenizer.json, WEIGHTS.npz the dense float32 tensors under their names in transformers.

The vocabulary is byte-level BPE with a splitting rule that llama.cpp does not know. It is written as a SentencePiece
vocabulary whose scores are the ranks of the merges: the pair of best score is merged first there too, and no token
crosses a split.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gguf
import numpy as np

_SPACE = "\u2581"
_LAYER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def main(folder: Path, weights: Path, out: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(out, "llama")
    head_dim = config["head_dim"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_vocabulary(writer, json.loads((folder / "tokenizer.json").read_text()), config)
    for name, tensor in np.load(weights).items():
        is_rotated = name.endswith(("q_proj.weight", "k_proj.weight"))
        ordered = _interleaved(tensor, head_dim) if is_rotated else tensor
        writer.add_tensor(_name(name), np.ascontiguousarray(ordered, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _name(name: str) -> str:
    path = name.removesuffix(".weight")
    if path in _OUTER:
        return _OUTER[path] + ".weight"
    _, _, index, part = path.split(".", 3)
    return f"blk.{index}.{_LAYER[part]}.weight"


def _interleaved(weight: np.ndarray, head_dim: int) -> np.ndarray:
    """Rows in the order of llama.cpp's rotary embedding, which pairs neighbors where transformers pairs halves."""
    halves = weight.reshape(-1, 2, head_dim // 2, weight.shape[1])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _add_vocabulary(writer: gguf.GGUFWriter, tokenizer: dict, config: dict) -> None:
    size = config["vocab_size"]
    tokens = [f"<unused {index}>".encode() for index in range(size)]
    scores = [-1e6] * size
    types = [gguf.TokenType.UNUSED] * size
    byte_of = _bytes_of_letters()
    ranks = {"".join(pair): rank for rank, pair in reversed(list(enumerate(map(_pair, tokenizer["model"]["merges"]))))}
    for letters, index in tokenizer["model"]["vocab"].items():
        if any(letter not in byte_of for letter in letters):
            continue  # a control token, below
        raw = bytes(byte_of[letter] for letter in letters)
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = None
        if text is not None:
            tokens[index], types[index] = text.replace(" ", _SPACE).encode(), gguf.TokenType.NORMAL
            scores[index] = -float(ranks.get(letters, len(ranks)))
        elif len(raw) == 1:
            tokens[index], types[index] = f"<0x{raw[0]:02X}>".encode(), gguf.TokenType.BYTE
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]] = added["content"].encode()
        types[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        scores[added["id"]] = 0.0
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)


def _pair(merge: list[str] | str) -> list[str]:
    return merge.split(" ") if isinstance(merge, str) else merge


def _bytes_of_letters() -> dict[str, int]:
    """The alphabet of byte-level BPE (Radford et al., 2019): a visible letter for each byte."""
    visible = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + index): byte for index, byte in enumerate(hidden)}


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
