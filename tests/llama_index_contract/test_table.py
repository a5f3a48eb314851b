"""What makes the table: a server that speaks as the real ones do, and the marks."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.llama_index_contract import Call, Reply
from tests.llama_index_contract.fake_server import Backend, async_transport, transport
from tests.llama_index_contract.table import cell, table
from tests.llama_index_contract.wires import ollama, openai

REPLY = Reply("I add these.", (Call("add", {"a": 19}), Call("add", {"b": [1, "é"]})))
CUT = Reply("", (Call("add", {"a": 19}), Call("add", {"a": 19}, broken_off=4)))
ASK = {"model": "m", "messages": [{"role": "user", "content": "Go."}]}


def post(backend, wire, path, **body):
    with httpx.Client(transport=transport(backend, wire), base_url="http://server") as client:
        return client.post(path, json={**ASK, **body})


def read_openai(text):
    """Content, calls and finish reason of a stream."""
    content, calls, finish = "", {}, None
    for line in text.split("\n\n"):
        if not line.startswith("data: {"):
            continue
        for choice in json.loads(line.removeprefix("data: "))["choices"]:
            content += choice["delta"].get("content", "")
            finish = choice["finish_reason"] or finish
            for call in choice["delta"].get("tool_calls", ()):
                name, written = calls.get(call["index"], ("", ""))
                calls[call["index"]] = name + call["function"].get("name", ""), written + call["function"]["arguments"]
    return content, list(calls.values()), finish


def test_openai_stream_and_whole_answer_say_the_reply():
    streamed = read_openai(post(Backend([REPLY]), openai, "/chat/completions", stream=True).text)
    whole = post(Backend([REPLY]), openai, "/chat/completions").json()
    message = whole["choices"][0]["message"]
    calls = [(call["function"]["name"], call["function"]["arguments"]) for call in message["tool_calls"]]
    assert streamed == (message["content"], calls, whole["choices"][0]["finish_reason"])
    assert message["content"] == REPLY.text
    assert [(name, json.loads(arguments)) for name, arguments in calls] == [
        (call.name, call.arguments) for call in REPLY.calls
    ]
    assert whole["usage"]["completion_tokens"] > 0


def test_openai_call_that_is_cut_ends_by_length():
    _, calls, finish = read_openai(post(Backend([CUT]), openai, "/chat/completions", stream=True).text)
    assert calls == [("add", '{"a": 19}'), ("add", '{"a"')]
    assert finish == "length"


def test_ollama_gives_whole_calls_only():
    lines = post(Backend([CUT]), ollama, "/api/chat", stream=True).text.splitlines()
    messages = [json.loads(line) for line in lines]
    calls = [call["function"] for message in messages for call in message["message"].get("tool_calls", ())]
    assert calls == [{"name": "add", "arguments": {"a": 19}}]
    assert (messages[-1]["done"], messages[-1]["done_reason"]) == (True, "length")
    whole = post(Backend([REPLY]), ollama, "/api/chat").json()["message"]
    assert whole["content"] == REPLY.text
    assert [call["function"]["arguments"] for call in whole["tool_calls"]] == [call.arguments for call in REPLY.calls]


def test_length_is_bounded_and_the_window_is_kept():
    said = post(Backend([Reply("one two three")]), openai, "/chat/completions", max_tokens=2).json()
    assert said["choices"][0]["message"]["content"].split() == ["one", "two"]
    refused = post(Backend(context_window=4), openai, "/chat/completions")
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")
    assert post(Backend([]), openai, "/chat/completions").status_code == 400


def test_closing_an_answer_is_seen():
    backend = Backend([Reply(endless=True), Reply("x")])
    with httpx.Client(transport=transport(backend, openai), base_url="http://server") as client:
        with client.stream("POST", "/chat/completions", json={**ASK, "stream": True}) as response:
            lines = response.iter_lines()
            assert next(lines)
            assert not backend.closed.is_set()
        assert backend.closed.is_set()


async def test_async_answer_is_the_same():
    client = httpx.AsyncClient(transport=async_transport(Backend([REPLY]), openai), base_url="http://server")
    response = await client.post("/chat/completions", json={**ASK, "stream": True})
    assert read_openai(response.text)[0] == REPLY.text


def test_first_answer_can_fail():
    backend = Backend([REPLY, REPLY], fails_first=True)
    with pytest.raises(httpx.ReadError):
        post(backend, openai, "/chat/completions", stream=True)
    assert post(backend, openai, "/chat/completions", stream=True).status_code == 200


@pytest.mark.parametrize(
    ("outcomes", "mark"),
    [
        (["passed"], "✔"),
        (["passed", "skipped"], "✔"),
        (["failed", "failed"], "✘"),
        (["passed", "failed", "skipped"], "✘ 1/2"),
        (["skipped"], "-"),
        ([], "-"),
    ],
)
def test_marks(outcomes, mark):
    assert cell(outcomes) == mark


def test_table_counts_broken_rules():
    results = {"HermesLLM": {"test_it_works": ["passed"], "test_it_runs": ["failed"]}}
    lines = table(results).splitlines()
    assert lines[2:5] == ["| it works | ✔ |", "| it runs | ✘ |", "| **rules broken** | **1** |"]
    assert lines[-1].startswith("2 rules; HermesLLM ")
