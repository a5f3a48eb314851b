"""The chat models that the LangChain table compares, each ready to be asked, and the servers that two of them talk to.

`ChatHermes` and `ChatHuggingFace` run the embedded checkpoint, the latter dequantized, in a transformers pipeline.
`ChatOllama` and `ChatOpenAI` talk to a server that this module plays: it honors what a request asks for in the form of
the vendor's interface, so what is measured is the adapter and not a model's wits.
"""

# ruff: noqa: SLF001 - what an adapter hears can only be seen from inside

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import httpx
from langchain_core.language_models import BaseChatModel

CITIES = ("Bergen", "Ostend")
PERSON = {"name": "Anna", "age": 31}
WINDOW_CHARACTERS = 18_000


@dataclass(frozen=True, slots=True)
class Contender:
    """A chat model in the table.

    Attributes:
        name: Its class.
        make: Makes one; takes the standard options of LangChain's chat models.
        heard: What the model was given by the last request, as text.
        is_remote: A server decodes, so that nothing about decoding can be said of the adapter.
        make_talkative: As `make`; the model says a word before it calls a tool, and then answers as it is asked to. The
            embedded checkpoint is no such model, so for `ChatHermes` the tests' scripted engine stands in here.
        names: Two names that `make(model=...)` takes for two models.
        make_failing: As `make`; every request is refused, as one that does not fit or has an impossible option.
    """

    name: str
    make: Callable[..., BaseChatModel]
    heard: Callable[[], str]
    is_remote: bool
    make_talkative: Callable[..., BaseChatModel]
    names: tuple[str, str]
    make_failing: Callable[..., BaseChatModel]


# What the played servers say.


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, whatever the vendor's form."""

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]]
    choice: Any
    parallel: bool
    schema: Mapping[str, Any] | None
    max_tokens: int | None
    stop: Sequence[str]


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, whatever the vendor's form."""

    text: str = ""
    calls: Sequence[tuple[str, str]] = ()
    is_cut: bool = False


def answer(asked: Asked) -> Said:
    """Say what a model would that does just what it is asked."""
    question = next((str(m["content"]) for m in reversed(asked.messages) if m["role"] == "user"), "")
    results = [str(m["content"]) for m in asked.messages if m["role"] == "tool"]
    names = [tool["function"]["name"] for tool in asked.tools]
    forced = asked.choice not in (None, "auto", "none")
    useful = not results and not question.startswith("Hello")
    if names and asked.choice != "none" and (forced or useful):
        named = asked.choice["function"]["name"] if isinstance(asked.choice, Mapping) else names[0]
        given = [PERSON] if named == "Person" else [{"city": city} for city in CITIES if city in question]
        calls = [(named, json.dumps(arguments)) for arguments in given or [{"city": CITIES[0]}]]
        calls = calls if asked.parallel else calls[:1]
        if asked.max_tokens is not None and asked.max_tokens < len(calls) * 20:
            return Said("Let me see.", [(named, calls[0][1][:-4])], is_cut=True)
        return Said("Let me see.", calls)
    text = json.dumps(PERSON) if asked.schema is not None else " ".join(results) or "Good evening, dear friend of mine."
    for stop in asked.stop:
        text = text.partition(stop)[0]
    return Said(text)


@dataclass(slots=True)
class PlayedServer:
    """A server in this process.

    Attributes:
        respond: Makes the response from the request's body.
        heard: The last request's body.
    """

    respond: Callable[[dict[str, Any]], httpx.Response]
    heard: dict[str, Any] = field(default_factory=dict)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        self.heard = json.loads(request.content)
        return self.respond(self.heard)


def _pieces(text: str) -> Iterator[str]:
    yield from re.findall(r"\S+\s*|\s+", text)


# OpenAI


