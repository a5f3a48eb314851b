"""A model name in, a model that is ready to run out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AwqConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hermes_runtime.checkpoint.folder import Checkpoint, open_checkpoint
from hermes_runtime.checkpoint.vocabulary import read_vocabulary
from hermes_runtime.errors import CheckpointError, DeviceMemoryError, EngineError, InvalidRequestError
from hermes_runtime.options.generation import SamplingParams
from hermes_runtime.weights.assemble import build_network, fill_network
from hermes_runtime.weights.kernels.table import KERNELS, choose_kernel
from hermes_runtime.weights.memory import check_memory


@dataclass(frozen=True, slots=True)
class LoadedCheckpoint:
    """A model that is ready to run.

    Attributes:
        model: In eval mode, attention `sdpa`, no gradients.
        tokenizer: The checkpoint's own.
        name: What the user called it.
        folder: Where its files are.
        generation_defaults: What generation_config.json says of sampling; every option is set.
        eos_ids: Ids that end a turn.
        context_window: Positions the model was made for.
        kernel: Kernel of the 4-bit layers; `dense` for unquantized checkpoints.
        device: Where the weights are.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    folder: Path
    generation_defaults: SamplingParams
    eos_ids: tuple[int, ...]
    context_window: int
    kernel: str
    device: torch.device


def load_checkpoint(
    model: str,
    *,
    device: str | None = None,
    kernel: str | None = None,
    dtype: torch.dtype | None = None,
    progress: bool | None = None,
) -> LoadedCheckpoint:
    """Load an AutoAWQ or unquantized checkpoint.

    Args:
        model: A local folder, a hub id, or "tiny-hermes".
        device: As torch names it; None takes CUDA, then Apple's GPU, then the CPU.
        kernel: One of `kernels.table.KERNELS`; None and "auto" choose by device.
        dtype: Of activations and unquantized weights. None means bfloat16 where the device computes in it, else
            float16; unquantized float32 weights stay float32 on the CPU.
        progress: Whether to draw a bar on stderr; None: if it is a terminal.

    Raises:
        ModelNotFoundError: `model` names nothing that can be found.
        CheckpointError: The checkpoint is damaged, or of a kind that is not read.
        DeviceMemoryError: It does not fit; nothing was loaded.
        InvalidRequestError: The device or the kernel is unknown, or does not go with the checkpoint.
        EngineError: The kernel is not available here.
    """
    where = choose_device(device)
    checkpoint = open_checkpoint(model)
    chosen = _kernel_for(checkpoint, kernel, where)
    compute = dtype or _default_dtype(checkpoint, where)
    config = _read_config(checkpoint)
    vocabulary = read_vocabulary(model, checkpoint.folder, checkpoint.config)
    check_memory(checkpoint, where, compute, chosen)
    try:
        make = KERNELS[chosen].make
        if make is None:
            network = WHOLE_LOADERS[chosen](checkpoint, where, compute)
        else:
            network = build_network(checkpoint, config, compute)
            fill_network(network, checkpoint, make, where, compute, progress)
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"{where} ran out of memory while {model!r} was loaded; free some, or use a smaller checkpoint"
        ) from error
    network.generation_config = vocabulary.generation
    network.train(mode=False).requires_grad_(requires_grad=False)
    return LoadedCheckpoint(
        model=network,
        tokenizer=vocabulary.tokenizer,
        name=model,
        folder=checkpoint.folder,
        generation_defaults=vocabulary.generation_defaults,
        eos_ids=vocabulary.eos_ids,
        context_window=int(config.max_position_embeddings),
        kernel=chosen,
        device=where,
    )


def choose_device(device: str | None) -> torch.device:
    """The device to load to.

    Raises:
        InvalidRequestError: The name is not torch's, or the device is not here.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise InvalidRequestError(
            f"device {device!r} is not available here ({first_line}); use 'cpu', or leave it out"
        ) from error
    if chosen.type == "meta":
        raise InvalidRequestError("device 'meta' holds no weights; use 'cpu', 'cuda' or 'mps'")
    if chosen.type == "cuda" and chosen.index is None:  # every thread has a current device of its own
        return torch.device("cuda", torch.cuda.current_device())
    return chosen


def _kernel_for(checkpoint: Checkpoint, kernel: str | None, device: torch.device) -> str:
    chosen = choose_kernel(kernel, device)
    if checkpoint.quantization is not None:
        return chosen
    if kernel not in (None, "auto", "dense"):
        raise InvalidRequestError(
            f"kernel={kernel!r} runs AWQ weights, and {checkpoint.name!r} is not quantized; leave kernel out"
        )
    return "dense"


def _default_dtype(checkpoint: Checkpoint, device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "mps":
        return torch.float16
    stored = {tensor.dtype for tensor in checkpoint.tensors.values()}
    return torch.float32 if checkpoint.quantization is None and stored <= {"F32", "F64"} else torch.bfloat16


def _read_config(checkpoint: Checkpoint) -> Any:
    try:
        config = AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise CheckpointError(f"transformers cannot use the config.json of {checkpoint.name!r}: {error}") from error
    if not isinstance(getattr(config, "max_position_embeddings", None), int):
        raise CheckpointError(
            f"{checkpoint.name!r} is a {config.model_type!r} model; only text models of the Llama family are supported"
        )
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # the layers are replaced here; transformers would ask for gptqmodel
    return config


def _load_with_gptqmodel(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    layout = checkpoint.quantization
    assert layout is not None
    if any(f"{layer}.qzeros" not in checkpoint.tensors for layer in checkpoint.quantized_layers):
        raise EngineError(f"GPTQModel reads no AWQ weights without zero points, as {checkpoint.name!r} has them")
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": "sdpa", "trust_remote_code": False}
    if "quantization_config" not in checkpoint.config:  # transformers does not know the older quant_config.json
        options["quantization_config"] = AwqConfig(bits=4, group_size=layout.group_size, zero_point=layout.zero_point)
    try:
        # Without device_map transformers would pick a kernel for the CPU on every device.
        network: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            checkpoint.folder, device_map={"": device}, local_files_only=True, **options
        )
    except (ImportError, RuntimeError, ValueError, NotImplementedError) as error:
        advice = "kernel=None uses torch's own kernels"
        raise EngineError(f"GPTQModel could not load {checkpoint.name!r}: {error}; {advice}") from error
    return network


WHOLE_LOADERS = {"gptqmodel": _load_with_gptqmodel}
"""By name, what loads a checkpoint for the kernels that replace the whole loading."""
