"""The suite on other LLMs: `table` runs it. They need the packages of `PACKAGES` beside this project.

OpenAILike and Ollama talk to a server that `fake_server` plays. HuggingFaceLLM runs tiny-hermes' weights, decoded to
float32, or a model that says what a test wrote down.
"""

from __future__ import annotations

import gc
import threading
from functools import cache
from typing import Any, ClassVar

import httpx
import pytest
import torch
from llama_index.core.llms import LLM
from llama_index.llms.huggingface import HuggingFaceLLM
from llama_index.llms.ollama import Ollama
from llama_index.llms.openai_like import OpenAILike
from ollama import AsyncClient, Client
from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

from hermes_runtime.checkpoint.hub import TINY_FOLDER
from tests.llama_index_contract import LLMContract, Reply
from tests.llama_index_contract.fake_server import PATIENCE, REFUSALS, Backend, async_transport, transport
from tests.llama_index_contract.hermes import text_of
from tests.llama_index_contract.wires import ollama, openai
from tiny_hermes.pack import read_dense

PACKAGES = ("llama-index-llms-openai-like", "llama-index-llms-ollama", "llama-index-llms-huggingface")
_BACKENDS: dict[int, Backend] = {}
_MODELS: dict[int, _ScriptedModel] = {}
_LONG = 3000  # tokens, one in a millisecond at most: who has not stopped it by then never will


class _OverServer(LLMContract):
    """An LLM whose model is a `Backend`."""

    scriptable = True
    failures = (*REFUSALS, "timeout")
    no_further_tries: ClassVar[dict[str, Any]] = {}

    def over(self, backend: Backend, **options: Any) -> LLM:
        raise NotImplementedError

    def _remembered(self, backend: Backend, **options: Any) -> LLM:
        llm = self.over(backend, **options)
        _BACKENDS[id(llm)] = backend
        return llm

    def llm(self, **options: Any) -> LLM:
        return self._remembered(Backend(context_window=options.get("context_window", 8192)), **options)

    def saying(self, *replies: Reply, **options: Any) -> LLM:
        return self._remembered(Backend(replies), **options)

    def failing(self) -> LLM:
        return self._remembered(Backend([Reply("one two three")] * 12, fails_first=True))

    def refusing(self, failure: str) -> LLM:
        return self._remembered(Backend(refuses=failure), **self.no_further_tries)

    def shown(self, llm: LLM) -> list[str]:
        return _BACKENDS[id(llm)].bodies

    def has_begun(self, llm: LLM) -> None:
        assert _BACKENDS[id(llm)].begun.wait(PATIENCE)

    def has_stopped(self, llm: LLM) -> bool:
        backend = _BACKENDS[id(llm)]
        gc.collect()  # who leaves it to the collector is not late
        was_stopped = backend.closed.wait(PATIENCE)
        backend.closed.set()
        return was_stopped


class TestOpenAILike(_OverServer):
    """llama-index-llms-openai-like."""

    thinks = True
    secrets = ("sk-secret",)
    logprobs = None
    no_further_tries: ClassVar[dict[str, Any]] = {"max_retries": 0}

    def over(self, backend: Backend, **options: Any) -> LLM:
        return OpenAILike(
            **{
                "model": "tiny-hermes",
                "api_base": "http://server/v1",
                "api_key": "sk-secret",
                "is_chat_model": True,
                "is_function_calling_model": True,
                "temperature": 0,
                "max_tokens": 128,
                "context_window": 8192,
                "http_client": httpx.Client(transport=transport(backend, openai)),
                "async_http_client": httpx.AsyncClient(transport=async_transport(backend, openai)),
                **options,
            }
        )


class TestOllama(_OverServer):
    """llama-index-llms-ollama."""

    thinks = True
    max_tokens = "num_predict"

    def over(self, backend: Backend, **options: Any) -> LLM:
        client = Client(host="http://server", transport=transport(backend, ollama))
        aclient = AsyncClient(host="http://server", transport=async_transport(backend, ollama))
        return Ollama(model="tiny-hermes", temperature=0, client=client, async_client=aclient, **options)


