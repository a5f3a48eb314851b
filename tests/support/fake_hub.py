"""A hub on this machine, with models that can be had, that cannot, and that it fails over."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session, constants

from hermes_runtime.checkpoint import context_window as window

GOOD = "good/model"
COMMIT = "0" * 39 + "1"
CONFIG = b'{"model_type": "mistral", "max_position_embeddings": 4096}'


@dataclass
class HubModel:
    """What the hub says of a model.

    Attributes:
        files: Contents by name.
        commit: 40 hexadecimal digits.
        gated: As the hub's description has it, `False` or `"manual"`; the files of a gated one are refused.
        status: Of every answer, where it is an error.
        headers: Of every answer that is an error.
        act: `hang` never answers, `hang up` closes the connection, `page` answers with a page, as portals of guest
            networks do, `shorten` sends files that are shorter than was said, `stall` sends them by half.
    """

    files: Mapping[str, bytes] = field(default_factory=lambda: {"config.json": CONFIG, "model.safetensors": bytes(99)})
    commit: str = COMMIT
    gated: Any = False
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    act: str = ""


def failing_models() -> dict[str, HubModel]:
    """Models that cannot be had, by the id that says why."""
    gated = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model is restricted."}
    return {
        "bad/gated": HubModel(gated="manual", headers=gated),
        "bad/disabled": HubModel(status=403, headers={"X-Error-Message": "Access to this resource is disabled."}),
        "bad/token": HubModel(status=401, headers={"X-Error-Message": "Invalid credentials in Authorization header"}),
        "bad/forbidden": HubModel(status=403),
        "bad/crowded": HubModel(status=429),
        "bad/down": HubModel(status=503),
        "bad/silent": HubModel(act="hang"),
        "bad/gone": HubModel(act="hang up"),
        "bad/portal": HubModel(act="page"),
        "bad/short": HubModel({"config.json": CONFIG, "model.safetensors": bytes(77)}, act="shorten"),
        "bad/pickled": HubModel({"config.json": CONFIG, "pytorch_model.bin": b"-"}),
        "bad/dataset": HubModel({"data.parquet": b"-"}),
    }


def use_hub(monkeypatch: pytest.MonkeyPatch, address: str, cache: Path) -> None:
    """Do to the hub's client, which was imported already, what HF_ENDPOINT, HF_HOME and a short timeout do."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 1)
    monkeypatch.setattr(window, "_KNOWN", {})
    close_session()  # it remembers proxies


class FakeHub:
    """Serves until it is closed; `models` may be changed meanwhile, and a model that is not in it does not exist.

    Attributes:
        address: For HF_ENDPOINT.
        asked: Every request, as `METHOD /path`.
        stalled: Set when a file was sent by half.
    """

    def __init__(self, models: Mapping[str, HubModel]) -> None:
        self.models = dict(models)
        self.asked: list[str] = []
        self.stalled = threading.Event()
        self.released = threading.Event()
        hub = self

        class Handler(_Handler):
            def setup(self) -> None:
                self.hub = hub
                super().setup()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def files_sent(self) -> list[str]:
        """Return the names of the files that were asked for, in order."""
        return [path.rpartition("/")[2] for path in self.asked if path.startswith("GET") and "/resolve/" in path]

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_CONNECT(self) -> None:
        """Refuse, as a proxy that wants to be logged in to."""
        self._send(407, b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.asked.append(f"{self.command} {path}")
        described = path.startswith("/api/models/")
        name = path.removeprefix("/api/models/") if described else path.partition("/resolve/")[0][1:]
        model = self.hub.models.get(name)
        if model is None:
            self._send(401, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Invalid username or password."})
        elif model.act == "hang":
            self.hub.released.wait(60)
        elif model.act == "hang up":
            self.close_connection = True
        elif model.act == "page":
            self._send(200, b"<html>Welcome to our wireless network</html>", {"Content-Type": "text/html"})
        elif model.status != 200:
            self._send(model.status, b"", model.headers)
        elif described:
            siblings = [{"rfilename": name, "size": len(content)} for name, content in model.files.items()]
            described = {"id": name, "sha": model.commit, "siblings": siblings, "gated": model.gated}
            self._send(200, json.dumps(described).encode(), {"Content-Type": "application/json"})
        elif model.gated:
            self._send(401, b"", model.headers)
        else:
            self._send_file(model, path.rpartition("/")[2])

    def _send_file(self, model: HubModel, name: str) -> None:
        content = model.files[name]
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": model.commit}
        if self.command == "GET" and model.act == "shorten" and name.endswith(".safetensors"):
            content = content[:-1]
        if self.command == "GET" and model.act == "stall" and name.endswith(".safetensors"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.hub.stalled.set()
            self.hub.released.wait(60)
            return
        self._send(200, content, headers)

    def _send(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
