"""Checkpoints of every supported kind load and compute the same; what is wrong with a damaged one is named."""

from __future__ import annotations

import errno
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from benchmarks._random_checkpoint import Shape, write_random_checkpoint
from hermes_runtime.checkpoint.folder import open_checkpoint
from hermes_runtime.errors import (
    CheckpointError,
    DeviceMemoryError,
    EngineError,
    InvalidRequestError,
    ModelNotFoundError,
)
from hermes_runtime.options.generation import SamplingParams
from hermes_runtime.weights import memory
from hermes_runtime.weights.kernels.awq import quantize
from hermes_runtime.weights.kernels.linear import DequantizeLinear, Int4Linear
from hermes_runtime.weights.kernels.table import KERNELS, choose_kernel
from hermes_runtime.weights.loader import choose_device, load_checkpoint
from tests.support.fake_hub import HubModel
from tests.support.vnni import VNNI

IDS = torch.tensor([[1, *range(20, 60)]])
DEFAULT_KERNEL = choose_kernel(None, torch.device("cpu"))
BF16_MODEL_TOLERANCE = 0.02  # two layers of bfloat16 against float32


def load(folder, **options):
    return load_checkpoint(str(folder), device="cpu", progress=False, **options)


def logits(loaded, ids=IDS):
    with torch.inference_mode():
        return loaded.model(ids).logits.double()


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def awq_folder(tmp_path_factory):
    return write_random_checkpoint(tmp_path_factory.mktemp("awq"))


@pytest.fixture(scope="module")
def dense_logits(tmp_path_factory):
    return logits(load(write_random_checkpoint(tmp_path_factory.mktemp("dense"), quantized=False)))


@pytest.fixture
def folder(awq_folder, tmp_path):
    """A copy that a test may damage."""
    return Path(shutil.copytree(awq_folder, tmp_path / "model"))


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


# What loads


@pytest.mark.parametrize("kernel", [None, "auto", VNNI, "torch", "torch-int8", "dequantize", "dense"])
def test_every_kernel_computes_what_the_dense_model_computes(awq_folder, dense_logits, kernel):
    loaded = load(awq_folder, kernel=kernel)
    assert loaded.kernel == (kernel if kernel not in (None, "auto") else DEFAULT_KERNEL)
    assert relative_error(logits(loaded), dense_logits) < BF16_MODEL_TOLERANCE


@pytest.mark.parametrize("kernel", ["dequantize", "dense"])
def test_in_float32_it_is_the_dense_model(awq_folder, dense_logits, kernel):
    assert relative_error(logits(load(awq_folder, kernel=kernel, dtype=torch.float32)), dense_logits) < 1e-5


@pytest.mark.parametrize(
    "options",
    [
        {"group_size": 32},
        {"group_size": 64, "zero_point": False},
        {"group_size": -1},
        {"shape": Shape(tied=True)},
        {"shape": Shape(hidden=96, ffn=224, heads=2, kv_heads=1), "group_size": 32},
    ],
)
def test_group_sizes_symmetry_and_ties(tmp_path, options):
    dense = load(write_random_checkpoint(tmp_path / "dense", quantized=False, **options))
    loaded = load(write_random_checkpoint(tmp_path / "awq", **options))
    assert relative_error(logits(loaded), logits(dense)) < BF16_MODEL_TOLERANCE
    head, embedding = loaded.model.lm_head.weight, loaded.model.model.embed_tokens.weight
    assert (head is embedding) == loaded.model.config.tie_word_embeddings


def test_shards_and_one_file_are_the_same_model(awq_folder, tmp_path):
    sharded = write_random_checkpoint(tmp_path / "sharded", shard_bytes=50_000)
    assert len(list(sharded.glob("model-*-of-*.safetensors"))) > 3
    assert torch.equal(logits(load(sharded)), logits(load(awq_folder)))


def test_autoawqs_older_quant_config_is_read(folder, dense_logits):
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))
    old = {"zero_point": True, "q_group_size": 128, "w_bit": 4, "version": "GEMM", "modules_to_not_convert": None}
    (folder / "quant_config.json").write_text(json.dumps(old))
    assert relative_error(logits(load(folder)), dense_logits) < BF16_MODEL_TOLERANCE


