"""Building the network of a checkpoint and filling it, one layer at a time.

The network is built without memory (on the meta device) from its configuration; each linear layer that is stored in 4
bits is replaced by the chosen kernel's, and every tensor is read, converted and released before the next. At the peak
there is one copy of the model and a few layers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from hermes_runtime.checkpoint.folder import Checkpoint, StoredTensor
from hermes_runtime.errors import CheckpointError
from hermes_runtime.weights.kernels.awq import AwqWeight
from hermes_runtime.weights.kernels.linear import OutputHead
from hermes_runtime.weights.kernels.table import MakeLinear

_FLOATS = ("F16", "BF16", "F32", "F64")
_LAYER_PARTS = ("qweight", "scales", "qzeros", "bias")
_MAX_READERS = 4  # threads that read and convert; more only fill the memory


def build_network(checkpoint: Checkpoint, config: Any, dtype: torch.dtype) -> PreTrainedModel:
    """The architecture that `config` describes, without memory.

    Raises:
        CheckpointError: transformers does not know it.
    """
    try:
        with torch.device("meta"):
            network: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
                config, dtype=dtype, attn_implementation="sdpa", trust_remote_code=False
            )
    except Exception as error:
        raise CheckpointError(
            f"transformers cannot build the {config.model_type!r} model of {checkpoint.name!r}: {error}"
        ) from error
    return network


@dataclass(frozen=True, slots=True)
class _Part:
    """What is read and placed in one go: a 4-bit layer, or one tensor."""

    name: str
    tensors: dict[str, StoredTensor]
    quantized: bool

    @property
    def position(self) -> tuple[Path, int]:
        first = min(self.tensors.values(), key=lambda tensor: tensor.offset)
        return first.file, first.offset

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())


def _parts(network: nn.Module, checkpoint: Checkpoint) -> list[_Part]:
    """All parts in the order in which they lie on disk, once the network and the checkpoint agree on all of them."""
    stored, parts = dict(checkpoint.tensors), []
    modules = dict(network.named_modules())
    for layer in checkpoint.quantized_layers:
        linear = modules.get(layer)
        if not isinstance(linear, nn.Linear):
            raise CheckpointError(
                f"{checkpoint.name!r} stores a 4-bit layer {layer!r}; its architecture has no linear layer of that name"
            )
        tensors = {part: stored.pop(f"{layer}.{part}") for part in _LAYER_PARTS if f"{layer}.{part}" in stored}
        _check_layer(checkpoint, layer, linear, tensors)
        parts.append(_Part(layer, tensors, quantized=True))
    quantized = {f"{part.name}.{leaf}" for part in parts for leaf in ("weight", "bias")}
    expected = {name: tensor for name, tensor in network.state_dict(keep_vars=True).items() if name not in quantized}
    tied = _tied_name(network, stored)
    for name, tensor in expected.items():
        if name == tied:
            continue
        if name not in stored:
            raise CheckpointError(f"{checkpoint.name!r} lacks the tensor {name!r} that its architecture needs")
        found = stored.pop(name)
        if found.shape != tuple(tensor.shape) or found.dtype not in _FLOATS:
            raise CheckpointError(
                f"{name!r} of {checkpoint.name!r} is {found.dtype} {list(found.shape)}; "
                f"its config.json asks for {list(tensor.shape)}"
            )
        parts.append(_Part(name, {"": found}, quantized=False))
    surplus = sorted(name for name in stored if not name.endswith("rotary_emb.inv_freq") and name != tied)
    if surplus:
        raise CheckpointError(
            f"{checkpoint.name!r} holds tensors that its architecture does not know: {', '.join(surplus[:5])}"
        )
    return sorted(parts, key=lambda part: part.position)


def _tied_name(network: nn.Module, stored: dict[str, StoredTensor]) -> str | None:
    """The output head, where it is the input embedding and therefore not stored."""
    tied = isinstance(network, PreTrainedModel) and network.config.get_text_config().tie_word_embeddings
    return "lm_head.weight" if tied and "lm_head.weight" not in stored else None


def _check_layer(checkpoint: Checkpoint, layer: str, linear: nn.Linear, tensors: dict[str, StoredTensor]) -> None:
    layout = checkpoint.quantization
    assert layout is not None
    rows, columns = linear.in_features, linear.out_features
    group = rows if layout.group_size == -1 else layout.group_size
    groups = rows // group
    expected: dict[str, tuple[tuple[int, ...], bool]] = {
        "qweight": ((rows, columns // 8), True),
        "scales": ((groups, columns), True),
        "qzeros": ((groups, columns // 8), layout.zero_point),
        "bias": ((columns,), linear.bias is not None),
    }
    if rows % group or columns % 8:
        raise CheckpointError(
            f"{layer!r} of {checkpoint.name!r} is {rows} x {columns}; groups of {group} do not divide it"
        )
    for part, (shape, needed) in expected.items():
        tensor = tensors.get(part)
        if tensor is None:
            if needed:
                raise CheckpointError(f"{checkpoint.name!r} lacks the tensor '{layer}.{part}' of a 4-bit layer")
            continue
        right_type = tensor.dtype == "I32" if part.startswith("q") else tensor.dtype in _FLOATS
        if tensor.shape != shape or not right_type:
            raise CheckpointError(
                f"'{layer}.{part}' of {checkpoint.name!r} is {tensor.dtype} {list(tensor.shape)}; "
                f"its config.json asks for {list(shape)}"
            )


def fill_network(
    network: PreTrainedModel,
    checkpoint: Checkpoint,
    make: MakeLinear,
    device: torch.device,
    dtype: torch.dtype,
    progress: bool | None,
) -> None:
    """Read every tensor into `network`, four-bit layers as `make` makes them.

    Raises:
        CheckpointError: Tensors are missing, surplus, of the wrong shape, or unreadable.
    """
    parts = _parts(network, checkpoint)
    readers = min(_MAX_READERS, max(1, torch.get_num_threads()))
    with _progress_bar(checkpoint, progress) as advance, ThreadPoolExecutor(readers, "load") as pool:
        # Each part is read by one thread and placed when done: assignment is all that the threads share.
        futures = {pool.submit(_load_part, network, part, make, device, dtype): part for part in parts}
        try:
            for future in as_completed(futures):
                future.result()
                advance(futures[future].nbytes)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    embedding = network.get_input_embeddings()
    head = network.get_output_embeddings()  # type: ignore[no-untyped-call]  # as above
    if isinstance(head, nn.Linear) and head.weight.is_meta:
        head.weight = embedding.weight  # type: ignore[assignment]  # an Embedding, whose weight is a Parameter
    if isinstance(head, nn.Linear):
        network.set_output_embeddings(OutputHead.of(head))  # type: ignore[no-untyped-call]  # as above
    _materialize_buffers(network, device)
    left = [name for name, tensor in (*network.named_parameters(), *network.named_buffers()) if tensor.is_meta]
    if left:
        raise CheckpointError(
            f"the {network.config.model_type!r} architecture of {checkpoint.name!r} is not supported: "
            f"nothing here computes {', '.join(left[:5])}"
        )


def _load_part(network: nn.Module, part: _Part, make: MakeLinear, device: torch.device, dtype: torch.dtype) -> None:
    tensors = {key: _read(part.name, key, tensor) for key, tensor in part.tensors.items()}
    owner_name, _, leaf = part.name.rpartition(".")
    owner = network.get_submodule(owner_name)
    if part.quantized:
        with torch.inference_mode(mode=False), torch.no_grad():
            layer = make(AwqWeight(**tensors), device, dtype)
        setattr(owner, leaf, layer)
        return
    placed = tensors[""].to(device, dtype, copy=True)  # a copy, so that the file's mapping is released
    if leaf in owner._parameters:  # noqa: SLF001  # torch has no public way to tell parameters from buffers by name
        setattr(owner, leaf, nn.Parameter(placed, requires_grad=False))
    else:
        setattr(owner, leaf, placed)


def _read(name: str, key: str, tensor: StoredTensor) -> Tensor:
    """Map one tensor; a mapping per tensor keeps the pages of those already converted from counting as ours."""
    full = f"{name}.{key}" if key else name
    try:
        with safe_open(tensor.file, framework="pt") as file:
            return file.get_tensor(full)  # type: ignore[no-any-return]  # safetensors is untyped
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{full!r} cannot be read from {tensor.file}: {error}") from error


def _materialize_buffers(network: nn.Module, device: torch.device) -> None:
    """Compute the buffers that no checkpoint stores (rotary frequencies) by making their modules anew."""
    for name, module in list(network.named_modules()):
        if any(buffer.is_meta for buffer in module.buffers(recurse=False)) and hasattr(module, "config"):
            made = type(module)(config=module.config)
            network.set_submodule(name, made.to(device))


@contextmanager
def _progress_bar(checkpoint: Checkpoint, progress: bool | None) -> Iterator[Callable[[int], None]]:
    shown = sys.stderr.isatty() if progress is None else progress
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown, transient=progress is None) as bar:
        task = bar.add_task(f"loading {checkpoint.name}", total=checkpoint.nbytes)
        yield lambda nbytes: bar.advance(task, nbytes)
