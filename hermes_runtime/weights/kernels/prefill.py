"""Products with many rows on the CPU, from the weights that torch's int4 kernel holds.

That kernel unpacks a weight anew for every few rows: right for decoding, slow for long prompts. Here a block of columns
is unpacked once for all rows and multiplied by torch's own float32 (or int8) matrix product. Nothing is kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LOW_NIBBLES = 0x0F0F0F0F0F0F0F0F
_DENSE_COLUMNS = 1024
_INT8_COLUMNS = 512


def unpack_columns(packed: Tensor, codes: Tensor) -> None:
    """Unpack some blocks of the CPU layout.

    Args:
        packed: uint8 [blocks, K, block/2]; a byte holds columns c and c + block/2.
        codes: int8 [K, blocks * block], written.
    """
    blocks, rows, half = packed.shape
    words = packed.view(torch.int64)
    halves = codes.view(torch.complex128).view(rows, blocks, 2, half // 16)  # 16 bytes move as one element
    halves[:, :, 0] = (words & _LOW_NIBBLES).view(torch.complex128).transpose(0, 1)
    halves[:, :, 1] = (words >> 4).bitwise_and_(_LOW_NIBBLES).view(torch.complex128).transpose(0, 1)


def float32_product(x: Tensor, packed: Tensor, pairs: Tensor, block: int) -> Tensor:
    """The int4 kernel's product by way of dense float32 blocks: the same weights, sums in float32.

    Args:
        x: bfloat16 [M, K].
        packed: uint8 [N, K/2] of `pack_for_cpu`, N a multiple of `block`.
        pairs: bfloat16 [K/g, N, 2] of `scales_and_offsets`.
        block: `int4pack.cpu_block()`.

    Returns:
        bfloat16 [M, N].
    """
    rows, columns = x.shape[1], packed.shape[0]
    tiles = packed.view(-1, rows, block // 2)
    scales = pairs[..., 0].float()
    offsets = pairs[..., 1].float() - 8 * scales
    wide, y = x.float(), x.new_empty(x.shape[0], columns)
    width = min(_DENSE_COLUMNS, columns)
    memory = torch.empty(rows * width), torch.empty(rows * width, dtype=torch.int8), torch.empty(len(x) * width)
    for start in range(0, columns, width):
        stop = min(start + width, columns)
        taken = stop - start
        weights, codes = (part[: rows * taken].view(len(scales), -1, taken) for part in memory[:2])
        unpack_columns(tiles[start // block : stop // block], codes.flatten(0, 1))
        for group, part in enumerate(codes):  # one group fits the cache
            weights[group].copy_(part).mul_(scales[group, start:stop]).add_(offsets[group, start:stop])
        product = memory[2][: len(x) * taken].view(len(x), taken)
        y[:, start:stop] = torch.mm(wide, weights.flatten(0, 1), out=product)
    return y


def int8_product(x: Tensor, packed: Tensor, pairs: Tensor, block: int) -> Tensor:
    """As `float32_product`, with activations rounded to 8 bits, one scale per row and group.

    Codes, zero points and sums within a group stay exact. This is what llama.cpp does with groups of 32.
    """
    rows, columns, groups = x.shape[1], packed.shape[0], pairs.shape[0]
    tiles = packed.view(-1, rows, block // 2)
    weight_scales = pairs[..., 0].float()
    offsets = pairs[..., 1].float() - 8 * weight_scales
    grouped = x.float().view(-1, groups, rows // groups)
    scales = grouped.abs().amax(-1, keepdim=True).clamp_(min=1e-20).div_(127)
    steps = (grouped / scales).round_()
    sums = steps.sum(-1).mul_(scales[..., 0])  # what a code of 1 everywhere would give
    steps = steps.to(torch.int8).transpose(0, 1).contiguous()
    scales = scales.transpose(0, 1).contiguous()
    y = x.new_empty(x.shape[0], columns)
    for start in range(0, columns, _INT8_COLUMNS):
        stop = min(start + _INT8_COLUMNS, columns)
        codes = torch.empty(rows, stop - start, dtype=torch.int8)
        unpack_columns(tiles[start // block : stop // block], codes)
        total = sums @ offsets[:, start:stop]
        counts = torch.empty_like(total, dtype=torch.int32)
        scaled = torch.empty_like(total)
        for group, part in enumerate(codes.view(groups, -1, stop - start)):
            torch._int_mm(steps[group], part, out=counts)  # noqa: SLF001  # torch has no public int8 product
            total.addcmul_(scaled.copy_(counts).mul_(scales[group]), weight_scales[group, start:stop])
        y[:, start:stop] = total
    return y
