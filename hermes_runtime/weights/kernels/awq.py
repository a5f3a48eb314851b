"""The AutoAWQ GEMM format: 4-bit codes eight to a word, one scale and one zero point per group of input rows.

A linear layer with K inputs and N outputs is stored as `qweight` int32 [K, N/8], `qzeros` int32 [K/g, N/8] and
`scales` [K/g, N], and stands for the matrix `w[k, n] = (code[k, n] - zero[k // g, n]) * scale[k // g, n]` (AWQ,
arXiv:2306.00978; layout as AutoAWQ's `WQLinear_GEMM` writes it). The nibble at bit 4*i of a word holds column
`NIBBLE_COLUMNS[i]` of the word's eight columns. Without zero points the zero is 8.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NIBBLE_COLUMNS = (0, 2, 4, 6, 1, 3, 5, 7)
"""Column that the nibble at bit 4*i of a word holds."""

COLUMN_NIBBLES = tuple(NIBBLE_COLUMNS.index(column) for column in range(8))
"""Nibble that holds column c of a word."""

SYMMETRIC_ZERO = 8
"""Zero point of a checkpoint that stores none: codes 0..15 stand for -8..7."""


@dataclass(frozen=True, slots=True)
class AwqWeight:
    """The stored tensors of one linear layer, shapes as in the module's docstring.

    Raises:
        ValueError: The shapes or types do not belong together.
    """

    qweight: Tensor
    scales: Tensor
    qzeros: Tensor | None = None
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        if self.qweight.dtype != torch.int32 or self.qweight.ndim != 2:
            raise ValueError(f"qweight must be a 2-D int32 tensor, got {self.qweight.dtype} {list(self.qweight.shape)}")
        if (
            not self.scales.dtype.is_floating_point
            or self.scales.ndim != 2
            or self.scales.shape[1] != self.out_features
        ):
            raise ValueError(
                f"scales {self.scales.dtype} {list(self.scales.shape)} do not fit qweight {list(self.qweight.shape)}"
            )
        if not self.scales.shape[0] or self.in_features % self.scales.shape[0]:
            raise ValueError(f"{self.scales.shape[0]} groups of scales do not divide {self.in_features} input features")
        expected = (self.scales.shape[0], self.qweight.shape[1])
        if self.qzeros is not None and (self.qzeros.dtype != torch.int32 or tuple(self.qzeros.shape) != expected):
            raise ValueError(
                f"qzeros must be int32 {list(expected)}, got {self.qzeros.dtype} {list(self.qzeros.shape)}"
            )
        if self.bias is not None and tuple(self.bias.shape) != (self.out_features,):
            raise ValueError(f"the bias must have {self.out_features} elements, got {list(self.bias.shape)}")

    @property
    def in_features(self) -> int:
        """K."""
        return self.qweight.shape[0]

    @property
    def out_features(self) -> int:
        """N."""
        return self.qweight.shape[1] * 8

    @property
    def group_size(self) -> int:
        """Input rows that share a scale."""
        return self.in_features // self.scales.shape[0]

    def zeros(self) -> Tensor:
        """Zero points, uint8 [K/g, N]."""
        if self.qzeros is None:
            return torch.full_like(self.scales, SYMMETRIC_ZERO, dtype=torch.uint8)
        return unpack_codes(self.qzeros)

    def to(self, device: torch.device) -> AwqWeight:
        """The same weight on another device."""
        qzeros = None if self.qzeros is None else self.qzeros.to(device)
        bias = None if self.bias is None else self.bias.to(device)
        return AwqWeight(self.qweight.to(device), self.scales.to(device), qzeros, bias)


def unpack_codes(words: Tensor) -> Tensor:
    """4-bit codes of `words`: int32 [R, N/8] -> uint8 [R, N], columns in their natural order."""
    codes = torch.empty(*words.shape, 8, dtype=torch.uint8, device=words.device)
    for column, nibble in enumerate(COLUMN_NIBBLES):
        codes[..., column] = (words >> (4 * nibble)) & 15
    return codes.flatten(-2)


def pack_codes(codes: Tensor) -> Tensor:
    """The inverse of `unpack_codes`: integers 0..15 [R, N] -> int32 [R, N/8]."""
    columns = codes.to(torch.int32).reshape(*codes.shape[:-1], -1, 8)
    words = torch.zeros(columns.shape[:-1], dtype=torch.int32, device=codes.device)
    for nibble, column in enumerate(NIBBLE_COLUMNS):
        words |= columns[..., column] << (4 * nibble)
    return words


def dequantize(weight: AwqWeight, dtype: torch.dtype) -> Tensor:
    """The dense matrix [K, N], computed in `dtype`: exact for float32 and float64."""
    shape = (-1, weight.group_size, weight.out_features)
    steps = unpack_codes(weight.qweight).view(shape).to(dtype) - weight.zeros().to(dtype)[:, None]
    return (steps * weight.scales.to(dtype)[:, None]).flatten(0, 1)


def quantize(dense: Tensor, group_size: int = 128, *, zero_point: bool = True) -> AwqWeight:
    """Round a matrix [K, N] to the nearest 4-bit code; the inverse of `dequantize` up to that rounding.

    Raises:
        ValueError: K is no multiple of `group_size` (-1: one group), or N none of 8.
    """
    rows, columns = dense.shape
    size = rows if group_size == -1 else group_size
    if size < 1 or rows % size or columns % 8:
        raise ValueError(
            f"[{rows}, {columns}] cannot be packed in groups of {size}: K must be a multiple of it and N one of 8"
        )
    groups = dense.float().reshape(-1, size, columns)
    if zero_point:
        low, high = groups.amin(1).clamp(max=0), groups.amax(1).clamp(min=0)
        scales = ((high - low) / 15).clamp(min=1e-5).half()
        zeros = (-low / scales.float()).round().clamp(0, 15)
    else:
        scales = (groups.abs().amax(1) / 7).clamp(min=1e-5).half()
        zeros = torch.full_like(scales, SYMMETRIC_ZERO, dtype=torch.float32)
    codes = (groups / scales.float()[:, None]).round() + zeros[:, None]
    qweight = pack_codes(codes.clamp(0, 15).flatten(0, 1))
    return AwqWeight(qweight, scales, pack_codes(zeros) if zero_point else None)
