"""The kernels, one row each: what runs, where, what it holds in memory. Whatever asks about a kernel asks its row."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from hermes_runtime.errors import EngineError, InvalidRequestError
from hermes_runtime.weights.kernels import vnni
from hermes_runtime.weights.kernels.awq import AwqWeight
from hermes_runtime.weights.kernels.linear import (
    DequantizeLinear,
    autoawq_linear,
    dense_linear,
    int4_linear,
    int8_prompt_linear,
    vnni_linear,
)

MakeLinear = Callable[[AwqWeight, torch.device, torch.dtype], nn.Module]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One way to multiply with 4-bit weights.

    Attributes:
        name: What `kernel=` calls it.
        about: What it is, in one line.
        make: Makes a layer of a stored one; None where it replaces the loading of a whole checkpoint, see `loader`.
        reason: Why it cannot run on a device whatever is installed, as a whole sentence; None where it can.
        package: The module that it needs, which the extra of the kernel's own name installs; None for ours.
        is_automatic: It is taken where none is named, unless an earlier row that is so runs.
        is_dense: A weight is kept as a number of the type that is computed in, else in its 4 bits.
        pair_bytes: What scale and offset of a group take; None where scales and zero points stay as stored.
        error: The largest error, relative to the product in float64, of products of bfloat16 activations.
    """

    name: str
    about: str
    make: MakeLinear | None
    reason: Callable[[torch.device], str | None]
    package: str | None
    is_automatic: bool
    is_dense: bool
    pair_bytes: int | None
    error: float

    def reason_against(self, device: torch.device) -> str | None:
        """Return why it cannot run here on a device, as a whole sentence; None where it can."""
        if self.package is not None and importlib.util.find_spec(self.package) is None:
            install = f"pip install 'hermes-adapters[{self.name}]'"
            return f"kernel={self.name!r} needs a package that is not installed: {install}"
        return self.reason(device)


def _nothing(device: torch.device) -> None:  # noqa: ARG001  # what runs everywhere asks for no device
    return None


def _against_vnni(device: torch.device) -> str | None:
    if device.type != "cpu":
        return f"kernel='vnni' is for CPUs, not {device}; leave kernel out"
    reason = vnni.reason_against()
    return None if reason is None else f"kernel='vnni' does not run here; use kernel='torch': {reason}"


def _against_torch(device: torch.device) -> str | None:
    if device.type == "cpu":
        has_kernel = hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu")
    else:
        has_kernel = (
            device.type == "cuda"
            and torch.version.cuda is not None
            and torch.cuda.get_device_capability(device) >= (8, 0)
        )
    if has_kernel:
        return None
    return (
        "torch's int4 kernel needs a CPU, or an NVIDIA GPU of compute capability 8.0 or more, "
        f"and {device} is neither; use kernel='dequantize'"
    )


def _against_int8(device: torch.device) -> str | None:
    return None if device.type == "cpu" else f"kernel='torch-int8' is for CPUs, not {device}; leave kernel out"


_BFLOAT16 = 6e-3
"""Of scales, offsets and results that bfloat16 rounds."""

_ROWS = (
    Kernel(
        name="vnni",
        about="this package's int4 product for CPUs with AVX-512 VNNI, compiled once by the C compiler at hand",
        make=vnni_linear,
        reason=_against_vnni,
        package=None,
        is_automatic=True,
        is_dense=False,
        pair_bytes=8,
        error=_BFLOAT16,
    ),
    Kernel(
        name="torch",
        about="torch's own int4 matrix product on CPU, and on CUDA from compute capability 8.0; computes in bfloat16",
        make=int4_linear,
        reason=_against_torch,
        package=None,
        is_automatic=True,
        is_dense=False,
        pair_bytes=4,
        error=_BFLOAT16,
    ),
    Kernel(
        name="torch-int8",
        about="as torch, but long prompts on the CPU round activations to 8 bits: faster, a little less exact",
        make=int8_prompt_linear,
        reason=_against_int8,
        package=None,
        is_automatic=False,
        is_dense=False,
        pair_bytes=4,
        error=2e-2,
    ),
    Kernel(
        name="dequantize",
        about="makes the dense matrix anew in every forward: any device, exact, 4-bit memory, slow",
        make=DequantizeLinear,
        reason=_nothing,
        package=None,
        is_automatic=True,
        is_dense=False,
        pair_bytes=None,
        error=_BFLOAT16,
    ),
    Kernel(
        name="dense",
        about="makes the dense matrices once while loading: any device, exact, four times the memory",
        make=dense_linear,
        reason=_nothing,
        package=None,
        is_automatic=False,
        is_dense=True,
        pair_bytes=0,
        error=_BFLOAT16,
    ),
    Kernel(
        name="autoawq",
        about="AutoAWQ's WQLinear_GEMM; needs the package `autoawq`",
        make=autoawq_linear,
        reason=_nothing,
        package="awq",
        is_automatic=False,
        is_dense=False,
        pair_bytes=None,
        error=_BFLOAT16,
    ),
    Kernel(
        name="gptqmodel",
        about="whatever GPTQModel picks through transformers; needs the package `gptqmodel`",
        make=None,
        reason=_nothing,
        package="gptqmodel",
        is_automatic=False,
        is_dense=False,
        pair_bytes=None,
        error=_BFLOAT16,
    ),
)

KERNELS: dict[str, Kernel] = {row.name: row for row in _ROWS}
"""What `kernel=` may name beside None and "auto"."""


def choose_kernel(kernel: str | None, device: torch.device) -> str:
    """The kernel to use on `device`; None and "auto" mean the first automatic one that runs.

    Raises:
        InvalidRequestError: The name is unknown.
        EngineError: The kernel is not available here; the message says what to install.
    """
    if kernel is None or kernel == "auto":
        return next(row.name for row in KERNELS.values() if row.is_automatic and row.reason_against(device) is None)
    if kernel not in KERNELS:
        raise InvalidRequestError(f"unknown kernel {kernel!r}; choose one of auto, {', '.join(KERNELS)}")
    if reason := KERNELS[kernel].reason_against(device):
        raise EngineError(reason)
    return kernel
