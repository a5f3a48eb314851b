"""AWQ words -> the layouts that torch's own int4 kernels read, and back to dense blocks.

torch's `_convert_weight_to_int4pack_for_cpu` wants one int32 per code (8 bytes for each byte of checkpoint) and takes
minutes for a 7B model, so the CPU layout is written straight from the AWQ words with shifts and masks on cache-sized
pieces. That layout is private to torch and differs between instruction sets; `cpu_block` therefore compares with
torch's own packing once per process and falls back to it.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from hermes_runtime.weights.kernels.awq import AwqWeight, unpack_codes

KERNEL_GROUP_SIZES = (256, 128, 64, 32)
"""Group sizes that torch's int4 kernels take, largest first."""

CUDA_INNER_TILES = 8
"""`innerKTiles` of the CUDA layout: K must be a multiple of 16 times this."""

# 128 KiB: a piece and its temporaries stay in the L2 cache, and below the size at which torch starts more threads.
_PIECE_WORDS = 1 << 15

CUDA_TILE = (8, 16 * CUDA_INNER_TILES)
"""Rows (N) and columns (K) of the blocks within which the CUDA layout permutes codes."""


# torch has no public names for these.
_convert_for_cpu = torch.ops.aten._convert_weight_to_int4pack_for_cpu  # noqa: SLF001
_convert_for_cuda = torch.ops.aten._convert_weight_to_int4pack  # noqa: SLF001


def kernel_group_size(group_size: int) -> int | None:
    """The largest group size of the kernels that divides `group_size`, or None; scales are repeated to reach it."""
    return next((size for size in KERNEL_GROUP_SIZES if group_size % size == 0), None)


