"""A completion server of raw sockets that misbehaves as it is told, one act per streamed request."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

PROBE_ANSWER = "<probe>7"


class Reply:
    """What an act can do with one request."""

    def __init__(self, connection: socket.socket, body: dict[str, Any], released: threading.Event) -> None:
        self.connection = connection
        self.body = body
        self.released = released

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def head(self, kind: str = "text/event-stream", status: str = "200 OK", *headers: str) -> None:
        """Begin an answer whose length is not told, so that closing the connection ends it."""
        lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", "Connection: close", *headers, "", ""]
        self.send("\r\n".join(lines).encode())

    def chunked_head(self) -> None:
        """Begin an answer in chunks: closing the connection then breaks it."""
        self.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

    def chunk(self, data: bytes) -> None:
        self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def text(self, text: str, ids: Sequence[int] = (), reason: str | None = None) -> None:
        self.send(event(text, ids, reason))

    def end(self, prompt_tokens: int = 3, completion_tokens: int = 2) -> None:
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 2},
        }
        self.send(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\ndata: [DONE]\n\n")

    def wait_released(self) -> None:
        """Go on only when the test is over or says so."""
        self.released.wait(30)

    def wait_hung_up(self) -> bool:
        """Wait until the client closes the connection; return whether it did."""
        self.connection.settimeout(30)
        try:
            return self.connection.recv(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False


Act = Callable[[Reply], None]


def event(text: str, ids: Sequence[int] = (), reason: str | None = None) -> bytes:
    choice = {"index": 0, "text": text, "token_ids": list(ids), "finish_reason": reason}
    return b"data: " + json.dumps({"choices": [choice]}, ensure_ascii=False).encode() + b"\n\n"


class FaultyServer:
    """Answers probes as the given kind of server would, and each streamed request by the next act; the last repeats.

    Args:
        acts: What it does with streamed requests.
        tells_ids: Token ids come with the text.
        takes_ids: Prompts may be token ids.
        grammars: The forms of a grammar that it keeps.
        refuses_grammars: The others are refused; else they are ignored.
        owner: What its model card says.
        window: The context window that the card states.
        failures: Which requests fail with 503, counted from 0.
        elsewhere: The status of paths outside `/v1/completions` and `/v1/models`.
        lists_models: Whether there is a `/v1/models`.
        adds_bos: It counts a BOS token that it adds to prompts of text.

    Attributes:
        bodies: The streamed requests, in order.
        heads: The header block of every request, in order.
        tried: The form of every grammar that it was probed with, in order.
        asked: Set when the first streamed request came.
    """

    def __init__(
        self,
        acts: Sequence[Act],
        *,
        tells_ids: bool = True,
        takes_ids: bool = True,
        grammars: Sequence[str] = ("structured_outputs",),
        refuses_grammars: bool = False,
        owner: str = "vllm",
        window: int | None = 4096,
        failures: Collection[int] = (),
        elsewhere: str = "404 Not Found",
        lists_models: bool = True,
        adds_bos: bool = True,
    ) -> None:
        self.acts = list(acts)
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.tried: list[str] = []
        self.released = threading.Event()
        self.asked = threading.Event()
        self._tells_ids, self._takes_ids = tells_ids, takes_ids
        self._grammars, self._refuses_grammars = grammars, refuses_grammars
        self._owner, self._window, self._adds_bos = owner, window, adds_bos
        self._failures, self._elsewhere, self._lists_models = failures, elsewhere, lists_models
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._connections: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def close(self) -> None:
        self.released.set()
        self._listener.close()
        with self._lock:
            for connection in self._connections:
                connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while (request := _read_request(connection)) is not None:
                    head, body = request
                    with self._lock:
                        number = len(self.heads)
                        self.heads.append(head)
                    if number in self._failures:
                        _send_json(connection, "503 Service Unavailable", {"error": {"message": "loading the model"}})
                    elif not self._answer(connection, head, body):
                        return
            except OSError:
                return  # the client hung up, which is its right

    def _answer(self, connection: socket.socket, head: str, body: dict[str, Any]) -> bool:
        """Answer one request; return whether the connection stays open."""
        if head.startswith("GET /v1/models "):
            card = {"id": "served", "owned_by": self._owner, "max_model_len": self._window}
            _send_json(connection, "200 OK" if self._lists_models else "404 Not Found", {"data": [card]})
            return True
        if head.startswith("GET "):
            _send_json(connection, self._elsewhere, {"detail": "not for you"})
            return True
        if not body.get("stream"):
            _send_json(connection, *self._probed(body))
            return True
        with self._lock:
            act = self.acts[min(len(self.bodies), len(self.acts) - 1)]
            self.bodies.append(body)
            self.asked.set()
        act(Reply(connection, body, self.released))
        return False

    def _probed(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        prompt = body["prompt"]
        if isinstance(prompt, list) and not self._takes_ids:
            return "422 Unprocessable Entity", {"detail": "prompt must be a string"}
        if "json_schema" in body:
            text = '"192.0.2.7"' if "grammar %llguidance" in self._grammars else '"one two'
            return "200 OK", {"choices": [{"text": text, "finish_reason": "stop"}], "usage": {"prompt_tokens": 4}}
        if form := _form_of(body):
            self.tried.append(form)
            if self._refuses_grammars and form not in self._grammars:
                return "400 Bad Request", {"error": {"message": "failed to parse grammar"}}
            text = PROBE_ANSWER if form in self._grammars else "whatever it likes"
            return "200 OK", {"choices": [{"text": text, "finish_reason": "stop"}], "usage": {"prompt_tokens": 4}}
        choice: dict[str, Any] = {"text": " four", "finish_reason": "length"}
        if self._tells_ids and body.get("return_token_ids"):
            choice["token_ids"] = [7]
        if self._tells_ids and body.get("logprobs"):
            choice["logprobs"] = {"tokens": ["token_id:7"], "token_logprobs": [-0.5], "top_logprobs": [None]}
        if self._owner == "llamacpp" and body.get("logprobs"):
            choice["logprobs"] = {"content": [{"id": 7, "token": " four", "logprob": -0.5, "top_logprobs": []}]}
        count = len(prompt) if isinstance(prompt, list) else 1_000 if self._adds_bos else 1
        return "200 OK", {"choices": [choice], "usage": {"prompt_tokens": count, "completion_tokens": 1}}


def _form_of(body: dict[str, Any]) -> str | None:
    """Return the name of the form in which a grammar comes, as the profile calls it."""
    for field in ("structured_outputs", "ebnf", "grammar"):
        if field in body:
            is_lark = isinstance(body[field], str) and body[field].startswith("%llguidance {}\n")
            return f"{field} %llguidance" if is_lark else field
    return None


def _read_request(connection: socket.socket) -> tuple[str, dict[str, Any]] | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    length = int(lengths[0].split(b":")[1]) if lengths else 0
    while len(rest) < length:
        rest += connection.recv(65536)
    return head.decode("latin-1"), json.loads(rest) if rest else {}


def _send_json(connection: socket.socket, status: str, value: dict[str, Any]) -> None:
    content = json.dumps(value).encode()
    connection.sendall(
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        + content
    )
