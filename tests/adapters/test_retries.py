"""Trying again is one thing: the same for both frameworks, in this process and over a wire, on every path."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from llama_index.core.llms import ChatMessage

from hermes_runtime.engines import registry
from hermes_runtime.errors import EngineError, InvalidRequestError
from langchain_hermes import ChatHermes
from llama_index_hermes import HermesLLM
from tests.support.faulty_server import FaultyServer, Reply
from tests.support.scripted_engine import ScriptedEngine

ASK = [ChatMessage("Hi")]


async def _last(stream: Any) -> list[Any]:
    return [part async for part in stream]


async def _llama_stream(llm: HermesLLM, **options: Any) -> str:
    return "".join([part.delta async for part in await llm.astream_chat(ASK, **options)])


WAYS: dict[str, tuple[type, Callable[..., str]]] = {
    "ChatHermes.invoke": (ChatHermes, lambda llm, **options: llm.invoke("Hi", **options).text),
    "ChatHermes.ainvoke": (ChatHermes, lambda llm, **options: asyncio.run(llm.ainvoke("Hi", **options)).text),
    "ChatHermes.stream": (ChatHermes, lambda llm, **options: "".join(c.text for c in llm.stream("Hi", **options))),
    "ChatHermes.astream": (
        ChatHermes,
        lambda llm, **options: "".join(chunk.text for chunk in asyncio.run(_last(llm.astream("Hi", **options)))),
    ),
    "HermesLLM.chat": (HermesLLM, lambda llm, **options: llm.chat(ASK, **options).message.content),
    "HermesLLM.achat": (HermesLLM, lambda llm, **options: asyncio.run(llm.achat(ASK, **options)).message.content),
    "HermesLLM.stream_chat": (
        HermesLLM,
        lambda llm, **options: "".join(part.delta for part in llm.stream_chat(ASK, **options)),
    ),
    "HermesLLM.astream_chat": (HermesLLM, lambda llm, **options: asyncio.run(_llama_stream(llm, **options))),
    "HermesLLM.complete": (HermesLLM, lambda llm, **options: llm.complete("Hi", **options).text),
}


class Failing:
    """What computes, and fails as often as is said before it answers `Hello`.

    Attributes:
        options: What a model is given to be computed here.
        failures: How often it fails from now on.
        tries: How often it was asked.
        made: The engines that were made for it.
    """

    def __init__(self) -> None:
        self.options: dict[str, Any] = {"model": "tiny-hermes"}
        self.failures = self.tries = 0
        self.made: list[Any] = []

    def fails(self) -> bool:
        self.tries += 1
        self.failures -= 1
        return self.failures >= 0

    def over_a_wire(self, reply: Reply) -> None:
        if self.fails():
            reply.head("application/json", "503 Service Unavailable", "Retry-After: 0")
            return
        reply.head()
        reply.text("Hello", reason="stop")
        reply.end()

    def in_this_process(self, _: Any) -> str:
        if self.fails():
            raise EngineError("a kernel failed")
        return "Hello"


@pytest.fixture(params=["in this process", "over a wire"])
def failing(request, monkeypatch, mistral_tokenizer):
    computes = Failing()
    monkeypatch.setattr(registry, "_ENGINES", {})
    server = None
    if request.param == "over a wire":
        server = FaultyServer([computes.over_a_wire], tells_ids=False)
        computes.options |= {"base_url": server.url, "engine_options": {"retry_delay": 0.001}}
    kind = "local" if server is None else "server"
    make = registry._KINDS[kind].make

    def counted(model, **options):
        scripted = ScriptedEngine(mistral_tokenizer, computes.in_this_process) if server is None else None
        computes.made.append(scripted or make(model, **options))
        return computes.made[-1]

    monkeypatch.setitem(registry._KINDS, kind, replace(registry._KINDS[kind], make=counted))
    yield computes
    for engine in computes.made:
        engine.close()
    if server is not None:
        server.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_call_is_tried_again_as_often_as_it_says_by_one_engine(way, failing):
    kind, ask = WAYS[way]
    llm = kind(**failing.options, max_retries=1)
    failing.failures = 1
    assert ask(llm) == "Hello"
    failing.failures = 2
    with pytest.raises(EngineError):
        ask(llm)
    failing.failures, failing.tries = 2, 0
    assert ask(llm, max_retries=2) == "Hello"
    assert failing.tries == 3
    failing.failures, failing.tries = 1, 0
    with pytest.raises(EngineError):
        ask(llm, max_retries=0)
    assert failing.tries == 1
    assert len(failing.made) == 1


@pytest.mark.parametrize("kind", [ChatHermes, HermesLLM])
def test_unset_retries_are_none_in_this_process_and_two_of_a_server(kind, failing):
    llm, ask = kind(**failing.options), next(ask for owner, ask in WAYS.values() if owner is kind)
    failing.failures = 2
    if "base_url" in failing.options:
        assert ask(llm) == "Hello"
    else:
        with pytest.raises(EngineError):
            ask(llm)
        assert failing.tries == 1


@pytest.mark.parametrize("way", ["ChatHermes.invoke", "HermesLLM.chat"])
@pytest.mark.parametrize("bad", [-1, True, 1.5])
def test_what_is_no_number_of_tries_is_refused_in_a_call(way, bad, failing):
    kind, ask = WAYS[way]
    with pytest.raises(InvalidRequestError, match="max_retries must be an integer of at least 0"):
        ask(kind(**failing.options), max_retries=bad)
    assert failing.tries == 0


def test_a_stream_that_is_left_while_it_waits_for_the_next_try_ends_at_once():
    asked = threading.Event()

    def act(reply: Reply) -> None:
        reply.head("application/json", "503 Service Unavailable", "Retry-After: 50")
        asked.set()

    server = FaultyServer([act])
    llm = ChatHermes(model="tiny-hermes", base_url=server.url)

    async def leave() -> None:
        task = asyncio.create_task(llm.ainvoke("Hi"))
        await asyncio.to_thread(asked.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    try:
        asyncio.run(asyncio.wait_for(leave(), 30))
    finally:
        registry.load_engine("tiny-hermes", base_url=server.url).close()
        server.close()
