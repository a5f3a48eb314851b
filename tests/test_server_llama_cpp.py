"""A real llama.cpp server that runs the embedded checkpoint; skipped without LLAMA_CPP_PYTHON (see
`make test-llama-cpp`), the Python of an environment that has llama-cpp-python[server] and gguf.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hermes_runtime.demands import UnmetDemandError
from hermes_runtime.engines.registry import load_engine
from hermes_runtime.engines.server.engine import ServerEngine
from hermes_runtime.errors import InvalidRequestError, ToolChoiceError
from hermes_runtime.messages import System, User
from tests.dense_tiny import dense_tensors, write_dense
from tests.test_server_engine import ASK, INJECTION, finish, spelled

PYTHON = os.environ.get("LLAMA_CPP_PYTHON")
WINDOW = 2048

pytestmark = [
    pytest.mark.skipif(PYTHON is None, reason="llama.cpp has an environment of its own"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_dense(tmp_path_factory.mktemp("tiny") / "tiny-float32")


@pytest.fixture(scope="module")
def local(folder):
    return load_engine(str(folder), device="cpu", context_window=WINDOW)


@pytest.fixture(scope="module")
def engine(folder):
    """The server engine over llama.cpp."""
    made, weights = folder / "tiny.gguf", folder / "weights.npz"
    np.savez(weights, **{name: tensor.numpy() for name, tensor in dense_tensors().items()})
    subprocess.run([PYTHON, Path(__file__).with_name("tiny_gguf.py"), folder, weights, made], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = {"model": made, "host": "127.0.0.1", "port": port, "n_ctx": WINDOW, "type_k": 0, "type_v": 0}
    command = [PYTHON, "-m", "llama_cpp.server", *(str(part) for key in options for part in (f"--{key}", options[key]))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said: list[str] = []
    is_up = threading.Event()

    def listen() -> None:
        for line in process.stdout:
            said.append(line)
            if "Uvicorn running" in line:
                is_up.set()
        is_up.set()

    threading.Thread(target=listen, daemon=True).start()
    is_up.wait(300)
    if process.poll() is not None:
        pytest.fail("the server ended:\n" + "".join(said[-20:]))
    opened = ServerEngine(str(folder), base_url=f"http://127.0.0.1:{port}", context_window=WINDOW)
    yield opened
    opened.close()
    process.terminate()
    process.wait(60)


def test_it_is_known_for_what_it_is(engine):
    profile = engine.profile
    assert (profile.kind, profile.takes_ids, profile.tells_ids, profile.grammar) == (
        "llama-cpp-python",
        False,
        False,
        None,
    )


@pytest.mark.parametrize("question", ["What is the weather in Bergen?", "What is the weather in Oslo and in Lima?"])
def test_greedy_turns_are_the_local_engines(local, engine, question):
    request = replace(ASK, messages=[User(question)])
    _, here = finish(local, replace(request, constrained=False))
    _, there = finish(engine, request)
    assert spelled(there) == spelled(here)
    assert there.tool_calls


def test_content_opens_no_turn(engine):
    _, result = finish(engine, replace(ASK, messages=[System("Be kind."), User(INJECTION)], max_tokens=8))
    assert result.usage.completion_tokens == 8


def test_a_forced_call_is_asked_for_again_or_fails(engine):
    request = replace(ASK, messages=[User("Hello.")], tool_choice="required")
    with pytest.raises(ToolChoiceError, match="max_repairs"):
        finish(engine, request)
    try:
        _, result = finish(engine, replace(request, max_repairs=1))
    except UnmetDemandError:
        return
    assert result.tool_calls


def test_stop_strings_and_limits_hold(local, engine):
    for options in ({"stop": ("city",)}, {"max_tokens": 6}):
        request = replace(ASK, **options)
        _, here = finish(local, replace(request, constrained=False))
        _, there = finish(engine, request)
        assert (there.content, there.tool_calls, there.finish_reason) == (
            here.content,
            here.tool_calls,
            here.finish_reason,
        )


def test_log_probabilities_are_refused(engine):
    with pytest.raises(InvalidRequestError, match="log-probabilities"):
        finish(engine, replace(ASK, logprobs=1))