def test_layers_that_were_not_converted_stay_dense(folder, tmp_path, dense_logits):
    dense = load_file(write_random_checkpoint(tmp_path / "dense", quantized=False) / "model.safetensors")
    layer = "model.layers.0.self_attn.o_proj"

    def unconvert(tensors):
        for part in ("qweight", "qzeros", "scales"):
            del tensors[f"{layer}.{part}"]
        tensors[f"{layer}.weight"] = dense[f"{layer}.weight"].half()

    edit_tensors(folder, unconvert)
    loaded = load(folder, kernel="torch")
    assert isinstance(loaded.model.get_submodule(layer), torch.nn.Linear)
    assert isinstance(loaded.model.get_submodule("model.layers.1.self_attn.o_proj"), Int4Linear)
    assert relative_error(logits(loaded), dense_logits) < BF16_MODEL_TOLERANCE


def test_bfloat16_scales_are_read(folder, dense_logits):
    def narrow(tensors):
        for name in [name for name in tensors if name.endswith(".scales")]:
            tensors[name] = tensors[name].bfloat16()

    edit_tensors(folder, narrow)
    assert relative_error(logits(load(folder)), dense_logits) < BF16_MODEL_TOLERANCE


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
def test_unquantized_checkpoints_load_through_the_same_door(awq_folder, tmp_path, stored):
    small = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(**small, num_key_value_heads=2, vocab_size=320, max_position_embeddings=256)
    model = LlamaForCausalLM(config).to(stored)
    model.save_pretrained(tmp_path)
    shutil.copy(awq_folder / "tokenizer.json", tmp_path)
    shutil.copy(awq_folder / "tokenizer_config.json", tmp_path)
    loaded = load(tmp_path)
    assert loaded.kernel == "dense"
    assert loaded.model.dtype == (torch.float32 if stored == torch.float32 else torch.bfloat16)
    reference = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=loaded.model.dtype)
    with torch.inference_mode():
        hidden = [model.model(IDS).last_hidden_state for model in (loaded.model, reference)]
        expected = reference(IDS).logits.double()
    assert torch.equal(*hidden)
    # The logits' product may add in another order than torch's.
    assert torch.equal(logits(loaded), expected) or relative_error(logits(loaded), expected) < 3e-3


def test_a_quantized_layer_with_a_bias(awq_folder, tmp_path):
    """Qwen 2 has biases on q, k and v; AutoAWQ stores them beside the codes."""
    small = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = Qwen2ForCausalLM(Qwen2Config(**small, num_key_value_heads=2, vocab_size=320, max_position_embeddings=256))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_()
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        weight, layer = quantize(tensors.pop(name).t(), 128), name.removesuffix(".weight")
        tensors |= {f"{layer}.{part}": getattr(weight, part) for part in ("qweight", "qzeros", "scales")}
    save_file(tensors, tmp_path / "model.safetensors")
    edit_json(tmp_path / "config.json", quantization_config={"quant_method": "awq", "bits": 4, "group_size": 128})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(awq_folder / name, tmp_path)
    exact = logits(load(tmp_path, kernel="dense", dtype=torch.float32))
    assert relative_error(logits(load(tmp_path)), exact) < BF16_MODEL_TOLERANCE
    assert load(tmp_path).model.model.layers[0].self_attn.q_proj.bias is not None


