"""The engine and its process: a fork, and an end in the middle of a stream."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

START = """
import os, signal, sys
import torch
from hermes_runtime import GenerationOptions, GenerationRequest, SamplingParams, load_engine
from hermes_runtime.errors import EngineError

torch.set_num_threads(2)
request = GenerationRequest((1, 40, 41, 42), GenerationOptions(SamplingParams(temperature=0.0), max_tokens=60))
engine = load_engine("tiny-hermes")
reader = iter(engine.submit(request))
first = next(reader)
"""
FORK = """
pid = os.fork()
if pid == 0:
    signal.alarm(100)  # a hang ends the child with a signal
    refused = 0
    for attempt in (lambda: list(reader), lambda: engine.submit(request), lambda: load_engine("tiny-hermes")):
        try:
            attempt()
        except EngineError as error:
            print(error, flush=True)
            refused += "fork" in str(error)
    reader.close()
    engine.close()
    torch.set_num_threads(1)
    fresh = load_engine("tiny-hermes")
    ids = [token for delta in fresh.submit(request) for token in delta.ids]
    fresh.close()
    os._exit(0 if refused == 3 and ids else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
ids = [token for delta in (first, *reader) for token in delta.ids]
assert ids == [token for delta in engine.submit(request) for token in delta.ids]
"""


def run(script):
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=280, env=environment)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_is_told_and_can_load_anew_and_the_parent_goes_on():
    result = run(START + FORK)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_interpreter_ends_in_the_middle_of_a_stream():
    result = run(START + "print('leaving', flush=True)\n")
    assert (result.returncode, result.stdout) == (0, "leaving\n"), result.stderr
