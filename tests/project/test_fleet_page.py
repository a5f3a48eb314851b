"""The page on servers: its code compiles, its commands exist, and its sizing table is what the text says it is."""

from __future__ import annotations

import re

import pytest

from hermes_runtime.engines.registry import _SERVER_OPTIONS
from tests.support.places import DOCS

PAGE = (DOCS / "fleet.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ROWS = re.findall(r"^\| (\d+) GB, [^|]+\|([^\n]+)\|$", PAGE, re.MULTILINE)
WEIGHTS, LOADED, ENGINE, SHARE, LENGTH = 3.888, 4.2, 1.5, 0.9, 4096  # GB, but for the share and the tokens
TOKEN = 128 * 1024 / 1e9


@pytest.mark.parametrize("block", BLOCKS)
def test_code_compiles(block):
    compile(block, "fleet.md", "exec")


@pytest.mark.parametrize(("memory", "cells"), ROWS)
def test_the_sizing_table_follows_from_its_assumptions(memory, cells):
    told = [float(cell.replace(",", "")) for cell in cells.split("|")]
    bandwidth = told[0]
    room = int(memory) * SHARE - LOADED - ENGINE
    conversations = int(room / TOKEN / LENGTH)
    step = WEIGHTS + conversations * LENGTH * TOKEN
    per_second = bandwidth * 1000 / step
    computed = [
        bandwidth,
        room // (1000 * TOKEN) * 1000,
        conversations,
        round(step, 1),
        round(conversations * per_second),
        round(per_second),
        -(-1000 // conversations),
    ]
    assert told == pytest.approx(computed, abs=1)


def test_there_is_a_table():
    assert len(ROWS) == 5


@pytest.mark.parametrize("option", sorted(_SERVER_OPTIONS))
def test_every_engine_option_of_a_server_is_told(option):
    assert f"`{option}`" in PAGE