def test_the_sliding_window_holds_past_its_length(tmp_path):
    """Against transformers' own loading of the dense model, eager attention, in one forward and token by token."""
    shape = Shape(window=16, context=128)
    dense = write_random_checkpoint(tmp_path / "dense", shape, quantized=False)
    reference = AutoModelForCausalLM.from_pretrained(dense, attn_implementation="eager", dtype=torch.float32)
    ids = torch.randint(5, 300, (1, 70), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = reference(ids).logits.double()
        unlimited = load(
            write_random_checkpoint(tmp_path / "wide", Shape(context=128)), kernel="dense", dtype=torch.float32
        )
        loaded = load(write_random_checkpoint(tmp_path / "awq", shape), kernel="dense", dtype=torch.float32)
        assert relative_error(logits(loaded, ids), expected) < 1e-5
        assert relative_error(logits(unlimited, ids)[:, 40:], expected[:, 40:]) > 1e-2
        cache, steps = None, []
        for chunk in (ids[:, :30], *ids[:, 30:].split(1, dim=1)):
            output = loaded.model(chunk, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            steps.append(output.logits.double())
    assert relative_error(torch.cat(steps, dim=1), expected) < 1e-5


def test_the_embedded_checkpoint_has_a_name_of_its_own():
    loaded = load("tiny-hermes")
    assert loaded.name == "tiny-hermes"
    assert loaded.kernel == DEFAULT_KERNEL
    assert loaded.folder.name == "checkpoint"


def test_what_comes_with_the_model(awq_folder):
    loaded = load(awq_folder)
    assert loaded.name == str(awq_folder)
    assert loaded.folder == awq_folder
    assert loaded.context_window == 512
    assert loaded.eos_ids == (3,)
    assert loaded.device == torch.device("cpu")
    assert loaded.generation_defaults == SamplingParams(0.8, 1.0, 0, 0.0, 1.0)
    assert loaded.tokenizer.decode(loaded.tokenizer("héllo").input_ids, skip_special_tokens=True) == "héllo"
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    generated = loaded.model.generate(IDS, max_new_tokens=3, do_sample=False)
    assert generated.shape[1] > IDS.shape[1]


def test_sampling_defaults_come_from_generation_config(folder):
    path = folder / "generation_config.json"
    path.write_text(json.dumps({"do_sample": True, "temperature": 0.7, "top_k": 40, "eos_token_id": [3, 2]}))
    loaded = load(folder)
    assert loaded.generation_defaults == SamplingParams(0.7, 1.0, 40, 0.0, 1.0)
    assert loaded.eos_ids == (3, 2)
    path.write_text("{}")
    assert load(folder).generation_defaults.temperature == 0.0
    path.unlink()
    assert load(folder).eos_ids == (3,)


def test_the_bar_is_drawn_on_stderr_when_asked_for(awq_folder, capfd):
    load_checkpoint(str(awq_folder), device="cpu", progress=True)
    assert "loading" in capfd.readouterr().err
    load_checkpoint(str(awq_folder), device="cpu")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak is read from Linux's /proc")
def test_loading_holds_one_copy_of_the_model(tmp_path):
    """In a fresh process: its peak grows by little more than the checkpoint, and building alone takes nothing."""
    shape = Shape(hidden=1024, ffn=6144, layers=6, heads=8, kv_heads=8, vocab=1024)
    folder = write_random_checkpoint(tmp_path, shape)
    program = f"""
import re
from pathlib import Path
import psutil, torch
from transformers import AutoConfig
from hermes_runtime.weights.assemble import build_network
from hermes_runtime.checkpoint.folder import open_checkpoint
from hermes_runtime.weights.loader import choose_device, load_checkpoint
from benchmarks._random_checkpoint import Shape, write_random_checkpoint
load_checkpoint(str(write_random_checkpoint({str(tmp_path / "small")!r})), device="cpu")  # imports and thread pools
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
checkpoint, before = open_checkpoint({str(folder)!r}), psutil.Process().memory_info().rss
headroom = peak() - before
config = AutoConfig.from_pretrained(checkpoint.folder)
del config.quantization_config
network = build_network(checkpoint, config, torch.bfloat16)
built = psutil.Process().memory_info().rss - before
del network
loaded = load_checkpoint({str(folder)!r}, device="cpu")
print(checkpoint.nbytes, built, peak() - before, headroom)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=280)
    size, built, peak, headroom = map(int, result.stdout.split())
    assert size > 60e6
    assert headroom < 1.35 * size, "what was held before hides the peak"
    assert built < 0.15 * size
    assert peak < 1.35 * size


# What does not load


def test_a_name_that_is_nothing(tmp_path):
    for name in (str(tmp_path / "missing"), "./missing", "~/missing-model", "a/b/c", "", "spaces in it"):
        with pytest.raises(ModelNotFoundError, match=re.escape(repr(name))):
            load_checkpoint(name)


def test_a_file_is_no_folder(awq_folder):
    with pytest.raises(ModelNotFoundError, match="is a file"):
        load_checkpoint(str(awq_folder / "config.json"))


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"no config\.json"):
        load_checkpoint(str(tmp_path))
    (tmp_path / "config.json").write_text('{"name": "something else"}')
    with pytest.raises(ModelNotFoundError, match="model_type"):
        load_checkpoint(str(tmp_path))


def test_a_hub_model_loads_from_the_hub_and_then_without_it(awq_folder, fake_hub):
    fake_hub.models["owner/name"] = HubModel({path.name: path.read_bytes() for path in awq_folder.iterdir()})
    loaded = load("owner/name")
    del fake_hub.models["owner/name"]
    again = load("owner/name")
    assert loaded.name == "owner/name"
    assert again.folder == loaded.folder
    assert torch.equal(logits(again), logits(loaded))


def test_an_unknown_hub_id_without_a_network():
    """HF_HUB_OFFLINE is set for all tests: the hub's own client says so, at once."""
    with pytest.raises(ModelNotFoundError, match="no-such-owner/no-such-model"):
        load_checkpoint("no-such-owner/no-such-model")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_cannot_be_opened_is_named(folder, name, monkeypatch):
    opened = Path.open

    def refuse(path, *arguments, **options):
        if path.name == name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointError, match=rf"{name}.* cannot be read: .*Permission denied"):
        load(folder)


def test_pickled_weights_are_not_read(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin, and weights are only read from safetensors"):
        load(folder)


def test_a_missing_shard_is_named(tmp_path):
    folder = write_random_checkpoint(tmp_path, shard_bytes=50_000)
    victim = next(folder.glob("model-00002*"))
    victim.unlink()
    with pytest.raises(CheckpointError, match=victim.name):
        load(folder)


@pytest.mark.parametrize("keep", [0, 5, 60, 5000, -1])
def test_a_truncated_shard_is_named(folder, keep):
    shard = folder / "model.safetensors"
    content = shard.read_bytes()
    shard.write_bytes(content[:keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load(folder)


@pytest.mark.parametrize("header", [b"not json", b"[]", b'{"a": 3}', b'{"a": {"dtype": "F16"}}'])
def test_a_damaged_shard_header(folder, header):
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match=r"damaged safetensors header"):
        load(folder)


def test_an_index_that_points_elsewhere(tmp_path):
    folder = write_random_checkpoint(tmp_path, shard_bytes=50_000)
    edit_json(folder / "model.safetensors.index.json", weight_map={"a": "../../secret.safetensors"})
    with pytest.raises(CheckpointError, match="outside"):
        load(folder)
    edit_json(folder / "model.safetensors.index.json", weight_map=[])
    with pytest.raises(CheckpointError, match="weight_map"):
        load(folder)


@pytest.mark.parametrize("text", ["{", "[]", "\udcff"])
def test_a_config_that_is_no_json(folder, text):
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load(folder)


@pytest.mark.parametrize(
    ("described", "names"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemv"}, "gemv"),
        ({"quant_method": "awq", "bits": 8, "group_size": 128}, "8-bit"),
        ("awq", "must be an object"),
    ],
)
def test_a_wrong_quantization_is_named(folder, described, names):
    edit_json(folder / "config.json", quantization_config=described)
    with pytest.raises(CheckpointError, match=names):
        load(folder)


def test_quantized_weights_that_nothing_describes(folder):
    edit_json(folder / "config.json", quantization_config=None)
    with pytest.raises(CheckpointError, match="neither"):
        load(folder)


def test_a_description_without_quantized_weights(tmp_path):
    folder = write_random_checkpoint(tmp_path, quantized=False)
    edit_json(folder / "config.json", quantization_config={"quant_method": "awq", "bits": 4})
    with pytest.raises(CheckpointError, match="no quantized weight"):
        load(folder)


@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.1.mlp.up_proj.scales", "lm_head.weight"])
def test_a_missing_tensor_is_named(folder, name):
    edit_tensors(folder, lambda tensors: tensors.pop(name))
    with pytest.raises(CheckpointError, match=re.escape(name)):
        load(folder)


def test_zero_points_that_are_missing_are_not_taken_for_symmetric(folder):
    edit_tensors(folder, lambda tensors: tensors.pop("model.layers.0.mlp.up_proj.qzeros"))
    with pytest.raises(CheckpointError, match=r"up_proj\.qzeros"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("model.norm.weight", torch.ones(64)),
        ("model.norm.weight", torch.ones(128, dtype=torch.int32)),
        ("model.layers.0.mlp.up_proj.scales", torch.ones(2, 256)),
        ("model.layers.0.mlp.up_proj.qweight", torch.zeros(128, 32)),
        ("model.layers.0.mlp.up_proj.qzeros", torch.zeros(1, 16, dtype=torch.int32)),
    ],
)
def test_a_tensor_of_the_wrong_shape_or_type_is_named(folder, name, tensor):
    edit_tensors(folder, lambda tensors: tensors.update({name: tensor}))
    with pytest.raises(CheckpointError, match=re.escape(name)):
        load(folder)


def test_surplus_tensors_are_named(folder):
    edit_tensors(folder, lambda tensors: tensors.update({"model.extra.weight": torch.ones(3)}))
    with pytest.raises(CheckpointError, match=r"model\.extra\.weight"):
        load(folder)


def test_old_rotary_buffers_are_no_surplus(folder, dense_logits):
    stale = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(16)}
    edit_tensors(folder, lambda tensors: tensors.update(stale))
    assert relative_error(logits(load(folder)), dense_logits) < BF16_MODEL_TOLERANCE


def test_a_group_size_that_does_not_divide(folder):
    described = json.loads((folder / "config.json").read_text())["quantization_config"] | {"group_size": 96}
    edit_json(folder / "config.json", quantization_config=described)
    with pytest.raises(CheckpointError, match="groups of 96"):
        load(folder)


def test_an_unknown_architecture_runs_no_code_of_the_checkpoint(folder):
    edit_json(folder / "config.json", model_type="own-thing", auto_map={"AutoModelForCausalLM": "evil.Model"})
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(CheckpointError, match="own-thing"):
        load(folder)


def test_a_missing_tokenizer(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(CheckpointError, match="tokenizer"):
        load(folder)


def test_too_little_memory_is_said_before_loading(awq_folder, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 100_000_000)
    with pytest.raises(DeviceMemoryError, match=r"needs 0\.\d\d GB on cpu, and 0\.10 GB are free"):
        load(awq_folder)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_memory_estimate_is_what_is_held(kernel, awq_folder):
    if reason := KERNELS[kernel].reason_against(torch.device("cpu")):
        pytest.skip(reason)
    checkpoint = open_checkpoint(str(awq_folder))
    model = load(awq_folder, kernel=kernel).model
    held = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    assert abs(memory.loaded_bytes(checkpoint, torch.bfloat16, kernel) - held) < 0.02 * held


def test_free_memory_heeds_a_containers_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    device = torch.device("cpu")
    assert memory.free_bytes(device) == pytest.approx(psutil.virtual_memory().available, rel=0.2)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("500\n")
    assert memory.free_bytes(device) > 10_000
    (tmp_path / "memory.max").write_text("2000\n")
    assert memory.free_bytes(device) == 1500


def test_memory_that_torch_keeps_on_a_gpu_counts_as_free(monkeypatch):
    for name, count in {"mem_get_info": (100, 900), "memory_reserved": 700, "memory_allocated": 300}.items():
        monkeypatch.setattr(torch.cuda, name, lambda _, count=count: count)
    assert memory.free_bytes(torch.device("cuda", 0)) == 500


def test_a_gpu_without_a_number_is_the_current_one(monkeypatch):
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert choose_device("cuda") == torch.device("cuda", 3)
    assert choose_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta", "xpu"])
def test_a_device_that_is_not_here(awq_folder, device):
    with pytest.raises(InvalidRequestError, match=device):
        load_checkpoint(str(awq_folder), device=device)


def test_an_unknown_kernel(awq_folder):
    with pytest.raises(InvalidRequestError, match="exllama"):
        load(awq_folder, kernel="exllama")


def test_a_kernel_for_weights_that_are_not_quantized(tmp_path):
    folder = write_random_checkpoint(tmp_path, quantized=False)
    with pytest.raises(InvalidRequestError, match="not quantized"):
        load(folder, kernel="torch")
    assert load(folder, kernel="dense").kernel == "dense"


# Optional packages; each runs where it is installed


def test_a_whole_model_on_autoawqs_layers(awq_folder, dense_logits):
    pytest.importorskip("awq")
    assert relative_error(logits(load(awq_folder, kernel="autoawq")), dense_logits) < BF16_MODEL_TOLERANCE


def test_a_whole_model_through_gptqmodel(awq_folder, dense_logits, tmp_path):
    pytest.importorskip("gptqmodel")
    assert relative_error(logits(load(awq_folder, kernel="gptqmodel")), dense_logits) < BF16_MODEL_TOLERANCE
    symmetric = write_random_checkpoint(tmp_path, zero_point=False)
    with pytest.raises(EngineError, match="without zero points"):
        load(symmetric, kernel="gptqmodel")


def test_layers_outside_the_kernels_shapes_are_dequantized(tmp_path):
    shape = Shape(hidden=48, ffn=80, heads=2, kv_heads=1, layers=1)
    loaded = load(write_random_checkpoint(tmp_path, shape, group_size=16), kernel="torch")
    assert isinstance(loaded.model.model.layers[0].mlp.up_proj, DequantizeLinear)
