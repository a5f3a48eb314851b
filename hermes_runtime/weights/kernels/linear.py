"""Linear layers over AWQ weights, one class per kernel; `table` lists them.

All take activations [..., K] of any float type and return [..., N] of the same type. What each costs is measured in
docs/awq.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hermes_runtime.weights.kernels import vnni
from hermes_runtime.weights.kernels.awq import SYMMETRIC_ZERO, AwqWeight, dequantize, pack_codes
from hermes_runtime.weights.kernels.int4pack import (
    CUDA_TILE,
    cpu_block,
    cuda_tile_order,
    kernel_group_size,
    pack_for_cpu,
    pack_for_cuda,
    scales_and_offsets,
    unpack_from_cuda,
)
from hermes_runtime.weights.kernels.prefill import float32_product, int8_product

CPU_DENSE_ROWS = 192
"""From this many rows on, dense float32 blocks beat torch's CPU kernel (measured; docs/awq.md)."""

CPU_INT8_ROWS = 64
"""From this many rows on, int8 blocks beat torch's CPU kernel (measured; docs/awq.md)."""

CUDA_DENSE_ROWS = 512
"""From this many rows on, a dense block should beat torch's CUDA kernel, which reads the weights for each 16 rows.

An estimate: `benchmarks.gpu_check` measures it.
"""

# torch has no public names for these.
_int4_cpu = torch.ops.aten._weight_int4pack_mm_for_cpu  # noqa: SLF001
_int4_cuda = torch.ops.aten._weight_int4pack_mm  # noqa: SLF001

_HEAD_ROWS = 4  # up to here a product per row is faster
_DEQUANTIZE_COLUMNS = 2048  # bounds the temporary dense block to K x 2048


class _AwqLinear(nn.Module):
    """The shape of a layer over an AWQ weight, which subclasses keep in layouts of their own."""

    bias: Tensor | None

    def __init__(self, weight: AwqWeight) -> None:
        super().__init__()
        self.in_features, self.out_features = weight.in_features, weight.out_features
        self.group_size = weight.group_size

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"in_features={self.in_features}, out_features={self.out_features}, group_size={self.group_size}"


