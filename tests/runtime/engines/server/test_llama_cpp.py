"""Real llama.cpp servers that run the embedded checkpoint, llama.cpp's own and llama-cpp-python's; skipped without
LLAMA_CPP (see `make test-llama-cpp`), the environment in which both and gguf are.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.request
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from hermes_runtime.engines.base import GenerationRequest
from hermes_runtime.engines.registry import load_engine
from hermes_runtime.engines.server.engine import ServerEngine
from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.grammar import build_grammar
from hermes_runtime.messages import Assistant, System, ToolResult, User
from hermes_runtime.options.generation import SamplingParams
from hermes_runtime.turn import TurnRequest, render
from tests.support.dense_tiny import dense_tensors
from tests.support.places import ROOT
from tests.support.real_server import serve
from tests.support.requests import changed, turn_request
from tests.support.server_turns import ASK, INJECTION, REQUESTS, WEATHER, finish, spelled

PLACE = os.environ.get("LLAMA_CPP")
PYTHON, LLAMA_SERVER = (Path(PLACE or "", "bin", name).absolute() for name in ("python", "llama-server"))
WINDOW = 2048

pytestmark = [
    pytest.mark.skipif(PLACE is None, reason="llama.cpp has an environment of its own"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def local(dense_tiny):
    return load_engine(str(dense_tiny), device="cpu", context_window=WINDOW)


@pytest.fixture(scope="module")
def weights(dense_tiny, tmp_path_factory):
    """The checkpoint in llama.cpp's format."""
    folder = tmp_path_factory.mktemp("gguf")
    np.savez(folder / "weights.npz", **{name: tensor.numpy() for name, tensor in dense_tensors().items()})
    command = [
        PYTHON,
        ROOT / "tests" / "support" / "tiny_gguf.py",
        dense_tiny,
        folder / "weights.npz",
        folder / "tiny.gguf",
    ]
    subprocess.run(command, check=True)
    return folder / "tiny.gguf"


def own_server(weights, port):
    """llama.cpp's, with one slot."""
    options = {"ctx-size": WINDOW, "parallel": 1, "cache-type-k": "f32", "cache-type-v": "f32"}
    return [LLAMA_SERVER, "--metrics", *flags(weights, port, options)]


def python_server(weights, port):
    """llama-cpp-python's."""
    return [PYTHON, "-m", "llama_cpp.server", *flags(weights, port, {"n_ctx": WINDOW, "type_k": 0, "type_v": 0})]


def flags(weights, port, options):
    options = {"model": weights, "host": "127.0.0.1", "port": port, **options}
    return [part for key, value in options.items() for part in (f"--{key}", value)]


@pytest.fixture(scope="module")
def own_address(weights):
    with serve(lambda port: own_server(weights, port), "/health") as address:
        yield address


@pytest.fixture(scope="module")
def own(dense_tiny, own_address):
    """The server engine over llama.cpp's server."""
    with closing(ServerEngine(str(dense_tiny), base_url=own_address)) as engine:
        yield engine


@pytest.fixture(scope="module")
def pythons(dense_tiny, weights):
    """The server engine over llama-cpp-python's, which does not tell its window."""
    with (
        serve(lambda port: python_server(weights, port), "/v1/models") as address,
        closing(ServerEngine(str(dense_tiny), base_url=address, context_window=WINDOW)) as engine,
    ):
        yield engine


@pytest.fixture(params=["own", "pythons"])
def engine(request):
    return request.getfixturevalue(request.param)


def test_they_are_known_for_what_they_are(own, pythons):
    found = [
        (p.kind, p.takes_ids, p.tells_ids, p.grammar, p.tells_logprobs, p.context_window)
        for p in (own.profile, pythons.profile)
    ]
    assert found == [
        ("llama.cpp", True, False, "grammar", True, WINDOW),
        ("llama-cpp-python", False, False, "grammar", False, None),
    ]
    assert own.grammar_language == pythons.grammar_language == "gbnf"
    assert own.context_window == WINDOW


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("question", ["What is the weather in Bergen?", "What is the weather in Oslo and in Lima?"])
def test_greedy_turns_are_the_local_engines(local, engine, question, constrained):
    request = replace(ASK, messages=[User(question)], constrained=constrained)
    _, here = finish(local, request)
    _, there = finish(engine, request)
    assert spelled(there) == spelled(here)
    assert there.tool_calls


