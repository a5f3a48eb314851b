"""The two sides: what makes a hosted class over a played server, and what makes ours over a scripted engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar

import httpx
from langchain.chat_models import base as chat_models
from langchain_openai import ChatOpenAI
from langchain_openai.chat_models import base as chat_openai
from llama_index.core import Settings
from llama_index.core.embeddings import MockEmbedding
from llama_index.llms.openai import OpenAI

from hermes_runtime.errors import (
    ContextWindowExceededError,
    EngineError,
    GenerationTimeoutError,
    HermesError,
    InvalidRequestError,
)
from langchain_hermes import ChatHermes, register_provider
from llama_index_hermes import HermesLLM
from tests.llama_index_contract.fake_server import (
    Backend,
    Piece,
    Question,
    ServerError,
    async_transport,
    scripted,
    transport,
)
from tests.llama_index_contract.hermes import text_of
from tests.llama_index_contract.wires import openai
from tests.side_by_side.script import Failure, Script
from tests.support.mistral import load_mistral_tokenizer
from tests.support.scripted_engine import CutReply, ScriptedEngine, stand_in

WINDOW = 32_768  # tokens: a deep agent's tools alone take some thousands
_tokenizer = cache(load_mistral_tokenizer)
# The hosted class' own would have to be fetched; nothing here compares counts.
_TIKTOKEN = SimpleNamespace(
    encoding_for_model=lambda _: SimpleNamespace(encode=str.split),
    get_encoding=lambda _: SimpleNamespace(encode=str.split),
)


class Side:
    """Makes models that all say what one script says; a scenario calls it as it would call the class.

    Attributes:
        made: The class.
        model: The name of a model.
    """

    made: ClassVar[type[Any]]
    model: ClassVar[str]

    def __init__(self, script: Script, monkeypatch: Any) -> None:
        self._script = script
        self._monkeypatch = monkeypatch

    def __call__(self, *model: str, **options: Any) -> Any:
        """Return a model with these options."""
        name = {} if model or "model_name" in options else {"model": self.model}
        return self.made(*model, **{**name, **self.defaults(), **options})

    def free(self, **options: Any) -> Any:
        """Return a model that can write what a grammar would not let it."""
        return self(**options)

    def defaults(self) -> dict[str, Any]:
        """Return what makes the class talk to the script."""
        raise NotImplementedError

    @property
    def heard(self) -> str:
        """What the last request said."""
        return self._script.heard[-1]


class _PlayedBackend(Backend):
    """A server that says what a script says, failures included."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self._script = script

    def pieces(self, question: Question) -> Iterator[Piece]:
        reply = self._script.next(json.dumps([*question.messages, *question.tools], ensure_ascii=False))
        if not isinstance(reply, Failure):
            return scripted(reply, question)
        if reply.kind == "timeout":
            raise httpx.ReadTimeout("the server was silent")
        raise ServerError(*_REFUSALS[reply.kind])


_INVALID = {"message": "the request cannot be used", "type": "invalid_request_error"}
_REFUSALS: dict[str, tuple[int, dict[str, Any]]] = {
    "context overflow": (400, {**_INVALID, "code": "context_length_exceeded", "param": "messages"}),
    "bad request": (400, _INVALID),
    "engine": (500, {"message": "the device was lost", "type": "server_error"}),
}


class _HostedSide(Side):
    model = "gpt-4o-mini"

    def __init__(self, script: Script, monkeypatch: Any) -> None:
        super().__init__(script, monkeypatch)
        self._backend = _PlayedBackend(script)
        monkeypatch.setattr(chat_openai, "tiktoken", _TIKTOKEN)

    def defaults(self) -> dict[str, Any]:
        return {
            "api_key": "none",
            "max_retries": 0,
            "http_client": httpx.Client(transport=transport(self._backend, openai)),
            self.async_client: httpx.AsyncClient(transport=async_transport(self._backend, openai)),
        }

    async_client: ClassVar[str]


class ChatOpenAISide(_HostedSide):
    made = ChatOpenAI
    provider = "openai"
    async_client = "http_async_client"

    def defaults(self) -> dict[str, Any]:
        # The usage of streams is the default where no client is given.
        return {**super().defaults(), "stream_usage": True}


class _OfSettings(Side):
    """What LlamaIndex uses where nothing else is given."""

    def __init__(self, script: Script, monkeypatch: Any) -> None:
        super().__init__(script, monkeypatch)
        monkeypatch.setattr(Settings, "_llm", self())
        monkeypatch.setattr(Settings, "_embed_model", MockEmbedding(embed_dim=8))


class OpenAISide(_OfSettings, _HostedSide):
    made = OpenAI
    async_client = "async_http_client"


class _PlayedEngine(ScriptedEngine):
    """An engine that says what a script says, failures included."""

    def __init__(self, script: Script) -> None:
        super().__init__(_tokenizer(), (), context_window=WINDOW)
        self._script = script

    def _reply(self, turn: int, prompt: str) -> str:
        reply = self._script.next(prompt)
        if isinstance(reply, Failure):
            raise _failure(reply)
        text = text_of(reply, prompt)
        return CutReply(text) if reply.is_cut else text


def _failure(failure: Failure) -> HermesError:
    match failure.kind:
        case "context overflow":
            return ContextWindowExceededError(WINDOW + 1, WINDOW)
        case "timeout":
            return GenerationTimeoutError("no complete answer within 5 seconds")
        case "bad request":
            return InvalidRequestError("the request cannot be used")
        case "engine":
            return EngineError("the device was lost")


class _HermesSide(Side):
    model = "scripted"

    def __init__(self, script: Script, monkeypatch: Any) -> None:
        super().__init__(script, monkeypatch)
        engine = _PlayedEngine(script)
        stand_in(monkeypatch, lambda *_, **__: engine)

    def free(self, **options: Any) -> Any:
        return self(constrained=False, **options)

    def defaults(self) -> dict[str, Any]:
        return {"context_window": WINDOW}


class ChatHermesSide(_HermesSide):
    made = ChatHermes
    provider = "hermes"

    def __init__(self, script: Script, monkeypatch: Any) -> None:
        super().__init__(script, monkeypatch)
        monkeypatch.setattr(chat_models, "_BUILTIN_PROVIDERS", dict(chat_models._BUILTIN_PROVIDERS))
        register_provider()


class HermesLLMSide(_OfSettings, _HermesSide):
    made = HermesLLM


HOSTED_AND_OURS = {"langchain": (ChatOpenAISide, ChatHermesSide), "llama_index": (OpenAISide, HermesLLMSide)}
