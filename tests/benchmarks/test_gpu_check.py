"""`benchmarks.gpu_check` runs from end to end where there is no GPU, so that it works where there is one."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import textwrap
import time

import pytest
import torch

from benchmarks import gpu_check
from benchmarks._gpu.rig import SMALL, Rig
from benchmarks._gpu.slot import Log, Slot, work
from hermes_runtime.checkpoint.hub import TINY_FOLDER
from tests.support.places import ROOT

# What needs a GPU says so; these take long and show nothing here.
_NOT_HERE = {"demo", "compiled"}

UNRULY = """
    import os, sys, time
    from benchmarks._gpu.slot import Step, stdout_log, work

    def good(shared, log): log.write(name="figure", value=1.0, unit="")
    def chatty(shared, log): print("not a line"); good(shared, log)
    def wrong(shared, log): raise ValueError("planted")
    def fatal(shared, log): raise MemoryError("planted")
    def crash(shared, log): sys.stderr.write("last words"); sys.stderr.flush(); os._exit(9)
    def hang(shared, log): time.sleep(600)

    log = stdout_log()
    steps = [Step(name, 1.0, globals()[name]) for name in sys.argv[1:]]
    sys.exit(work(steps, None, log, is_fatal=lambda error: isinstance(error, MemoryError)))
"""


@pytest.fixture
def slot(tmp_path):
    """Runs unruly steps; returns the lines, and what the file of lines holds."""
    script = tmp_path / "unruly.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{textwrap.dedent(UNRULY)}")

    def run(names, *, seconds=100.0, limit=60.0):
        limits = {name: 1.5 if name == "hang" else limit for name in names}
        file = tmp_path / "lines.jsonl"
        command = [sys.executable, str(script)]
        lines = Slot(command, limits, seconds=seconds, lines=file, show=lambda _: None).run()
        assert [json.loads(line) for line in file.read_text().splitlines()] == lines
        return lines

    return run


def kinds(lines):
    words = ("ends", "failed", "late", "died", "left_out")
    return [(word, line[word]) for line in lines for word in words if word in line]


def test_a_step_that_breaks_costs_only_itself(slot):
    lines = slot(["good", "wrong", "crash", "chatty", "hang", "fatal"])
    assert kinds(lines) == [
        ("ends", "good"),
        ("failed", "wrong"),
        ("ends", "wrong"),
        ("died", "crash"),
        ("ends", "chatty"),
        ("late", "hang"),
        ("failed", "fatal"),
        ("died", "fatal"),
    ]
    assert [line["value"] for line in lines if "name" in line] == [1.0, 1.0]
    died = next(line for line in lines if line.get("died") == "crash")
    assert (died["status"], "last words" in died["said"]) == (9, True)
    assert "ValueError: planted" in next(line for line in lines if "failed" in line)["error"]


def test_when_time_is_up_what_is_left_is_named(slot):
    start = time.monotonic()
    lines = slot(["good", "hang", "chatty"], seconds=2.5, limit=60.0)
    assert kinds(lines)[-1] == ("left_out", "chatty")
    assert time.monotonic() - start < 60  # far less than what hangs would take


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """What all steps write on the CPU at toy size."""
    to = io.StringIO()
    rig = Rig(torch.device("cpu"), SMALL, tmp_path_factory.mktemp("gpu"), TINY_FOLDER)
    known = gpu_check.steps()
    chosen = [step for name, step in known.items() if name not in _NOT_HERE]
    assert work(chosen, rig, Log(to), is_fatal=lambda _: True) == 0
    return [json.loads(line) for line in to.getvalue().splitlines()]


def test_every_step_runs_on_the_cpu(lines):
    assert gpu_check.is_right(lines)
    assert [line["ends"] for line in lines if "ends" in line] == [n for n in gpu_check.LIMITS if n not in _NOT_HERE]
    names = {line["name"] for line in gpu_check.results(lines)}
    assert {"1 stream, greedy", "3 streams, sampled", "prompt of 64 tokens: first token"} <= names
    assert {"agent, 1 turns, drafts", "kernel torch: error", "attention MATH, 64 keys"} <= names
    assert "transformers, bfloat16: decode after 64 tokens" in names
    assert all(line["value"] >= 0 for line in lines if "name" in line)


def test_a_wrong_figure_and_a_failed_step_are_seen(lines):
    assert not gpu_check.is_right([*lines, {"name": "x", "value": 1.0, "unit": "", "holds": False}])
    assert not gpu_check.is_right([*lines, {"late": "x"}])


def test_one_script_runs_it_from_a_bare_start(tmp_path):
    options = ["--small", "--only", "limits", "profile"]
    command = ["bash", "benchmarks/gpu_run.sh", str(tmp_path / "out"), "4", *options]
    environment = {**os.environ, "PYTHON": sys.executable, "BUNDLE": str(tmp_path / "none")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    results = tmp_path / "out" / "gpu_check.json"
    document = json.loads(results.read_text())
    assert [row["name"] for row in document["results"]] == ["memory read", "matrix product"]
    assert document["machine"]["cores"] >= 1
    assert "torch" in document["versions"]
    assert "# profile: left out" in done.stdout
    written = [json.loads(line) for line in results.with_suffix(".jsonl").read_text().splitlines()]
    assert {"memory read", "matrix product"} <= {line.get("name") for line in written}
