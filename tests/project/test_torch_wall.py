"""Who talks to a server needs no torch: every step of that way, in a process that cannot import it."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing

import pytest

from hermes_runtime.engines.registry import load_engine
from tests.support.completion_server import CompletionServer
from tests.support.places import ROOT

WALL = """
import sys
from importlib.machinery import PathFinder

find_spec = PathFinder.find_spec
hidden = lambda name, *rest: None if name.partition(".")[0] == "torch" else find_spec(name, *rest)
PathFinder.find_spec = staticmethod(hidden)  # as where it was never installed
"""
IMPORTED = [
    "hermes_runtime",
    "hermes_runtime.turn",
    "hermes_runtime.grammar",
    "hermes_runtime.engines.registry",
    "hermes_runtime.engines.server.engine",
    "hermes_runtime.checkpoint.folder",
    "hermes_runtime.checkpoint.vocabulary",
    "langchain_hermes",
    "llama_index_hermes",
    "hermes_adapters.app",
]
TURN = """
import json

from hermes_runtime.engines.server.engine import ServerEngine
from hermes_runtime.messages import ToolSpec, User
from hermes_runtime.options.generation import GenerationOptions
from hermes_runtime.turn import Turn, TurnRequest

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
engine = ServerEngine("tiny-hermes", base_url=sys.argv[1])
asked = TurnRequest(
    [User("What is the weather in Bergen?")],
    tools=[ToolSpec("get_weather", "Get the weather in a city.", CITY)],
    options=GenerationOptions(max_tokens=80),
)
turn = Turn(engine, asked)
events = [type(event).__name__ for event in turn]
engine.close()
print(json.dumps([events, [[call.name, call.arguments] for call in turn.result.tool_calls]]))
"""


def without_torch(program, *arguments):
    command = [sys.executable, "-c", WALL + program, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wall_stands():
    with pytest.raises(AssertionError, match="No module named 'torch'"):
        without_torch("import torch.nn")


def test_all_of_that_way_is_imported():
    without_torch("\n".join(f"import {module}" for module in IMPORTED))


def test_a_vocabulary_is_read():
    program = """
from hermes_runtime.checkpoint.vocabulary import load_vocabulary

tokenizer = load_vocabulary("tiny-hermes").tokenizer
print(tokenizer.decode(tokenizer.encode("Sail to Brest.", add_special_tokens=False)))
"""
    assert without_torch(program).strip() == "Sail to Brest."


def test_a_turn_runs_over_a_server():
    with closing(CompletionServer(load_engine("tiny-hermes", device="cpu"))) as server:
        events, calls = json.loads(without_torch(TURN, server.url))
    assert events[-1] == "ToolCallEvent"
    assert calls == [["get_weather", {"city": "Bergen"}]]
