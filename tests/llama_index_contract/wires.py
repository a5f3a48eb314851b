"""The wire formats of OpenAI's and Ollama's chat endpoints over a `Backend`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count
from typing import Any

import httpx

from tests.llama_index_contract.fake_server import Backend, Piece, Question


def openai(request: httpx.Request, backend: Backend) -> tuple[str, Iterator[bytes]]:
    """Answer `POST /chat/completions`."""
    body = _body(request, backend)
    pieces = backend.pieces(
        Question(
            body["messages"],
            tools=body.get("tools") or (),
            tool_choice=body.get("tool_choice"),
            parallel=body.get("parallel_tool_calls", True),
            schema=(body.get("response_format") or {}).get("json_schema", {}).get("schema"),
            max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
            stop=[body["stop"]] if isinstance(body.get("stop"), str) else body.get("stop") or (),
        )
    )
    head = {"id": "chatcmpl-1", "created": int(time.time()), "model": body["model"]}
    if not body.get("stream"):
        return "application/json", _whole_openai(pieces, head)
    with_usage = (body.get("stream_options") or {}).get("include_usage", False)
    first = next(pieces)
    return "text/event-stream", _streamed_openai(chain([first], pieces), head, with_usage=with_usage)


def _streamed_openai(pieces: Iterator[Piece], head: dict[str, Any], *, with_usage: bool) -> Iterator[bytes]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return _event({**head, "object": "chat.completion.chunk", "choices": [choice]})

    yield chunk({"role": "assistant", "content": ""})
    for piece in pieces:
        if piece.call is not None:
            yield chunk({"tool_calls": [_openai_call(piece)]})
        elif piece.text or piece.thinking:
            yield chunk({"content": piece.text} if piece.text else {"reasoning_content": piece.thinking})
        if piece.finish:
            yield chunk({}, piece.finish)
            if with_usage and piece.usage:
                yield _event({**head, "object": "chat.completion.chunk", "choices": [], "usage": _openai_usage(piece)})
    yield b"data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


def _openai_call(piece: Piece) -> dict[str, Any]:
    call: dict[str, Any] = {"index": piece.call, "function": {"arguments": piece.arguments}}
    if piece.name:
        call |= {"id": piece.call_id, "type": "function"}
        call["function"]["name"] = piece.name
    return call


def _openai_usage(piece: Piece) -> dict[str, int]:
    assert piece.usage is not None
    prompt, completion = piece.usage.prompt_tokens, piece.usage.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _whole_openai(pieces: Iterator[Piece], head: dict[str, Any]) -> Iterator[bytes]:
    text, calls = "", {}
    for piece in pieces:
        text += piece.text
        if piece.call is not None:
            made = calls.setdefault(piece.call, [piece.call_id, piece.name, ""])
            made[2] += piece.arguments
        if piece.finish:
            last = piece
    message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else "")}
    if calls:
        message["tool_calls"] = [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for call_id, name, arguments in calls.values()
        ]
    choice = {"index": 0, "message": message, "finish_reason": last.finish, "logprobs": None}
    yield json.dumps({**head, "object": "chat.completion", "choices": [choice], "usage": _openai_usage(last)}).encode()


def ollama(request: httpx.Request, backend: Backend) -> tuple[str, Iterator[bytes]]:
    """Answer `POST /api/chat` and `POST /api/show`."""
    if request.url.path.endswith("/show"):
        shown = {"model_info": {"mistral.context_length": backend.context_window}, "capabilities": ["tools"]}
        return "application/json", iter([json.dumps(shown).encode()])
    body = _body(request, backend)
    options = body.get("options") or {}
    schema = body.get("format")
    pieces = backend.pieces(
        Question(
            _with_ids(body["messages"]),
            tools=body.get("tools") or (),
            schema=schema if isinstance(schema, dict) else None,
            max_tokens=options.get("num_predict"),
        )
    )
    head = {"model": body["model"], "created_at": "2026-01-01T00:00:00Z"}
    if not body.get("stream"):
        return "application/json", _whole_ollama(pieces, head)
    first = next(pieces)
    return "application/x-ndjson", _streamed_ollama(chain([first], pieces), head)


def _with_ids(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Match results to calls by position: nothing else is on the wire."""
    numbers, waiting, result = count(1), [], []
    for message in messages:
        copy = dict(message)
        if message.get("tool_calls"):
            copy["tool_calls"] = [{"id": f"call_{next(numbers)}", **call} for call in message["tool_calls"]]
            waiting = [call["id"] for call in copy["tool_calls"]]
        elif message["role"] == "tool":
            copy["tool_call_id"] = waiting.pop(0) if waiting else ""
        result.append(copy)
    return result


def _ollama_messages(pieces: Iterator[Piece]) -> Iterator[tuple[dict[str, Any], Piece | None]]:
    """Yield messages as Ollama's server does: calls whole, one by one, and none that was cut off."""
    begun: dict[int, list[str]] = {}

    def calls() -> Iterator[tuple[dict[str, Any], None]]:
        for name, written in list(begun.values()):
            try:
                arguments = json.loads(written)
            except ValueError:
                continue
            call = {"function": {"name": name, "arguments": arguments}}
            yield {"role": "assistant", "content": "", "tool_calls": [call]}, None
        begun.clear()

    for piece in pieces:
        if piece.call is not None:
            if piece.call not in begun:
                yield from calls()
            made = begun.setdefault(piece.call, [piece.name, ""])
            made[1] += piece.arguments
        elif piece.finish:
            yield from calls()
            yield {"role": "assistant", "content": ""}, piece
        else:
            thinking = {"thinking": piece.thinking} if piece.thinking else {}
            yield {"role": "assistant", "content": piece.text, **thinking}, None


def _streamed_ollama(pieces: Iterator[Piece], head: dict[str, Any]) -> Iterator[bytes]:
    for message, last in _ollama_messages(pieces):
        yield (json.dumps({**head, "message": message, **_ollama_end(last)}) + "\n").encode()


def _whole_ollama(pieces: Iterator[Piece], head: dict[str, Any]) -> Iterator[bytes]:
    whole: dict[str, Any] = {"role": "assistant", "content": ""}
    for message, last in _ollama_messages(pieces):
        whole["content"] += message["content"]
        if "thinking" in message:
            whole["thinking"] = whole.get("thinking", "") + message["thinking"]
        if "tool_calls" in message:
            whole["tool_calls"] = whole.get("tool_calls", []) + message["tool_calls"]
        if last is not None:
            yield json.dumps({**head, "message": whole, **_ollama_end(last)}).encode()


def _ollama_end(last: Piece | None) -> dict[str, Any]:
    if last is None or last.usage is None:
        return {"done": False}
    return {
        "done": True,
        "done_reason": "length" if last.finish == "length" else "stop",
        "total_duration": 1,
        "prompt_eval_count": last.usage.prompt_tokens,
        "eval_count": last.usage.completion_tokens,
    }


def _body(request: httpx.Request, backend: Backend) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(request.content)
    backend.bodies.append(json.dumps(body, ensure_ascii=False))
    return body
