"""The AWQ format against a scalar reading of it, and each kernel against float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_runtime.checkpoint.awq_format import AwqFormat
from hermes_runtime.errors import CheckpointError, EngineError, InvalidRequestError
from hermes_runtime.weights.kernels import int4pack, vnni
from hermes_runtime.weights.kernels.awq import AwqWeight, dequantize, pack_codes, quantize, unpack_codes
from hermes_runtime.weights.kernels.linear import (
    CPU_DENSE_ROWS,
    CPU_INT8_ROWS,
    DequantizeLinear,
    Int4Linear,
    OutputHead,
    VnniLinear,
    reference,
)
from hermes_runtime.weights.kernels.table import KERNELS, choose_kernel
from tests.support.vnni import NEEDS_VNNI

CPU = torch.device("cpu")
ROWS = (1, 2, 5, 64)
# bfloat16 keeps 8 bits: scales, offsets and the result are each rounded to 2^-9.
BF16_TOLERANCE = 6e-3


def random_weight(rows, columns, group, *, zero_point=True, bias=False, scale_dtype=torch.float16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(-(2**31), 2**31 - 1, (rows, columns // 8), dtype=torch.int32, generator=generator)
    scales = (0.2 + torch.rand(rows // group, columns, generator=generator)) * 0.02
    zeros = torch.randint(-(2**31), 2**31 - 1, (rows // group, columns // 8), dtype=torch.int32, generator=generator)
    offset = torch.randn(columns, generator=generator).to(scale_dtype) if bias else None
    return AwqWeight(words, scales.to(scale_dtype), zeros if zero_point else None, offset)


def scalar_dequantize(weight):
    """The format's definition, one number at a time."""

    def code(words, row, column):
        word = int(words[row, column // 8]) & 0xFFFFFFFF
        # AutoAWQ packs columns 0 2 4 6 1 3 5 7 of each eight, lowest nibble first.
        return (word >> (4 * [0, 2, 4, 6, 1, 3, 5, 7].index(column % 8))) & 15

    dense = torch.empty(weight.in_features, weight.out_features, dtype=torch.float64)
    for row in range(weight.in_features):
        group = row // (weight.in_features // weight.scales.shape[0])
        for column in range(weight.out_features):
            zero = 8 if weight.qzeros is None else code(weight.qzeros, group, column)
            dense[row, column] = (code(weight.qweight, row, column) - zero) * float(weight.scales[group, column])
    return dense


def relative_error(found, expected):
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("zero_point", [True, False])
def test_dequantize_is_the_scalar_reading_of_the_format(zero_point):
    weight = random_weight(16, 24, 8, zero_point=zero_point)
    assert torch.equal(dequantize(weight, torch.float64), scalar_dequantize(weight))
    assert torch.equal(dequantize(weight, torch.float32).double(), scalar_dequantize(weight))


@given(st.integers(1, 9), st.integers(1, 6), st.integers(0, 2**31))
def test_packing_and_unpacking_are_inverse(rows, words, seed):
    codes = torch.randint(0, 16, (rows, 8 * words), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    packed = pack_codes(codes)
    assert packed.dtype == torch.int32
    assert torch.equal(unpack_codes(packed), codes)
    assert torch.equal(pack_codes(unpack_codes(packed)), packed)


@pytest.mark.parametrize(("zero_point", "steps"), [(True, 0.5), (False, 0.75)])
def test_quantize_is_within_a_rounding_step(zero_point, steps):
    dense = torch.randn(256, 64, generator=torch.Generator().manual_seed(3))
    weight = quantize(dense, 64, zero_point=zero_point)
    step = weight.scales.double().repeat_interleave(64, dim=0)
    # Half a step for the code; zero points and clipped ends cost up to as much again for the outermost values.
    assert bool(((dequantize(weight, torch.float64) - dense).abs() <= 2 * steps * step).all())
    assert (weight.qzeros is not None) == zero_point
    assert torch.equal(
        dequantize(quantize(dequantize(weight, torch.float32), 64), torch.float64).isnan(), dense.isnan()
    )


def test_quantizing_what_is_already_on_the_grid_is_lossless():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 16, (128, 16), generator=generator)
    codes[0], codes[1] = 0, 15  # so that the range is the grid's
    dense = (codes - 6).float() * 0.0625
    assert torch.equal(dequantize(quantize(dense, 128), torch.float32), dense)


@pytest.mark.parametrize(("shape", "group"), [((100, 16), 64), ((64, 12), 64), ((64, 16), 0)])
def test_quantize_refuses_what_cannot_be_packed(shape, group):
    with pytest.raises(ValueError, match="cannot be packed"):
        quantize(torch.zeros(shape), group)


@pytest.mark.parametrize(
    "broken",
    [
        {"qweight": torch.zeros(64, 2)},
        {"scales": torch.ones(2, 8)},
        {"scales": torch.ones(3, 16)},
        {"scales": torch.ones(2, 16, dtype=torch.int32)},
        {"qzeros": torch.zeros(1, 2, dtype=torch.int32)},
        {"bias": torch.zeros(8)},
    ],
)
def test_tensors_that_do_not_belong_together_are_refused(broken):
    whole = {"qweight": torch.zeros(64, 2, dtype=torch.int32), "scales": torch.ones(2, 16)}
    with pytest.raises(ValueError, match=r"qweight|scales|qzeros|bias"):
        AwqWeight(**(whole | broken))


@given(st.integers(1, 70), st.sampled_from([16, 32, 48, 64, 80, 96, 112, 128, 192]), st.integers(0, 2**31))
def test_the_fast_repack_writes_what_torch_writes(half_rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(-(2**31), 2**31 - 1, (2 * half_rows, columns // 8), dtype=torch.int32, generator=generator)
    codes = unpack_codes(words).t().to(torch.int32).contiguous()
    expected = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
    assert torch.equal(int4pack.pack_for_cpu(words), expected)
    saved = int4pack._PIECE_WORDS
    try:
        int4pack._PIECE_WORDS = 40  # many pieces, the last one shorter
        assert torch.equal(int4pack.pack_for_cpu(words), expected)
    finally:
        int4pack._PIECE_WORDS = saved


def test_the_repack_falls_back_to_torch_where_the_layout_is_unknown(monkeypatch):
    weight = random_weight(64, 1104, 64)
    expected = int4pack.pack_for_cpu(weight.qweight)
    monkeypatch.setattr(int4pack, "cpu_block", lambda: None)
    assert torch.equal(int4pack.pack_for_cpu(weight.qweight), expected)


def test_the_repack_refuses_shapes_that_the_kernel_cannot_take():
    with pytest.raises(ValueError, match="multiple of 16"):
        int4pack.pack_for_cpu(torch.zeros(64, 1, dtype=torch.int32))


@pytest.mark.parametrize("block", [32, 64])
def test_the_direct_layout_of_either_block_size_holds_each_code_once(block):
    """The layout of the AVX2 and of the AVX-512 kernel, read back by its definition."""
    words = random_weight(6, 128, 2).qweight
    packed = torch.empty(128 // block, 6, block // 8, dtype=torch.int32)
    int4pack._pack_directly(words, block, packed)
    read = packed.view(torch.uint8).view(128 // block, 6, block // 32, 16).to(torch.int32)
    if block == 64:  # bytes 0..15 hold columns d and d + 32, bytes 16..31 columns d + 16 and d + 48
        columns = torch.cat([read[:, :, 0] & 15, read[:, :, 1] & 15, read[:, :, 0] >> 4, read[:, :, 1] >> 4], dim=-1)
    else:
        columns = torch.cat([read[:, :, 0] & 15, read[:, :, 0] >> 4], dim=-1)
    assert torch.equal(columns.transpose(0, 1).flatten(1).to(torch.uint8), unpack_codes(words))


def test_the_cuda_layout_is_read_off_whatever_torch_writes(monkeypatch):
    """The device's packing is a permutation within tiles; here another one stands in for it."""
    shuffle = torch.randperm(1024, generator=torch.Generator().manual_seed(5))

    def pack(codes):
        rows, columns = codes.shape
        tiles = codes.view(rows // 8, 8, columns // 128, 128).transpose(1, 2).flatten(2)[..., shuffle]
        nibbles = tiles.view(rows // 8, columns // 128, 32, 4, 8).long() << (4 * torch.arange(8))
        return nibbles.sum(-1).to(torch.uint32).view(torch.int32)

    monkeypatch.setattr(int4pack, "_pack_tiles", pack)
    int4pack.cuda_tile_order.cache_clear()
    weight = random_weight(256, 64, 128)
    layer = Int4Linear(weight, CPU, torch.bfloat16)
    layer.packed = int4pack.pack_for_cuda(weight.qweight)
    try:
        codes = int4pack.unpack_from_cuda(layer.packed, int4pack.cuda_tile_order(CPU))
        dense = layer.dense()
    finally:
        int4pack.cuda_tile_order.cache_clear()
    assert torch.equal(codes, unpack_codes(weight.qweight).t())
    assert relative_error(dense, dequantize(weight, torch.float64).t()) < BF16_TOLERANCE


# The layers of this package, that is, without those of others.
LINEARS = [
    pytest.param(name, marks=pytest.mark.skipif(bool(reason), reason=str(reason)))
    for name, row in KERNELS.items()
    if row.make is not None and row.package is None
    for reason in [row.reason_against(CPU)]
]


@pytest.mark.parametrize("kernel", LINEARS)
@pytest.mark.parametrize("rows", ROWS)
@settings(max_examples=12)
@given(
    group=st.sampled_from([32, 64, 128, 256]),
    groups=st.integers(1, 3),
    columns=st.sampled_from([16, 48, 64, 144]),
    zero_point=st.booleans(),
    bias=st.booleans(),
    scale_dtype=st.sampled_from([torch.float16, torch.bfloat16]),
)
def test_every_kernel_agrees_with_float64(kernel, rows, group, groups, columns, zero_point, bias, scale_dtype):
    weight = random_weight(
        group * groups, columns, group, zero_point=zero_point, bias=bias, scale_dtype=scale_dtype, seed=group + columns
    )
    x = torch.randn(1, rows, weight.in_features, generator=torch.Generator().manual_seed(rows)).bfloat16()
    layer = KERNELS[kernel].make(weight, CPU, torch.bfloat16)
    y = layer(x)
    assert y.dtype == torch.bfloat16
    assert y.shape == (1, rows, columns)
    assert relative_error(y, reference(x, weight)) < KERNELS[kernel].error


@NEEDS_VNNI
@settings(max_examples=30)
@given(
    rows=st.integers(1, 20),
    group=st.sampled_from([8, 24, 32, 64, 128, 256]),
    groups=st.integers(1, 4),
    columns=st.sampled_from([16, 48, 80, 256]),
    zero_point=st.booleans(),
    exponent=st.integers(-20, 20),
)
def test_vnni_computes_with_sixteen_bits(rows, group, groups, columns, zero_point, exponent):
    weight = random_weight(group * groups, columns, group, zero_point=zero_point, seed=rows)
    x = torch.randn(rows, weight.in_features, generator=torch.Generator().manual_seed(rows)) * 2.0**exponent
    y = VnniLinear(weight, CPU, torch.float32)(x)
    assert y.dtype == torch.float32
    assert relative_error(y, reference(x, weight)) < 2e-4


@NEEDS_VNNI
def test_vnni_is_exact_where_sixteen_bits_are():
    """Small whole numbers, the largest codes and powers of two: nothing is rounded anywhere."""
    words = torch.full((256, 2), -1, dtype=torch.int32)
    zeros = pack_codes(torch.arange(32).view(2, 16) % 16)
    weight = AwqWeight(words, torch.full((2, 16), 0.5, dtype=torch.float16), zeros)
    x = torch.randint(-127, 128, (9, 256)).float() * 256
    x[:, 0] = x[:, 128] = 127 * 256
    assert torch.equal(VnniLinear(weight, CPU, torch.float32)(x).double(), reference(x, weight))


@NEEDS_VNNI
@pytest.mark.parametrize("columns", [16, 64, 176])
def test_a_row_comes_out_of_vnni_as_it_would_alone(columns):
    layer = VnniLinear(random_weight(256, columns, 128, bias=True), CPU, torch.float32)
    x = torch.randn(21, 256)
    alone = torch.cat([layer(row[None]) for row in x])
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            for rows in (2, 3, 4, 5, 6, 7, 8, 9, 12, 21):
                assert torch.equal(layer(x[:rows]), alone[:rows])
    finally:
        torch.set_num_threads(threads)


@NEEDS_VNNI
@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_spoils_its_row_alone(broken):
    layer = VnniLinear(random_weight(256, 32, 128), CPU, torch.float32)
    x = torch.randn(3, 256)
    whole = layer(x)
    x[1, 200] = broken
    y = layer(x)
    assert bool(y[1].isnan().all())
    assert torch.equal(y[[0, 2]], whole[[0, 2]])
    assert bool((layer(torch.zeros(2, 256)) == 0).all())
    assert bool((layer(torch.full((2, 256), 1e-38)) == 0).all())


@NEEDS_VNNI
def test_an_outlier_costs_vnni_its_group_a_few_bits():
    weight = random_weight(512, 64, 128)
    x = torch.randn(8, 512)
    x[:, 7] = 1000
    mates = x.clone()
    mates[:, 7] = 0
    outlier = x - mates
    spoiled = VnniLinear(weight, CPU, torch.float32)(x).double() - reference(outlier, weight)
    assert relative_error(spoiled, reference(mates, weight)) < 0.01


@NEEDS_VNNI
def test_shapes_that_vnni_does_not_take_are_dequantized():
    for group, columns, takes in ((4, 64, False), (8, 16, True), (2**16 + 8, 16, False), (64, 24, False)):
        weight = random_weight(2 * group, columns, group)
        layer = KERNELS["vnni"].make(weight, CPU, torch.bfloat16)
        assert isinstance(layer, VnniLinear if takes else DequantizeLinear)
        x = torch.randn(3, 2 * group).bfloat16()
        assert relative_error(layer(x), reference(x, weight)) < BF16_TOLERANCE
    assert layer(torch.randn(0, 128).bfloat16()).shape == (0, 24)


@pytest.fixture
def fresh_vnni(tmp_path, monkeypatch):
    """Forgets what was compiled, as a new process on another machine would."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    vnni.reason_against.cache_clear()
    vnni._library.cache_clear()
    yield tmp_path
    vnni.reason_against.cache_clear()
    vnni._library.cache_clear()


@NEEDS_VNNI
def test_vnni_is_compiled_once(fresh_vnni, monkeypatch):
    assert vnni.reason_against() is None
    made = list((fresh_vnni / "hermes-adapters").iterdir())
    assert [file.suffix for file in made] == [".so"]
    vnni.reason_against.cache_clear()
    vnni._library.cache_clear()
    monkeypatch.setattr(vnni, "_run", lambda command: pytest.fail("compiled again"))
    assert vnni.reason_against() is None


@NEEDS_VNNI
def test_without_a_working_compiler_torchs_kernel_is_the_default(fresh_vnni, monkeypatch):
    bad = fresh_vnni / "cc"
    bad.write_text("#!/bin/sh\necho 'no such option' >&2\nexit 1\n")
    bad.chmod(0o755)
    monkeypatch.setenv("PATH", str(fresh_vnni))
    for compiler, reason in (("", "C compiler"), (str(bad), "no such option")):
        monkeypatch.setenv("CC", compiler)
        if not compiler:
            bad.rename(fresh_vnni / "hidden")
        else:
            (fresh_vnni / "hidden").rename(bad)
        vnni.reason_against.cache_clear()
        assert choose_kernel(None, CPU) == "torch"
        with pytest.raises(EngineError, match=reason):
            choose_kernel("vnni", CPU)


def test_without_the_instructions_torchs_kernel_is_the_default(monkeypatch):
    monkeypatch.setattr(vnni, "_cpu_flags", lambda: frozenset({"avx2"}))
    vnni.reason_against.cache_clear()
    try:
        assert choose_kernel(None, CPU) == "torch"
        with pytest.raises(EngineError, match="avx512_vnni"):
            choose_kernel("vnni", CPU)
    finally:
        vnni.reason_against.cache_clear()


@pytest.mark.parametrize("kernel", ["dequantize", "dense"])
def test_dense_kernels_are_exact_in_float32(kernel):
    weight = random_weight(256, 80, 64, bias=True)
    x = torch.randn(5, 256)
    assert relative_error(KERNELS[kernel].make(weight, CPU, torch.float32)(x), reference(x, weight)) < 1e-6


def test_the_int4_kernel_gets_codes_and_zero_points_exactly():
    """With scales and activations that bfloat16 holds, nothing is rounded before the sum."""
    weight = random_weight(128, 64, 128)
    power_of_two = torch.full_like(weight.scales, 0.25)
    weight = AwqWeight(weight.qweight, power_of_two, weight.qzeros)
    x = torch.eye(128).bfloat16()
    assert torch.equal(Int4Linear(weight, CPU, torch.bfloat16)(x).double(), dequantize(weight, torch.float64))


def test_the_int4_kernel_keeps_the_callers_type():
    weight = random_weight(64, 32, 64)
    x = torch.randn(3, 64)
    y = Int4Linear(weight, CPU, torch.float32)(x)
    assert y.dtype == torch.float32
    assert relative_error(y, reference(x, weight)) < BF16_TOLERANCE


@pytest.mark.parametrize(
    ("group", "columns", "takes"), [(16, 64, False), (96, 64, True), (512, 64, True), (64, 24, False)]
)
def test_shapes_that_torchs_kernel_does_not_take_are_dequantized(group, columns, takes):
    weight = random_weight(2 * group, columns, group)
    layer = KERNELS["torch"].make(weight, CPU, torch.bfloat16)
    assert isinstance(layer, Int4Linear if takes else DequantizeLinear)
    x = torch.randn(3, 2 * group).bfloat16()
    assert relative_error(layer(x), reference(x, weight)) < BF16_TOLERANCE


@pytest.mark.parametrize("columns", [64, 192, 1024 + 512, 80])
@pytest.mark.parametrize("zero_point", [True, False])
def test_long_prompts_by_dense_blocks_are_the_int4_kernels_own_product(columns, zero_point):
    weight = random_weight(256, columns, 64, zero_point=zero_point, bias=True)
    x = torch.randn(2, CPU_DENSE_ROWS, 256).bfloat16()
    layer = Int4Linear(weight, CPU, torch.bfloat16)
    found, theirs = layer(x), layer.int4(x.view(-1, 256)).view(*x.shape[:2], columns) + layer.bias
    assert relative_error(found, reference(x, weight)) < BF16_TOLERANCE
    # The same weights, and float32 sums in another order: equal but for the last bit of some.
    assert relative_error(found, theirs.double()) < 1e-3


@pytest.mark.parametrize("rows", [1, 5, 64, 200])
def test_int8_prompts_cost_less_than_a_percent(rows):
    weight = random_weight(512, 128, 128, bias=True)
    x = torch.randn(1, rows, 512).bfloat16()
    layer = KERNELS["torch-int8"].make(weight, CPU, torch.bfloat16)
    assert relative_error(layer(x), reference(x, weight)) < 0.01
    if rows < CPU_INT8_ROWS:
        assert torch.equal(layer(x), Int4Linear(weight, CPU, torch.bfloat16)(x))


def test_int8_prompts_bear_outliers_and_zeros():
    """One huge channel spoils only the group that it is in; a row of zeros stays zero."""
    weight = random_weight(512, 64, 128)
    x = torch.randn(80, 512)
    x[:, 7] = 0
    x[3] = 0
    x = x.bfloat16()
    layer = KERNELS["torch-int8"].make(weight, CPU, torch.bfloat16)
    y = layer(x)
    assert bool((y[3] == 0).all())
    outlier = torch.zeros_like(x)
    outlier[:, 7] = 1000
    mates = x.clone()
    mates[:, 128:] = 0
    rest = x - mates
    spoiled = layer(x + outlier).double() - reference(outlier, weight) - reference(rest, weight)
    # What is left is the outlier's group alone, rounded to steps of 1000 / 127, and bfloat16's own rounding of the sum.
    assert relative_error(layer(rest), reference(rest, weight)) < 0.01
    assert float(spoiled.abs().max()) < 0.02 * float(reference(outlier, weight).abs().max())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 1), (1, 9), (0, 1)])
@pytest.mark.parametrize("ours", [pytest.param(True, marks=NEEDS_VNNI), False])
def test_the_output_head_is_the_linear_layer_that_it_stands_for(shape, bias, dtype, ours, monkeypatch):
    if not ours:
        monkeypatch.setattr(vnni, "reason_against", lambda: "it is not to be used")
    linear = torch.nn.Linear(64, 40, bias=bias, dtype=dtype)
    whole = torch.randn(shape[0], shape[1] + 5, 64, dtype=dtype)
    head = OutputHead.of(linear)
    assert head.weight is linear.weight
    for x in (whole[:, -shape[1] :], whole[:, : shape[1]].clone()):
        y = head(x).detach()
        expected = x.double() @ linear.weight.detach().double().t()
        if bias:
            expected += linear.bias.detach()
        assert y.shape == (*shape, 40)
        assert len(y) == 0 or relative_error(y, expected) < BF16_TOLERANCE


@pytest.mark.parametrize("kernel", LINEARS)
def test_inputs_that_are_not_contiguous_are_taken(kernel):
    weight = random_weight(64, 32, 64)
    x = torch.randn(64, 2, 3).bfloat16().permute(2, 1, 0)
    layer = KERNELS[kernel].make(weight, CPU, torch.bfloat16)
    assert relative_error(layer(x), reference(x, weight)) < KERNELS[kernel].error


@pytest.mark.parametrize("zero_point", [True, False])
@pytest.mark.parametrize("rows", ROWS)
def test_autoawqs_own_layer_agrees_with_float64(rows, zero_point):
    pytest.importorskip("awq")
    weight = random_weight(256, 64, 64, zero_point=zero_point, bias=True)
    x = torch.randn(1, rows, 256).bfloat16()
    layer = KERNELS["autoawq"].make(weight, CPU, torch.bfloat16)
    assert relative_error(layer(x), reference(x, weight)) < BF16_TOLERANCE


def test_our_packing_is_what_autoawq_reads_and_writes():
    gemm = pytest.importorskip("awq.modules.linear.gemm")
    packing = pytest.importorskip("awq.utils.packing_utils")
    weight = random_weight(128, 32, 64)
    theirs = packing.dequantize_gemm(weight.qweight, weight.qzeros, weight.scales, 4, 64)
    assert torch.equal(theirs, dequantize(weight, torch.float16))
    linear = torch.nn.Linear(128, 32, bias=False)
    linear.weight.data = dequantize(weight, torch.float32).t().contiguous()
    packed = gemm.WQLinear_GEMM.from_linear(linear, 4, 64, scales=weight.scales.float(), zeros=weight.zeros().float())
    assert torch.equal(packed.qweight, weight.qweight)
    assert torch.equal(packed.qzeros, weight.qzeros)


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "bitsandbytes"}, "bitsandbytes"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
        ({"quant_method": "awq", "bits": 8}, "8-bit"),
        ({"w_bit": 3}, "3-bit"),
        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "gemv"),
        ({"quant_method": "awq", "bits": 4, "version": "marlin"}, "marlin"),
        ({"quant_method": "awq", "bits": 4, "format": "gemv_fast"}, "gemv_fast"),
        ({"quant_method": "awq", "group_size": 0}, "group size is 0"),
        ({"quant_method": "awq", "group_size": "128"}, "group size is '128'"),
    ],
)
def test_other_formats_are_refused_by_name(config, names):
    with pytest.raises(CheckpointError, match=names):
        AwqFormat.from_config(config)


def test_both_spellings_of_the_format_are_read():
    old = AwqFormat.from_config({"zero_point": False, "q_group_size": 64, "w_bit": 4, "version": "GEMM"})
    new = AwqFormat.from_config(
        {"quant_method": "AWQ", "zero_point": False, "group_size": 64, "bits": 4, "format": "gemm"}
    )
    assert old == new == AwqFormat(group_size=64, zero_point=False)


@pytest.mark.parametrize("kernel", [None, "auto"])
def test_the_default_kernel_is_the_fastest_that_runs(kernel):
    assert choose_kernel(kernel, CPU) == ("torch" if vnni.reason_against() else "vnni")
    assert choose_kernel(kernel, torch.device("mps")) == "dequantize"


def test_an_unknown_kernel_lists_the_known_ones():
    with pytest.raises(InvalidRequestError, match="marlin") as caught:
        choose_kernel("marlin", CPU)
    assert all(name in str(caught.value) for name in KERNELS)


@pytest.mark.parametrize(("kernel", "package"), [("autoawq", "awq"), ("gptqmodel", "gptqmodel")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(kernel, package, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else object())
    with pytest.raises(EngineError, match=rf"pip install 'hermes-adapters\[{kernel}\]'"):
        choose_kernel(kernel, CPU)


def test_torchs_kernel_is_refused_on_a_device_without_it():
    with pytest.raises(EngineError, match="dequantize"):
        choose_kernel("torch", torch.device("mps"))
    with pytest.raises(EngineError, match="leave kernel out"):
        choose_kernel("torch-int8", torch.device("mps"))
    with pytest.raises(EngineError, match="leave kernel out"):
        choose_kernel("vnni", torch.device("mps"))