def _openai_response(body: dict[str, Any]) -> httpx.Response:
    if len(json.dumps(body["messages"])) > WINDOW_CHARACTERS:
        return _openai_refusal(body)
    response_format = body.get("response_format") or {}
    said = answer(
        Asked(
            body["messages"],
            body.get("tools") or (),
            body.get("tool_choice"),
            body.get("parallel_tool_calls", True),
            response_format if response_format.get("type") in ("json_schema", "json_object") else None,
            body.get("max_completion_tokens") or body.get("max_tokens"),
            [body["stop"]] if isinstance(body.get("stop"), str) else body.get("stop") or (),
        )
    )
    calls = [
        {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for number, (name, arguments) in enumerate(said.calls)
    ]
    reason = "length" if said.is_cut else "tool_calls" if calls else "stop"
    usage = {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29}
    usage["prompt_tokens_details"] = {"cached_tokens": 16}
    head = {"id": "chatcmpl-1", "created": 1, "model": body["model"]}
    if not body.get("stream"):
        message = {"role": "assistant", "content": said.text, **({"tool_calls": calls} if calls else {})}
        choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": _openai_logprobs(body, said)}
        return httpx.Response(200, json={**head, "object": "chat.completion", "choices": [choice], "usage": usage})
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in _pieces(said.text)]
    for index, call in enumerate(calls):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        deltas.append({"tool_calls": [{**call, "index": index, "function": {"name": name, "arguments": ""}}]})
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": p}}]} for p in _pieces(arguments)]
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks.append({"choices": [], "usage": usage})
    lines = [json.dumps({**head, "object": "chat.completion.chunk", **chunk}) for chunk in chunks]
    stream = "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"])
    return httpx.Response(200, text=stream, headers={"content-type": "text/event-stream"})


def _openai_refusal(_: dict[str, Any]) -> httpx.Response:
    error = {"message": "This model's maximum context length is exceeded.", "code": "context_length_exceeded"}
    return httpx.Response(400, json={"error": {**error, "type": "invalid_request_error", "param": "messages"}})


def _openai_logprobs(body: Mapping[str, Any], said: Said) -> dict[str, Any] | None:
    if not body.get("logprobs"):
        return None
    return {"content": [{"token": p, "logprob": -0.1, "bytes": None, "top_logprobs": []} for p in _pieces(said.text)]}


def openai() -> Contender:
    """`ChatOpenAI`."""
    from langchain_openai import ChatOpenAI
    from langchain_openai.chat_models import base

    # The real encodings would have to be fetched; any will do to see what is counted.
    base.tiktoken = SimpleNamespace(encoding_for_model=lambda _: SimpleNamespace(encode=str.split))
    server = PlayedServer(_openai_response)

    def make(answers: PlayedServer = server, **options: Any) -> BaseChatModel:
        transport = httpx.MockTransport(answers)
        clients = {
            "http_client": httpx.Client(transport=transport),
            "http_async_client": httpx.AsyncClient(transport=transport),
        }
        # What is the default without a transport of one's own.
        defaults = {"model": "gpt-4o-mini", "api_key": "none", "max_retries": 0, "stream_usage": True}
        return ChatOpenAI(**{**defaults, **clients, **options})

    names = ("gpt-4o-mini", "gpt-4o")
    failing = partial(make, PlayedServer(_openai_refusal))
    return Contender("ChatOpenAI", make, lambda: json.dumps(server.heard), True, make, names, failing)


# Ollama


def _ollama_response(body: dict[str, Any]) -> httpx.Response:
    options = body.get("options") or {}
    said = answer(
        Asked(
            body["messages"],
            body.get("tools") or (),
            body.get("tool_choice"),
            parallel=True,
            schema=body.get("format") or None,
            max_tokens=options.get("num_predict"),
            stop=options.get("stop") or (),
        )
    )
    head = {"model": body["model"], "created_at": "2026-01-01T00:00:00Z"}
    parts: list[dict[str, Any]] = [{"content": piece} for piece in _pieces(said.text)]
    # The server reads calls itself and drops one that was cut.
    whole = [] if said.is_cut else said.calls
    parts += [{"content": "", "tool_calls": [_ollama_call(name, arguments)]} for name, arguments in whole]
    if body.get("logprobs"):
        for part in parts:
            part["logprobs"] = [{"token": part["content"], "logprob": -0.1}]
    lines = [
        {
            **head,
            "message": {"role": "assistant", **{key: part[key] for key in part if key != "logprobs"}},
            "done": False,
            **({"logprobs": part["logprobs"]} if "logprobs" in part else {}),
        }
        for part in parts
    ]
    counts = {"prompt_eval_count": 20, "eval_count": 9, "total_duration": 1}
    last = {"message": {"role": "assistant", "content": ""}, "done": True}
    lines.append({**head, **last, "done_reason": "length" if said.is_cut else "stop", **counts})
    return httpx.Response(200, text="".join(json.dumps(line) + "\n" for line in lines))


def _ollama_refusal(_: dict[str, Any]) -> httpx.Response:
    return httpx.Response(400, json={"error": "the input exceeds the context length"})


