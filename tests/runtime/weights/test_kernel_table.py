"""A kernel is one row: whatever asks about kernels asks it, and what is written of them is what it says."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from io import StringIO

import pytest
import torch
from rich.console import Console

from benchmarks import awq
from benchmarks._gpu import product_steps
from benchmarks._random_checkpoint import write_random_checkpoint
from hermes_adapters.doctor import _print_kernels
from hermes_runtime.checkpoint.folder import open_checkpoint
from hermes_runtime.errors import EngineError
from hermes_runtime.weights import loader, memory
from hermes_runtime.weights.kernels.linear import DequantizeLinear
from hermes_runtime.weights.kernels.table import KERNELS, choose_kernel
from hermes_runtime.weights.loader import load_checkpoint
from tests.support.places import DOCS, ROOT

CPU = torch.device("cpu")
PAGE = (DOCS / "awq.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("| `kernel=` |")[2].partition("\n\n")[0]


@pytest.fixture(scope="module")
def awq_folder(tmp_path_factory):
    return write_random_checkpoint(tmp_path_factory.mktemp("awq"))


def test_the_page_says_what_the_rows_say():
    told = re.findall(r"^\| `([\w-]+)` \| (.*) \|$", TABLE, re.MULTILINE)
    assert told == [(row.name, row.about) for row in KERNELS.values()]
    (automatic,) = re.findall(r"^\| `None`, `\"auto\"` \| the first of (.*) that runs \|$", TABLE, re.MULTILINE)
    assert re.findall(r"`(.*?)`", automatic) == [row.name for row in KERNELS.values() if row.is_automatic]


def test_some_kernel_is_automatic_everywhere():
    for device in ("cpu", "mps", "xpu"):
        assert KERNELS[choose_kernel(None, torch.device(device))].is_automatic


@pytest.mark.parametrize("row", KERNELS.values(), ids=KERNELS)
def test_a_package_that_a_kernel_needs_is_an_extra(row):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert (row.name in extras) is (row.package is not None)
    assert (f"`{row.name}`" in row.about) is (row.package is not None)


@pytest.mark.parametrize("row", KERNELS.values(), ids=KERNELS)
def test_a_row_loads_layers_or_a_whole_checkpoint(row):
    assert (row.make is None) is (row.name in loader.WHOLE_LOADERS)
    assert (row.pair_bytes == 0) is row.is_dense


def test_one_row_is_all_that_a_new_kernel_needs(awq_folder, monkeypatch):
    mine = replace(KERNELS["dequantize"], name="mine", about="a kernel of my own", is_automatic=False)
    monkeypatch.setitem(KERNELS, "mine", mine)
    loaded = load_checkpoint(str(awq_folder), device="cpu", kernel="mine", progress=False)
    assert loaded.kernel == "mine"
    layers = [module for module in loaded.model.modules() if isinstance(module, DequantizeLinear)]
    assert layers
    checkpoint = open_checkpoint(str(awq_folder))
    assert memory.needed_bytes(checkpoint, torch.bfloat16, "mine") == memory.needed_bytes(
        checkpoint, torch.bfloat16, "dequantize"
    )
    assert mine in product_steps.kernels(CPU)
    shown = StringIO()
    _print_kernels(Console(file=shown, width=200), CPU)
    assert "a kernel of my own" in shown.getvalue()


def test_a_kernel_that_does_not_run_says_so_everywhere(monkeypatch):
    monkeypatch.setitem(KERNELS, "torch", replace(KERNELS["torch"], reason=lambda device: f"not on {device}"))
    with pytest.raises(EngineError, match="not on cpu"):
        choose_kernel("torch", CPU)
    assert "torch" not in awq.other_kernels()
    assert "torch" not in [row.name for row in product_steps.kernels(CPU)]


def test_a_kernel_without_a_row_has_no_estimate(awq_folder):
    with pytest.raises(KeyError):
        memory.loaded_bytes(open_checkpoint(str(awq_folder)), torch.bfloat16, "mine")
