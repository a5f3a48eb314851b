"""The embedded checkpoint: complete, small, of the documented form, and able to do what demos and tests ask of it."""

from __future__ import annotations

import json

import pytest

from hermes_runtime.messages import Assistant, ToolCall, ToolResult, ToolSpec, User
from hermes_runtime.parser import parse_completion
from hermes_runtime.prompt import build_prompt
from tiny_hermes.evaluate import CHECKPOINT, Student, evaluate

WEATHER = ToolSpec(
    "get_weather",
    "Get the weather in a city.",
    {"properties": {"city": {"type": "string"}}, "required": ["city"], "type": "object"},
)
ADD = ToolSpec(
    "add",
    "Add two numbers.",
    {
        "properties": {"a": {"title": "A", "type": "integer"}, "b": {"title": "B", "type": "integer"}},
        "required": ["a", "b"],
        "type": "object",
    },
)
TOOLS = (WEATHER, ADD)


@pytest.fixture(scope="module")
def student():
    return Student()


def written(student, messages, tools=()):
    prompt = build_prompt(messages, tokenizer=student.tokenizer, tools=tools)
    (ids,) = student.write([prompt.token_ids])
    assert ids[-1] == student.tokenizer.eos_token_id
    return student.text(ids)


def calls(text):
    return [(call.name, call.arguments) for call in parse_completion(text).tool_calls]


def test_the_folder_is_complete_and_at_most_eight_megabytes():
    names = {path.name for path in CHECKPOINT.iterdir()}
    assert {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    } <= names
    assert sum(path.stat().st_size for path in CHECKPOINT.iterdir()) <= 8_000_000


def test_the_configuration_is_an_awq_gemm_mistral_with_chatml():
    config = json.loads((CHECKPOINT / "config.json").read_text())
    quantization = config["quantization_config"]
    assert (quantization["quant_method"], quantization["version"], quantization["bits"]) == ("awq", "gemm", 4)
    assert (quantization["group_size"], quantization["zero_point"]) == (128, True)
    assert config["architectures"] == ["MistralForCausalLM"]
    assert config["max_position_embeddings"] >= 8192
    assert config["sliding_window"] is None
    assert config["vocab_size"] % 64 == 0


def test_it_greets_without_a_tool(student):
    assert written(student, [User("Hello")]) == "Hello! How can I help you?"
    assert written(student, [User("Hello")], TOOLS) == "Hello! How can I help you?"


def test_it_makes_one_call(student):
    assert calls(written(student, [User("What is the weather in Lisbon?")], TOOLS)) == [
        ("get_weather", {"city": "Lisbon"})
    ]
    assert calls(written(student, [User("What is 17 plus 25?")], TOOLS)) == [("add", {"a": 17, "b": 25})]


def test_it_makes_two_parallel_calls(student):
    text = written(student, [User("What is the weather in Oslo and in Rome?")], TOOLS)
    assert calls(text) == [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})]


@pytest.mark.parametrize(
    ("result", "answer"),
    [("21 degrees", "The weather in Lisbon is 21 degrees."), ("It is sunny in Lisbon.", "It is sunny in Lisbon.")],
)
def test_it_answers_from_a_result(student, result, answer):
    history = [
        User("What is the weather in Lisbon?"),
        Assistant(calls=(ToolCall("1", "get_weather", {"city": "Lisbon"}),)),
        ToolResult("1", result),
    ]
    assert written(student, history, TOOLS) == answer


def test_it_is_right_far_more_often_than_not_on_tools_it_has_never_seen(student):
    scores = evaluate(student, count=5, seed=5)["scores"]
    assert scores["exact calls"]["right"] >= 50
    assert scores["parseable calls"]["right"] >= 80
