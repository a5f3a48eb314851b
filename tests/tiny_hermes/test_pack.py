"""Quantization and packing of tiny-hermes against first principles and the stock Mistral."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import MistralConfig, MistralForCausalLM

from tiny_hermes.model import Muon, Shape, TinyMistral, fake_quantize, orthogonalize
from tiny_hermes.pack import (
    dense_weights,
    dequantize,
    model_config,
    pack_nibbles,
    quantize,
    read_dense,
    unpack_nibbles,
    write_checkpoint,
)
from tiny_hermes.tokenizer import build_tokenizer, save_tokenizer


@given(st.lists(st.integers(0, 15), min_size=16, max_size=16))
def test_packing_loses_nothing(codes):
    rows = torch.tensor(codes, dtype=torch.int32).view(2, 8)
    assert torch.equal(unpack_nibbles(pack_nibbles(rows)), rows)


def test_nibbles_stand_in_autoawq_s_order():
    word = int(pack_nibbles(torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7]], dtype=torch.int32))) & 0xFFFFFFFF
    assert f"{word:08x}" == "75316420"


def test_a_quantized_weight_is_off_by_half_a_step_at_most():
    weight = torch.randn(16, 256, generator=torch.Generator().manual_seed(0))
    codes, zeros, scales = quantize(weight)
    dense = dequantize(pack_nibbles(codes), pack_nibbles(zeros), scales)
    assert dense.shape == weight.shape
    step = scales.float().T.repeat_interleave(128, 1)
    assert bool(((dense - weight).abs() <= step * 0.56).all())


def test_training_s_rounding_is_packing_s_rounding():
    weight = torch.randn(3, 8, 256, generator=torch.Generator().manual_seed(1))
    packed = torch.stack([dequantize(*_packed(part)) for part in weight])
    close = (fake_quantize(weight) - packed).abs() < 2e-3
    assert close.float().mean() > 0.995


def _packed(weight):
    codes, zeros, scales = quantize(weight)
    return pack_nibbles(codes), pack_nibbles(zeros), scales


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """An untrained model of the real form, its tokenizer and its written checkpoint."""
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = build_tokenizer(samples=40)
    save_tokenizer(tokenizer, folder)
    model = TinyMistral(Shape(vocabulary=2176, layers=2))
    with torch.no_grad():
        for parameter in (model.out, model.down):
            parameter.normal_(std=0.05)
    write_checkpoint(model.state_dict(), folder, folder)
    return model, model_config(model.state_dict(), tokenizer), folder


def test_the_training_model_computes_what_mistral_computes(student):
    model, config, _ = student
    mistral = MistralForCausalLM(MistralConfig(**config)).float().eval()
    mistral.load_state_dict(dense_weights(model.state_dict()))
    ids = torch.randint(0, 2000, (2, 40))
    with torch.no_grad():
        torch.testing.assert_close(model.hidden(ids) @ model.embedding.T, mistral(ids).logits, atol=2e-4, rtol=1e-3)


def test_a_written_checkpoint_reads_back_within_a_step(student):
    model, _, folder = student
    expected, read = dense_weights(model.state_dict()), read_dense(folder)
    assert expected.keys() == read.keys()
    for name, weight in expected.items():
        assert (read[name] - weight).abs().max() <= weight.abs().max() / 7


def test_every_projection_and_nothing_else_is_packed(student):
    stored = load_file(str(student[2] / "model.safetensors"))
    assert {name.split(".")[-2] for name in stored if name.endswith("qweight")} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }
    down = "model.layers.0.mlp.down_proj."
    shapes = {kind: tuple(stored[down + kind].shape) for kind in ("qweight", "qzeros", "scales")}
    assert shapes == {"qweight": (512, 32), "qzeros": (4, 32), "scales": (4, 256)}


def test_an_orthogonalized_matrix_has_singular_values_near_one():
    stack = torch.randn(2, 24, 48, generator=torch.Generator().manual_seed(5))
    values = torch.linalg.svdvals(orthogonalize(stack))
    assert 0.5 < values.min() < values.max() < 1.5


def test_two_processes_sharing_the_work_update_like_one():
    def updated(part, other=None):
        weight = torch.nn.Parameter(torch.zeros(3, 8, 16))
        weight.grad = torch.randn(3, 8, 16, generator=torch.Generator().manual_seed(9))
        shares = []
        optimizer = Muon(
            [weight],
            0.1,
            part=part,
            add_up=lambda flat: shares.append(flat.clone()) or other is None or flat.add_(other),
        )
        optimizer.step()
        return weight.detach(), shares[0]

    alone, _ = updated((0, 1))
    _, second = updated((1, 2))
    together, _ = updated((0, 2), other=second)
    torch.testing.assert_close(alone, together)
