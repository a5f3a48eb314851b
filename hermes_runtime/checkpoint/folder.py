"""Finding a checkpoint and checking that it can be read, before a single weight is.

A checkpoint is a folder with config.json, a tokenizer and safetensors shards, as transformers writes it. Only
safetensors are read: pickled weights can run code, and so can a repository's own modeling files; neither is touched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from hermes_runtime.checkpoint.awq_format import AwqFormat
from hermes_runtime.checkpoint.hub import CONFIG, find_folder
from hermes_runtime.errors import CheckpointError, HermesError, ModelNotFoundError

_INDEX = "model.safetensors.index.json"
_QUANTISED = ".qweight"
_MAX_HEADER = 100_000_000  # bytes; safetensors' own limit


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies: `offset` is its first byte in `file`, `dtype` safetensors' name of its type (F16, I32)."""

    file: Path
    offset: int
    nbytes: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that was found and whose shards are whole.

    Attributes:
        name: What the user called it.
        folder: Where its files are.
        config: config.json.
        tensors: Every stored tensor by name.
        quantization: None where the weights are not quantized.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    quantization: AwqFormat | None

    @property
    def nbytes(self) -> int:
        """Size of all tensors as stored."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @property
    def quantized_layers(self) -> tuple[str, ...]:
        """Names of the linear layers that are stored in 4 bits."""
        return tuple(name.removesuffix(_QUANTISED) for name in self.tensors if name.endswith(_QUANTISED))


def open_checkpoint(model: str) -> Checkpoint:
    """Find `model` and read its configuration and the headers of its shards, no weights.

    Raises:
        ModelNotFoundError: There is no such model, or the folder is none.
        CheckpointError: A file is missing, cut off or unreadable, or the quantization is not supported.
    """
    return read_checkpoint(model, find_folder(model))


def read_checkpoint(name: str, folder: Path) -> Checkpoint:
    """Read the configuration of a model that was found, and the headers of its shards; see `open_checkpoint`."""
    config = read_config(folder)
    if "model_type" not in config:
        raise ModelNotFoundError(f"{str(folder)!r} is no model: its config.json names no model_type")
    tensors: dict[str, StoredTensor] = {}
    with _readable(folder):
        for shard in _shards(folder):
            tensors.update(read_header(shard))
        return Checkpoint(name, folder, config, tensors, _quantization(folder, config, tensors))


def read_config(folder: Path) -> dict[str, Any]:
    """Return the config.json of a folder.

    Raises:
        ModelNotFoundError: There is none.
        CheckpointError: It cannot be read.
    """
    with _readable(folder):
        if not (folder / CONFIG).is_file():
            raise ModelNotFoundError(f"{str(folder)!r} is no model: it has no config.json")
        return read_json(folder / CONFIG)


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Name the file that the operating system does not give."""
    try:
        yield
    except HermesError:
        raise
    except OSError as error:
        raise CheckpointError(f"{error.filename or folder} cannot be read: {error.strerror or error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of the checkpoint."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object, not {type(value).__name__}")
    return value


def _shards(folder: Path) -> tuple[Path, ...]:
    if (folder / _INDEX).is_file():
        weight_map = read_json(folder / _INDEX).get("weight_map")
        if (
            not isinstance(weight_map, dict)
            or not weight_map
            or not all(isinstance(name, str) for name in weight_map.values())
        ):
            raise CheckpointError(f"{folder / _INDEX} has no usable weight_map")
        names = sorted(set(weight_map.values()))
        if any(Path(name).name != name for name in names):
            raise CheckpointError(f"{folder / _INDEX} names files outside its folder")
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise CheckpointError(
                f"{folder} lacks {', '.join(missing)} of its {len(names)} shards; download the model again"
            )
        return tuple(folder / name for name in names)
    if (folder / "model.safetensors").is_file():
        return (folder / "model.safetensors",)
    # Mistral's own releases repeat all weights under other names in consolidated*.safetensors.
    others = tuple(sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("consolidated")))
    if others:
        return others
    unsafe = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.gguf") for path in folder.glob(pattern))
    found = f"; it has {', '.join(unsafe[:3])}, and weights are only read from safetensors" if unsafe else ""
    raise CheckpointError(f"{folder} has a config.json and no *.safetensors{found}")


def read_header(path: Path) -> dict[str, StoredTensor]:
    """The table of contents of a safetensors file, checked against the file's size.

    The format: 8 bytes of little-endian header length, a JSON header with `data_offsets` per tensor, the data.

    Raises:
        CheckpointError: The file is cut off or is no safetensors file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > _MAX_HEADER:
            raise CheckpointError(f"{path} is no safetensors file, or its first bytes are damaged; download it again")
        header = file.read(length)
    if len(header) < length:
        raise CheckpointError(f"{path} is cut off inside its header ({size} bytes); download it again")
    try:
        entries = json.loads(header)
        entries.pop("__metadata__", None)
        tensors = {
            name: StoredTensor(path, 8 + length + start, stop - start, entry["dtype"], tuple(entry["shape"]))
            for name, entry in entries.items()
            for start, stop in [entry["data_offsets"]]
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} has a damaged safetensors header; download it again") from error
    expected = max((tensor.offset + tensor.nbytes for tensor in tensors.values()), default=8 + length)
    if size < expected:
        raise CheckpointError(f"{path} is cut off: it has {size} of {expected} bytes; download it again")
    return tensors


def _quantization(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, StoredTensor]) -> AwqFormat | None:
    described = config.get("quantization_config")
    if described is None and (folder / "quant_config.json").is_file():
        described = read_json(folder / "quant_config.json")
    quantized = any(name.endswith(_QUANTISED) for name in tensors)
    if described is None:
        if quantized:
            raise CheckpointError(
                f"{folder} holds quantized weights, and neither config.json nor quant_config.json says how"
            )
        return None
    if not isinstance(described, dict):
        raise CheckpointError(f"the quantization_config of {folder} must be an object, got {described!r}")
    layout = AwqFormat.from_config(described)
    if not quantized:
        raise CheckpointError(f"{folder} is described as AWQ and holds no quantized weight")
    return layout