def _ollama_call(name: str, arguments: str) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": json.loads(arguments)}}


def ollama() -> Contender:
    """`ChatOllama`."""
    from langchain_ollama import ChatOllama

    server = PlayedServer(_ollama_response)

    def make(answers: PlayedServer = server, **options: Any) -> BaseChatModel:
        clients = {"client_kwargs": {"transport": httpx.MockTransport(answers)}}
        limit = {"num_predict": options.pop("max_tokens")} if "max_tokens" in options else {}
        return ChatOllama(**{"model": "llama3.2", **clients, **limit, **options})

    failing = partial(make, PlayedServer(_ollama_refusal))
    return Contender("ChatOllama", make, lambda: json.dumps(server.heard), True, make, ("llama3.2", "qwen3"), failing)


# The embedded checkpoint


@cache
def _pipeline() -> Any:
    from transformers import AutoConfig, AutoTokenizer, MistralForCausalLM, pipeline

    from hermes_runtime.checkpoint.hub import TINY_FOLDER
    from tiny_hermes.pack import read_dense

    config = AutoConfig.from_pretrained(TINY_FOLDER)
    del config.quantization_config
    model = MistralForCausalLM(config)
    model.load_state_dict(read_dense(TINY_FOLDER), strict=False)
    tokenizer = AutoTokenizer.from_pretrained(TINY_FOLDER)
    turn = "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    tokenizer.chat_template = (
        "{{ bos_token }}{% for message in messages %}" + turn + "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    return pipeline("text-generation", model=model.eval(), tokenizer=tokenizer)


def hugging_face() -> Contender:
    """`ChatHuggingFace` over a local pipeline."""
    from langchain_huggingface import ChatHuggingFace, HuggingFacePipeline

    heard: list[str] = [""]

    def make(**options: Any) -> BaseChatModel:
        pipe = _pipeline()
        generation = {"max_new_tokens": options.pop("max_tokens", 60), **options.pop("generation", {})}
        llm = HuggingFacePipeline(pipeline=pipe, pipeline_kwargs=generation)
        llm.model_id = options.pop("model", "tiny-hermes")
        chat = ChatHuggingFace(llm=llm, tokenizer=pipe.tokenizer, model_id=llm.model_id, **options)
        to_prompt = chat._to_chat_prompt

        def note(*arguments: Any, **keywords: Any) -> str:
            heard[0] = to_prompt(*arguments, **keywords)
            return heard[0]

        object.__setattr__(chat, "_to_chat_prompt", note)
        return chat

    failing = partial(make, generation={"do_sample": True, "temperature": -1.0})
    return Contender("ChatHuggingFace", make, lambda: heard[0], False, make, ("tiny-hermes", "other"), failing)


def _hermes_reply(prompt: str) -> str:
    if "<tool_response>\n{" in prompt:
        return json.dumps(PERSON) if "answers in JSON" in prompt else "9 degrees."
    return f"Let me see.\n<tool_call>\n{{'arguments': {{'city': '{CITIES[0]}'}}, 'name': 'get_weather'}}\n</tool_call>"


def hermes() -> Contender:
    """`ChatHermes`."""
    from hermes_runtime.checkpoint.hub import TINY_FOLDER
    from hermes_runtime.engines import registry
    from langchain_hermes import ChatHermes
    from tests.support.scripted_engine import ScriptedEngine

    heard: list[str] = [""]

    def make(**options: Any) -> BaseChatModel:
        defaults = {"model": "tiny-hermes", "device": "cpu", "temperature": 0, "max_tokens": 200}
        made = ChatHermes(**{**defaults, **options})
        engine = made._load_engine()
        if engine.submit.__name__ != "note":
            submit = engine.submit

            def note(request: Any) -> Any:
                heard[0] = engine.tokenizer.decode(list(request.prompt_ids))
                return submit(request)

            engine.submit = note
        return made

    def make_scripted(window: int, **options: Any) -> BaseChatModel:
        tokenizer = make()._load_engine().tokenizer
        engine = ScriptedEngine(tokenizer, _hermes_reply, context_window=window)
        registry._ENGINES[registry._key("scripted", "local", {})] = engine
        return ChatHermes(**{"model": "scripted", **options})

    return Contender(
        "ChatHermes",
        make,
        lambda: heard[0],
        False,
        partial(make_scripted, 8192),
        ("tiny-hermes", str(TINY_FOLDER)),
        partial(make_scripted, 2),
    )