def scales_and_offsets(weight: AwqWeight, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """What the kernels multiply and add: [K/g', N, 2] with `w = (code - 8) * pair[0] + pair[1]`.

    g' is the layer's `kernel_group_size`. The offset is taken from the rounded scale, so that rounding the scale
    stretches a group and never shifts it.
    """
    size = kernel_group_size(weight.group_size)
    if size is None:
        raise ValueError(f"groups of {weight.group_size} rows are no multiple of 32")
    scales = weight.scales.to(dtype).float()
    pairs = torch.stack([scales, (8 - weight.zeros().float()) * scales], dim=-1).to(dtype)
    return pairs.repeat_interleave(weight.group_size // size, dim=0).contiguous()


def _pack_with_torch(words: Tensor) -> Tensor:
    codes = unpack_codes(words).t().to(torch.int32).contiguous()
    packed: Tensor = _convert_for_cpu(codes, 1)
    return packed


def _merge_halves(first: Tensor, second: Tensor, low: Tensor, high: Tensor) -> None:
    """Low nibbles of both to `low` and high nibbles to `high`, those of `second` on top. Overwrites all four."""
    torch.bitwise_and(second, 0x0F0F0F0F, out=low)
    low.bitwise_left_shift_(4)
    torch.bitwise_right_shift(first, 4, out=high)
    high.bitwise_and_(0x0F0F0F0F)
    low.bitwise_or_(first.bitwise_and_(0x0F0F0F0F))
    high.bitwise_or_(second.bitwise_and_(-0x0F0F0F10))  # 0xF0F0F0F0 as int32


def _pack_directly(words: Tensor, block: int, out: Tensor) -> None:
    """Write `words` [K, N/8], N a multiple of `block`, into `out`, int32 [N/block, K, block/8].

    In a block the byte of column c < block/2 holds column c in its low and column c + block/2 in its high nibble. A
    word's bytes hold the columns (0, 2), (4, 6), (1, 3), (5, 7). With the middle two swapped, the low nibbles of two
    words half a block apart merge to the bytes of columns 0 1 4 5 and the high ones to those of 2 3 6 7; what remains
    is to interleave their 16-bit halves, by widening.
    """
    rows, columns = words.shape
    half = block // 16  # words
    unit = torch.complex128 if half == 4 else torch.int64  # copies half a block as one element
    source = words.contiguous().view(unit).view(rows, -1, 2)
    step = max(1, _PIECE_WORDS // columns)
    for start in range(0, rows, step):
        count = min(step, rows - start)
        if start == 0 or count < step:
            pieces = words.new_empty((2, columns // (2 * half), count, half))
            scratch = torch.empty_like(pieces)
            wide, wide_high = torch.empty_like(pieces).view(-1), torch.empty_like(pieces).view(-1)
        pieces.view(unit).squeeze(-1).copy_(source[start : start + count].permute(2, 1, 0))
        torch.bitwise_right_shift(pieces, 8, out=scratch)
        scratch.bitwise_xor_(pieces).bitwise_and_(0x0000FF00)
        pieces.bitwise_xor_(scratch).bitwise_xor_(scratch.bitwise_left_shift_(8))
        low, high = scratch
        _merge_halves(pieces[0], pieces[1], low, high)
        wide.copy_(low.view(torch.int16).view(-1)).bitwise_and_(0xFFFF)
        wide_high.copy_(high.view(torch.int16).view(-1)).bitwise_left_shift_(16)
        out[:, start : start + count] = wide.bitwise_or_(wide_high).view(-1, count, 2 * half)


@cache
def cpu_block() -> int | None:
    """Columns that this machine's CPU kernel interleaves, or None where its layout is not the one known here."""
    probe = torch.randint(-(2**31), 2**31 - 1, (4, 16), dtype=torch.int32, generator=torch.Generator().manual_seed(0))
    expected = _pack_with_torch(probe)
    for block in (64, 32):
        packed = torch.empty_like(expected)
        _pack_directly(probe, block, packed.view(-1).view(torch.int32).view(128 // block, 4, block // 8))
        if torch.equal(packed, expected):
            return block
    return None


def pack_for_cpu(qweight: Tensor) -> Tensor:
    """AWQ words [K, N/8] -> the packed uint8 [N, K/2] of `_weight_int4pack_mm_for_cpu`.

    Args:
        qweight: int32 on the CPU; N must be a multiple of 16 and K of 2.
    """
    rows, columns = qweight.shape[0], qweight.shape[1] * 8
    if columns % 16 or rows % 2:
        raise ValueError(f"a [{rows}, {columns}] weight does not fit the kernel: N must be a multiple of 16 and K even")
    block = cpu_block()
    packed = torch.empty(columns, rows // 2, dtype=torch.uint8)
    whole = 0 if block is None else columns - columns % block
    if block is not None and whole:
        out = packed[:whole].view(-1).view(torch.int32).view(whole // block, rows, block // 8)
        _pack_directly(qweight[:, : whole // 8], block, out)
    step = (
        columns if block is None and columns < 1024 else 1024
    )  # a multiple of every block: pieces pack like the whole
    for start in range(whole, columns, step):
        stop = min(start + step, columns)
        packed[start:stop] = _pack_with_torch(qweight[:, start // 8 : stop // 8])
    return packed


def pack_for_cuda(qweight: Tensor) -> Tensor:
    """AWQ words [K, N/8] -> the packed int32 of `_weight_int4pack_mm`, where `qweight` lies; K a multiple of 128."""
    return _pack_tiles(unpack_codes(qweight).t())


def _pack_tiles(codes: Tensor) -> Tensor:
    pairs = (codes[:, ::2] << 4) | codes[:, 1::2]
    packed: Tensor = _convert_for_cuda(pairs.contiguous(), CUDA_INNER_TILES)
    return packed


def nibbles(words: Tensor) -> Tensor:
    """All nibbles of int32 words, lowest first: [...] -> uint8 [..., 8]."""
    parts = torch.empty(*words.shape, 8, dtype=torch.uint8, device=words.device)
    for index in range(8):
        parts[..., index] = (words >> (4 * index)) & 15
    return parts


@cache
def cuda_tile_order(device: torch.device) -> Tensor:
    """Where in a packed tile each code of `CUDA_TILE` lies, int64 [1024].

    The layout is private to torch, so it is read off: tiles whose codes spell their own position, four bits at a time.
    """
    rows, columns = CUDA_TILE
    position = torch.arange(rows * columns, device=device)
    found = torch.zeros_like(position)
    for shift in (0, 4, 8):
        digits = ((position >> shift) & 15).to(torch.uint8).view(rows, columns)
        found |= nibbles(_pack_tiles(digits)).flatten().long() << shift
    return found.argsort()


def unpack_from_cuda(packed: Tensor, order: Tensor) -> Tensor:
    """The inverse of `pack_for_cuda` up to transposition: packed [N/8, K/128, 32, 4] -> uint8 codes [N, K]."""
    tiles = nibbles(packed).flatten(2).index_select(2, order).view(*packed.shape[:2], *CUDA_TILE)
    return tiles.transpose(1, 2).flatten(2).flatten(0, 1)