class _ScriptedModel:
    """What `HuggingFaceLLM` asks of a transformers model, saying what a test wrote down."""

    name_or_path = "tiny-hermes"
    device = torch.device("cpu")
    config = MistralConfig(max_position_embeddings=8192)

    def __init__(self, replies: tuple[Reply, ...], *, fails_first: bool = False) -> None:
        self._replies = iter(replies)
        self._fails = fails_first
        self.begun, self.ended, self.released = threading.Event(), threading.Event(), threading.Event()
        self.prompts: list[str] = []
        self.was_stopped = False

    def generate(
        self, input_ids: Any, stopping_criteria: Any, max_new_tokens: int, streamer: Any = None, **_: Any
    ) -> Any:
        self.prompts.append(_tokenizer().decode(input_ids[0]))
        reply = next(self._replies)
        fails, self._fails = self._fails, False
        text = text_of(reply, self.prompts[-1])
        ids = _tokenizer().encode(text, add_special_tokens=False)
        limit = None if reply.endless else max_new_tokens
        made, row = 0, input_ids
        if streamer is not None:
            streamer.put(input_ids[0])
        while reply.endless or made < min(len(ids), limit or len(ids)):
            self.begun.set()
            token = torch.tensor([[ids[made % len(ids)]]])
            row = token if reply.endless else torch.cat([row, token], dim=1)
            made += 1
            if streamer is not None:
                streamer.put(token[0])
            if fails:
                raise RuntimeError("the device was lost")
            self.was_stopped = bool(torch.as_tensor(stopping_criteria(row, None)).any())
            if self.was_stopped or (reply.endless and (self.released.wait(0.001) or made == _LONG)):
                break
        if streamer is not None:
            streamer.end()
        self.ended.set()
        return row


class TestHuggingFaceLLM(LLMContract):
    """llama-index-llms-huggingface."""

    scriptable = True
    calls_tools = False
    max_tokens = "max_new_tokens"
    failures = ()  # where it streams, a failing model keeps its reader waiting for ever, and the suite with it

    def llm(self, **options: Any) -> LLM:
        return _over(_dense_model(), **options)

    def saying(self, *replies: Reply, **options: Any) -> LLM:
        if any(reply.value is not None or reply.calls for reply in replies):
            pytest.skip("its model is asked for JSON in prose, and calls no tools")
        return self._remembered(_ScriptedModel(replies), **options)

    def failing(self) -> LLM:
        return self._remembered(_ScriptedModel((Reply("one two three"),) * 12, fails_first=True))

    def _remembered(self, model: _ScriptedModel, **options: Any) -> LLM:
        llm = _over(model, **options)
        _MODELS[id(llm)] = model
        return llm

    def shown(self, llm: LLM) -> list[str]:
        return _MODELS[id(llm)].prompts

    def has_begun(self, llm: LLM) -> None:
        assert _MODELS[id(llm)].begun.wait(PATIENCE)

    def has_stopped(self, llm: LLM) -> bool:
        model = _MODELS[id(llm)]
        gc.collect()
        model.ended.wait(PATIENCE)
        model.released.set()
        return model.was_stopped


def _over(model: Any, **options: Any) -> LLM:
    return HuggingFaceLLM(
        **{
            "model": model,
            "model_name": "tiny-hermes",
            "tokenizer": _tokenizer(),
            "is_chat_model": True,
            "context_window": 8192,
            "max_new_tokens": 64,
            "generate_kwargs": {"do_sample": False},
            **options,
        }
    )


@cache
def _tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(TINY_FOLDER)


@cache
def _dense_model() -> Any:
    model = MistralForCausalLM(MistralConfig.from_pretrained(TINY_FOLDER))
    missing, unexpected = model.load_state_dict(read_dense(TINY_FOLDER), strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    model.generation_config = model.generation_config.from_pretrained(TINY_FOLDER)
    return model.eval()
