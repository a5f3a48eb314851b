"""A completion server over any engine of this project: the part of OpenAI's interface that the server engine speaks."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import dataclass, field, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hermes_runtime.engines.base import Engine, GenerationRequest, TokenDelta
from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.options.generation import GenerationOptions, SamplingParams

_SAMPLING = tuple(option.name for option in fields(SamplingParams))


@dataclass(frozen=True)
class Abilities:
    """What the server can do, and as which server it does it."""

    owner: str = "vllm"
    takes_ids: bool = True
    tells_ids: bool = True
    takes_grammar: bool = True
    adds_bos: bool = True


VLLM = Abilities()
TEXT_ONLY = Abilities("organization_owner", takes_ids=False, tells_ids=False, takes_grammar=False)
"""As LM Studio: text in, text out, no grammar."""


@dataclass
class CompletionServer:
    """Serves an engine on a free port of this machine until it is closed.

    Attributes:
        engine: What computes.
        abilities: What of it shows.
        prompts: Ids of every prompt that was streamed, in order.
        bodies: The same requests, as they came.
    """

    engine: Engine
    abilities: Abilities = VLLM
    prompts: list[list[int]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        owner = self

        class Handler(_Handler):
            server_of = owner

        self._http = _Server(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def prompt_ids(self, prompt: str | list[int]) -> list[int]:
        if not isinstance(prompt, str):
            if not self.abilities.takes_ids:
                raise InvalidRequestError("prompt must be a string")
            return prompt
        tokenizer = self.engine.tokenizer
        bos = [tokenizer.bos_token_id] if self.abilities.adds_bos else []
        return [*bos, *tokenizer.encode(prompt, add_special_tokens=False)]

    def request(self, body: dict[str, Any]) -> GenerationRequest:
        options = {name: body[name] for name in _SAMPLING if body.get(name) is not None}
        if options.get("top_k") == -1:
            options["top_k"] = 0
        grammar = (body.get("structured_outputs") or {}).get("grammar") if self.abilities.takes_grammar else None
        return GenerationRequest(
            prompt_ids=tuple(self.prompt_ids(body["prompt"])),
            options=GenerationOptions(
                SamplingParams(**options),
                stop=tuple(body.get("stop") or ()),
                max_tokens=body.get("max_tokens", 16),
                min_tokens=body.get("min_tokens"),
                seed=body.get("seed"),
                logprobs=body.get("logprobs"),
            ),
            constraint=grammar,
            stop_ids=tuple(body.get("stop_token_ids") or ()),
        )

    def choice(self, delta: TokenDelta, body: dict[str, Any]) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "text": delta.text, "finish_reason": delta.finish_reason}
        if self.abilities.tells_ids and body.get("return_token_ids"):
            choice["token_ids"] = list(delta.ids)
        if self.abilities.tells_ids and delta.logprobs is not None and delta.ids:
            choice["logprobs"] = {
                "tokens": [f"token_id:{token.id}" for token in delta.logprobs],
                "token_logprobs": [token.logprob for token in delta.logprobs],
                "top_logprobs": [
                    {f"token_id:{other.id}": other.logprob for other in (*token.top, token)} for token in delta.logprobs
                ],
            }
        return choice


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # clients may hang up
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server_of: CompletionServer

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        if self.path != "/v1/models":
            self._json(404, {"detail": "Not Found"})
            return
        server = self.server_of
        card = {"id": "tiny", "owned_by": server.abilities.owner, "max_model_len": server.engine.context_window}
        self._json(200, {"object": "list", "data": [card]})

    def do_POST(self) -> None:
        server = self.server_of
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            request = server.request(body)
            generation = server.engine.submit(request)
        except InvalidRequestError as error:
            self._json(400, {"error": {"message": str(error), "code": 400}})
            return
        if not body.get("stream"):
            self._whole(body, generation, request)
            return
        server.prompts.append(list(request.prompt_ids))
        server.bodies.append(body)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for delta in generation:
                self._event({"choices": [server.choice(delta, body)]})
            self._event({"choices": [], "usage": _usage(generation.usage)})
            self._chunk(b"data: [DONE]\n\n")
            self._chunk(b"")
        except OSError:
            self.close_connection = True  # the client hung up; leaving the loop stopped the computation

    def _whole(self, body: dict[str, Any], generation: Any, request: GenerationRequest) -> None:
        deltas = list(generation)
        choice = self.server_of.choice(deltas[0], body)
        choice |= {"text": "".join(delta.text for delta in deltas), "finish_reason": deltas[-1].finish_reason}
        self._json(200, {"choices": [choice], "usage": _usage(generation.usage)})

    def _json(self, status: int, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _event(self, value: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


def _usage(usage: Any) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
