"""The embedded checkpoint with its weights written out in float32, for engines that shall compute the very same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any


def dense_tensors() -> dict[str, Any]:
    """Its tensors by name, float32."""
    import torch
    from safetensors.torch import load_file

    from hermes_runtime.checkpoint.hub import TINY_FOLDER
    from hermes_runtime.weights.kernels.awq import AwqWeight, dequantize

    stored = load_file(TINY_FOLDER / "model.safetensors")
    layers = {name.removesuffix(".qweight") for name in stored if name.endswith(".qweight")}
    dense = {name: tensor.float() for name, tensor in stored.items() if name.rpartition(".")[0] not in layers}
    for layer in layers:
        weight = AwqWeight(*(stored[f"{layer}.{part}"] for part in ("qweight", "scales", "qzeros")))
        dense[f"{layer}.weight"] = dequantize(weight, torch.float32).t().contiguous()
    return dense


def write_dense(folder: Path) -> Path:
    """Write the checkpoint into a new folder and return it."""
    from safetensors.torch import save_file

    from hermes_runtime.checkpoint.hub import TINY_FOLDER

    shutil.copytree(TINY_FOLDER, folder)
    save_file(dense_tensors(), folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps({**config, "torch_dtype": "float32"}))
    return folder