class Int4Linear(_AwqLinear):
    """`kernel="torch"`: aten's int4pack product, in bfloat16 with float32 sums; dense blocks for many rows.

    Codes are exact; scales and offsets are rounded to bfloat16.
    """

    packed: Tensor
    pairs: Tensor

    def __init__(
        self, weight: AwqWeight, device: torch.device, dtype: torch.dtype, *, int8_prompts: bool = False
    ) -> None:
        super().__init__(weight)
        size = kernel_group_size(weight.group_size)
        if size is None:
            raise ValueError(f"groups of {weight.group_size} rows are no multiple of 32")
        self.group_size = size
        self.int8_prompts = int8_prompts
        block = cpu_block() if device.type == "cpu" else None
        self.block = block if block is not None and weight.out_features % block == 0 else None
        on_device = weight.to(device)
        pack = pack_for_cpu if device.type == "cpu" else pack_for_cuda
        self.register_buffer("packed", pack(on_device.qweight))
        self.register_buffer("pairs", scales_and_offsets(on_device))
        self.register_buffer("bias", None if on_device.bias is None else on_device.bias.to(dtype))

    @staticmethod
    def fits(weight: AwqWeight, device: torch.device) -> bool:
        """Whether the kernel takes a layer of this shape; the rare layer that it does not take is dequantized."""
        if kernel_group_size(weight.group_size) is None:
            return False
        if device.type == "cpu":
            return weight.out_features % 16 == 0
        return weight.out_features % CUDA_TILE[0] == 0 and weight.in_features % CUDA_TILE[1] == 0

    def int4(self, rows: Tensor) -> Tensor:
        """Torch's kernel on bfloat16 [M, K] -> bfloat16 [M, N]."""
        product = _int4_cpu if rows.device.type == "cpu" else _int4_cuda
        y: Tensor = product(rows, self.packed, self.group_size, self.pairs)
        return y

    def dense(self) -> Tensor:
        """The matrix that the kernel multiplies with, bfloat16 [N, K]; CUDA only."""
        codes = unpack_from_cuda(self.packed, cuda_tile_order(self.packed.device))
        scale, offset = self.pairs.permute(2, 1, 0)[..., None]
        steps = codes.view(self.out_features, -1, self.group_size).to(torch.bfloat16) - 8
        return torch.addcmul(offset, steps, scale).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] -> [..., N]."""
        rows = x.reshape(-1, self.in_features).to(torch.bfloat16).contiguous()
        y = self._product(rows).to(x.dtype).view(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias

    def _product(self, rows: Tensor) -> Tensor:
        if rows.device.type == "cuda" and len(rows) >= CUDA_DENSE_ROWS:
            return functional.linear(rows, self.dense())
        if self.block is not None and self.int8_prompts and len(rows) >= CPU_INT8_ROWS:
            return int8_product(rows, self.packed, self.pairs, self.block)
        if self.block is not None and len(rows) >= CPU_DENSE_ROWS:
            return float32_product(rows, self.packed, self.pairs, self.block)
        return self.int4(rows)


class VnniLinear(_AwqLinear):
    """`kernel="vnni"`: activations of 16 bits, products and sums of a group exact, scales in float32.

    No row depends on the others: it comes out the same alone and in any batch, bit for bit.
    """

    packed: Tensor
    pairs: Tensor

    def __init__(self, weight: AwqWeight, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(weight)
        assert device.type == "cpu"
        scales = weight.scales.float()
        pairs = torch.stack((scales, -scales * weight.zeros().float()), 1)
        blocks = pairs.view(len(scales), 2, -1, vnni.COLUMNS).permute(2, 0, 1, 3).contiguous()
        self.register_buffer("packed", vnni.pack(weight.qweight))
        self.register_buffer("pairs", blocks)
        self.register_buffer("bias", None if weight.bias is None else weight.bias.to(dtype, copy=True))

    @staticmethod
    def fits(weight: AwqWeight) -> bool:
        """Whether it takes a layer of this shape; the rare layer that it does not take is dequantized."""
        is_whole = weight.out_features % vnni.COLUMNS == 0 and weight.group_size % vnni.STEP == 0
        return is_whole and weight.group_size <= vnni.LARGEST_GROUP

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] -> [..., N]."""
        y = vnni.product(x.reshape(-1, self.in_features).float(), self.packed, self.pairs)
        y = y.to(x.dtype).view(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias


class DequantizeLinear(_AwqLinear):
    """`kernel="dequantize"`: keeps the stored words and multiplies dense blocks of them."""

    qweight: Tensor
    scales: Tensor
    qzeros: Tensor | None

    def __init__(self, weight: AwqWeight, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(weight)
        for name in ("qweight", "scales", "qzeros", "bias"):
            tensor: Tensor | None = getattr(weight, name)
            self.register_buffer(name, None if tensor is None else tensor.to(device, copy=True))
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] -> [..., N]."""
        blocks = []
        for start in range(0, self.out_features, _DEQUANTIZE_COLUMNS):
            columns = slice(start, start + _DEQUANTIZE_COLUMNS)
            words = slice(start // 8, (start + _DEQUANTIZE_COLUMNS) // 8)
            block = AwqWeight(
                self.qweight[:, words], self.scales[:, columns], None if self.qzeros is None else self.qzeros[:, words]
            )
            blocks.append(x @ dequantize(block, x.dtype))
        y = torch.cat(blocks, dim=-1)
        return y if self.bias is None else y + self.bias.to(y.dtype)


class OutputHead(nn.Linear):
    """The layer that makes logits, in 16 or 32 bits, for the rows that it is really given.

    It gets the last position of a prompt as a slice, [1, 1, K] with gaps, for which torch's batched product copies the
    whole weight. Torch's bfloat16 product is slow on a CPU without instructions for it: ours computes in float32; where
    that does not run, a product per row is faster than one for a few.
    """

    @classmethod
    def of(cls, linear: nn.Linear) -> OutputHead:
        """The same layer, sharing its weight."""
        head = cls(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        head.weight, head.bias = linear.weight, linear.bias
        return head

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] -> [..., N]."""
        rows = x.reshape(-1, self.in_features)
        is_slow = x.device.type == "cpu" and x.dtype == torch.bfloat16 and self.bias is None
        if is_slow and self._fits_vnni and vnni.reason_against() is None:
            y = vnni.bfloat16_product(rows.float(), self.weight).to(x.dtype)
        elif is_slow and 0 < len(rows) <= _HEAD_ROWS:
            y = torch.stack([torch.mv(self.weight, row) for row in rows])
        else:
            y = functional.linear(rows, self.weight, self.bias)
        return y.view(*x.shape[:-1], self.out_features)

    @property
    def _fits_vnni(self) -> bool:
        weight = self.weight
        return weight.is_contiguous() and weight.shape[0] % 4 == 0 and weight.shape[1] % 16 == 0


def dense_linear(weight: AwqWeight, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """`kernel="dense"`: an ordinary linear layer."""
    linear = nn.Linear(weight.in_features, weight.out_features, bias=weight.bias is not None, device="meta")
    on_device = weight.to(device)
    matrix = dequantize(on_device, torch.float32).t().to(dtype).contiguous()
    linear.weight = nn.Parameter(matrix, requires_grad=False)
    if on_device.bias is not None:
        linear.bias = nn.Parameter(on_device.bias.to(dtype), requires_grad=False)
    return linear


def vnni_linear(weight: AwqWeight, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """`kernel="vnni"`, or `DequantizeLinear` for the rare shape that it does not take."""
    return VnniLinear(weight, device, dtype) if VnniLinear.fits(weight) else DequantizeLinear(weight, device, dtype)


def int4_linear(weight: AwqWeight, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """`kernel="torch"`, or `DequantizeLinear` for the rare shape that torch's kernel does not take."""
    return (
        Int4Linear(weight, device, dtype)
        if Int4Linear.fits(weight, device)
        else DequantizeLinear(weight, device, dtype)
    )


def int8_prompt_linear(weight: AwqWeight, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """`kernel="torch-int8"`, with the same exception."""
    if not Int4Linear.fits(weight, device):
        return DequantizeLinear(weight, device, dtype)
    return Int4Linear(weight, device, dtype, int8_prompts=True)


def autoawq_linear(weight: AwqWeight, device: torch.device, dtype: torch.dtype) -> nn.Module:  # noqa: ARG001  # AutoAWQ computes in float16 whatever comes in
    """`kernel="autoawq"`: AutoAWQ's own layer."""
    from awq.modules.linear import gemm  # noqa: PLC0415  # optional, and slow to import

    if device.type == "cpu":
        gemm.TRITON_AVAILABLE = False  # importable beside a CPU build of torch, where its kernels cannot run
    layer = gemm.WQLinear_GEMM(
        4, weight.group_size, weight.in_features, weight.out_features, weight.bias is not None, "meta"
    )
    qzeros = weight.qzeros if weight.qzeros is not None else pack_codes(torch.full_like(weight.scales, SYMMETRIC_ZERO))
    layer.qweight, layer.qzeros = weight.qweight.to(device, copy=True), qzeros.to(device, copy=True)
    layer.scales = weight.scales.to(device, torch.float16, copy=True)
    if weight.bias is not None:
        layer.bias = weight.bias.to(device, torch.float16, copy=True)
    layer.eval()
    return layer  # type: ignore[no-any-return]  # AutoAWQ is untyped


def reference(x: Tensor, weight: AwqWeight) -> Tensor:
    """The product in float64, against which kernels are measured: [..., K] -> float64 [..., N]."""
    dense = dequantize(weight, torch.float64)
    return functional.linear(x.double(), dense.t(), None if weight.bias is None else weight.bias.double())