@pytest.mark.parametrize("name", ["required", "none", "schema", "call or schema", "choices"])
def test_greedy_turns_of_every_form_are_the_local_engines(local, engine, name):
    _, here = finish(local, REQUESTS[name])
    _, there = finish(engine, REQUESTS[name])
    assert spelled(there) == spelled(here)


HOT = SamplingParams(temperature=2.0, top_p=1.0)
TIME = replace(WEATHER, name="get_time")
SHORT = {
    "type": "object",
    "properties": {"a": {"type": "string", "maxLength": 20}, "b": {"enum": ["x", "y"]}, "c": {"type": "boolean"}},
    "required": ["a", "b"],
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dialect", ["card", "name_first"])
def test_a_forced_call_of_a_hot_model_is_well_formed(engine, seed, dialect):
    tools = [replace(WEATHER, parameters=SHORT), replace(TIME, parameters=SHORT | {"required": []})]
    choice = ["required", "get_time"][seed % 2]
    request = changed(
        ASK, messages=[User("Hello.")], tools=tools, tool_choice=choice, max_calls=2, max_tokens=400, dialect=dialect
    )
    _, result = finish(engine, changed(request, sampling=HOT, seed=seed))
    assert result.finish_reason == "tool_calls"
    assert 1 <= len(result.tool_calls) <= 2
    assert not result.invalid_tool_calls
    assert not any(call.problems for call in result.tool_calls)
    assert not result.content
    assert choice == "required" or {call.name for call in result.tool_calls} == {choice}


@pytest.mark.parametrize("seed", range(3))
def test_none_writes_no_call(engine, seed):
    _, result = finish(engine, changed(ASK, tool_choice="none", sampling=SamplingParams(temperature=1.0), seed=seed))
    assert (result.tool_calls, result.invalid_tool_calls) == ((), ())
    assert result.finish_reason != "tool_calls"


@pytest.mark.parametrize("seed", range(4))
def test_an_answer_of_a_schema_is_one(engine, seed):
    request = turn_request([User("Hello.")], schema=SHORT, max_tokens=200, sampling=HOT, seed=seed)
    _, result = finish(engine, request)
    assert result.finish_reason == "stop"
    Draft202012Validator(SHORT).validate(json.loads(result.content))


@pytest.mark.parametrize("seed", range(4))
def test_an_answer_is_one_of_the_choices(engine, seed):
    choices = ["New", "New York", 'a "b" \\ c']
    request = turn_request([User("Hello.")], choices=choices, max_tokens=30, sampling=HOT, seed=seed)
    _, result = finish(engine, request)
    assert result.content in choices
    assert result.finish_reason == "stop"


@pytest.mark.parametrize("seed", range(6))
def test_a_turn_is_a_call_or_the_final_form(engine, seed):
    request = changed(ASK, tools=[replace(WEATHER, parameters=SHORT)], schema=SHORT, max_tokens=300)
    _, result = finish(engine, changed(request, sampling=HOT, seed=seed, parallel_tool_calls=False))
    assert result.finish_reason in ("stop", "tool_calls")
    if result.tool_calls:
        assert not result.content
    else:
        Draft202012Validator(SHORT).validate(json.loads(result.content))
    assert not result.invalid_tool_calls


def test_a_large_grammar_is_taken(engine):
    wide = {"type": "object", "properties": {f"p{index}": {"type": "string", "maxLength": 300} for index in range(60)}}
    tools = [replace(WEATHER, name=f"tool_{index}", parameters=wide) for index in range(40)]
    tools += [replace(WEATHER, name=f"other_{index}", parameters=SHORT) for index in range(20)]
    words = {"type": "object", "properties": {"a": {"enum": [f"word {index}" for index in range(3000)]}}}
    tools += [replace(WEATHER, name="words", parameters=words | {"required": ["a"]})]
    # The tools of the prompt would fill the window.
    prompt = render(engine, TurnRequest([User("Hello.")])).token_ids

    def write(**options):
        grammar = build_grammar(language="gbnf", **options).text
        return "".join(delta.text for delta in engine.submit(GenerationRequest(prompt, constraint=grammar)))

    answer = json.loads(write(schema=words | {"required": ["a"]}))
    assert answer["a"].startswith("word ")
    written = write(tools=tools, tool_choice="required", max_calls=1, dialect="name_first")
    assert re.fullmatch(r'<tool_call>\n\{"name": "\w+", "arguments": \{.*\}\}\n</tool_call>', written)


def test_a_regular_expression_is_refused(engine):
    with pytest.raises(InvalidRequestError, match="GBNF"):
        finish(engine, TurnRequest([User("Hello.")], regex="a+"))


def test_content_opens_no_turn(engine):
    _, result = finish(engine, changed(ASK, messages=[System("Be kind."), User(INJECTION)], max_tokens=8))
    assert result.usage.completion_tokens == 8


def test_stop_strings_and_limits_hold(local, engine):
    for options in ({"stop": ("city",)}, {"max_tokens": 6}):
        request = changed(ASK, **options)
        _, here = finish(local, request)
        _, there = finish(engine, request)
        assert (there.content, there.tool_calls, there.finish_reason) == (
            here.content,
            here.tool_calls,
            here.finish_reason,
        )


def test_log_probabilities_are_told_or_refused(local, own, pythons):
    for alternatives in (0, 3):
        request = changed(ASK, logprobs=alternatives, max_tokens=30, constrained=False, stop=("name",))
        _, here = finish(local, request)
        _, there = finish(own, request)
        assert [token.id for token in there.logprobs] == [token.id for token in here.logprobs[: len(there.logprobs)]]
        assert len(here.logprobs) - len(there.logprobs) <= 1
        for token, expected in zip(there.logprobs, here.logprobs, strict=False):
            assert (token.text, token.logprob) == (expected.text, pytest.approx(expected.logprob, abs=1e-3))
            assert {other.id for other in token.top} == {other.id for other in expected.top}
    with pytest.raises(InvalidRequestError, match="log-probabilities"):
        finish(pythons, changed(ASK, logprobs=1))


def test_prompts_are_the_local_engines_and_a_conversation_is_computed_once(local, own):
    request = replace(ASK, messages=[User("What is the weather in Quito?")])
    _, result = finish(own, request)
    assert result.usage.prompt_tokens == len(render(local, request).token_ids)
    called = Assistant(result.content, result.tool_calls)
    told = ToolResult(result.tool_calls[0].id, '{"temperature": 9}', "get_weather")
    _, later = finish(own, replace(request, messages=[*request.messages, called, told]))
    assert later.usage.cached_tokens >= result.usage.prompt_tokens


def test_a_stream_that_is_left_ends_on_the_server(own, own_address):
    def predicted():
        with urllib.request.urlopen(own_address + "/metrics", timeout=30) as answer:
            return int(re.search(r"^llamacpp:tokens_predicted_total (\d+)", answer.read().decode(), re.MULTILINE)[1])

    before = predicted()
    prompt = render(own, TurnRequest([User("Hello.")])).token_ids
    stream = iter(own.submit(GenerationRequest(prompt, constraint='root ::= "a"+')))
    while not next(stream).text:
        pass
    stream.close()
    # There is one slot: while the first request goes on, the second has to wait.
    _, result = finish(own, ASK)
    assert result.tool_calls
    assert predicted() - before < (own.context_window - len(prompt)) / 2
