"""How an AWQ checkpoint says that it is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hermes_runtime.errors import CheckpointError

_SUPPORTED = "supported are AutoAWQ checkpoints (4 bits, version `gemm`) and unquantized ones"


@dataclass(frozen=True, slots=True)
class AwqFormat:
    """How a checkpoint is quantized.

    Attributes:
        group_size: Input rows that share a scale; -1 means all of them.
        zero_point: Whether `qzeros` are expected.
    """

    group_size: int = 128
    zero_point: bool = True

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> AwqFormat:
        """Read the `quantization_config` of config.json, or AutoAWQ's older quant_config.json.

        Raises:
            CheckpointError: The method, the bits or the layout is not one that is read here; the message names it.
        """
        method = str(config.get("quant_method", "awq")).lower()
        if method != "awq":
            raise CheckpointError(f"the checkpoint is quantized with {method!r}; {_SUPPORTED}")
        bits = config.get("bits", config.get("w_bit", 4))
        if bits != 4:
            raise CheckpointError(f"the checkpoint has {bits!r}-bit AWQ weights; {_SUPPORTED}")
        version = str(config.get("version", config.get("format", "gemm"))).lower()
        if version != "gemm":
            raise CheckpointError(f"the checkpoint is in the AWQ layout {version!r}; {_SUPPORTED}")
        group_size = config.get("group_size", config.get("q_group_size", 128))
        if isinstance(group_size, bool) or not isinstance(group_size, int) or (group_size < 1 and group_size != -1):
            raise CheckpointError(
                f"the checkpoint's AWQ group size is {group_size!r}; it must be a positive number, or -1 for one group"
            )
        return cls(group_size=group_size, zero_point=bool(config.get("zero_point", True)))
