"""What a model server is to its clients: answers in pieces, scripted or from tiny-hermes, and a transport.

Two wire formats lie on top, in `wires`: OpenAI's and Ollama's.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx

from hermes_runtime import load_engine
from hermes_runtime.engines.base import Usage
from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.options.generation import GenerationOptions, SamplingParams
from hermes_runtime.parser.events import InvalidToolCallEvent, TextDelta, ToolCallDelta, ToolCallEvent
from hermes_runtime.turn import Turn, TurnRequest, render
from tests.llama_index_contract.replies import Call, Reply

_ARGUMENTS_PER_PIECE = 4
_OVER = Reply()
PATIENCE = 5.0  # seconds in which a client that stops reading closes its connection


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks, whatever the wire: the fields mean what they mean in OpenAI's API."""

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: Any = None
    parallel: bool = True
    schema: Mapping[str, Any] | None = None
    max_tokens: int | None = None
    stop: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer: text, thinking, or a part of the arguments of call number `call`; the last has usage."""

    text: str = ""
    thinking: str = ""
    call: int | None = None
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    finish: str | None = None
    usage: Usage | None = None


class ServerError(Exception):
    """What a server answers instead of a reply.

    Attributes:
        status: HTTP's code.
        body: The error as OpenAI's API describes it.
    """

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.status = status
        self.body = body
        super().__init__(f"HTTP {status}: {body['message']}")


class Backend:
    """A server's model.

    Args:
        replies: What it says, one per request; None lets tiny-hermes answer.
        context_window: What it refuses prompts beyond.
        fails_first: The first answer breaks off after a piece.
        refuses: Name in `REFUSALS` of what every request is answered with; `"timeout"` answers nothing.

    Attributes:
        bodies: The JSON of every request.
        begun: Set when an endless answer is being read.
        closed: Set when an answer was left before its end.
    """

    def __init__(
        self,
        replies: Sequence[Reply] | None = None,
        *,
        context_window: int = 8192,
        fails_first: bool = False,
        refuses: str | None = None,
    ) -> None:
        self.refuses = refuses
        self.bodies: list[str] = []
        self.begun = threading.Event()
        self.closed = threading.Event()
        self.context_window = context_window
        self._replies = None if replies is None else iter(replies)
        self._fails = fails_first
        self._lock = threading.Lock()

    def pieces(self, question: Question) -> Iterator[Piece]:
        """Answer piece by piece.

        Raises:
            InvalidRequestError: The prompt does not fit.
        """
        with self._lock:
            reply = None if self._replies is None else next(self._replies, _OVER)
            fails, self._fails = self._fails, False
        if reply is _OVER:
            raise InvalidRequestError("the script is over, and the model was asked once more")
        if reply is None:
            return _generated(question, self.context_window)
        answer = self._endless() if reply.endless else scripted(reply, question)
        return _breaking(answer) if fails else answer

    def _endless(self) -> Iterator[Piece]:
        while not self.closed.is_set():
            self.begun.set()
            yield Piece("and ")


def _breaking(pieces: Iterator[Piece]) -> Iterator[Piece]:
    yield next(pieces)
    raise httpx.ReadError("the connection was lost")


def scripted(reply: Reply, question: Question) -> Iterator[Piece]:
    """Say a reply, up to the limit and the stop strings that were asked for."""
    prompt_tokens = len(json.dumps(question.messages)) // 4 + 1
    said = 0
    for piece in _said(reply, question):
        if question.max_tokens is not None and said == question.max_tokens:
            yield Piece(finish="length", usage=Usage(prompt_tokens, said))
            return
        said += 1
        yield piece
    finish = "length" if reply.is_cut else "tool_calls" if reply.calls else "stop"
    yield Piece(finish=finish, usage=Usage(prompt_tokens, said + 1))


def _said(reply: Reply, question: Question) -> Iterator[Piece]:
    text, calls = reply.text, reply.calls
    if reply.value is not None and question.tools:
        calls = (Call(question.tools[0]["function"]["name"], reply.value),)
    elif reply.value is not None:
        text = json.dumps(reply.value, ensure_ascii=False)
    for stop in question.stop:
        text = text.partition(stop)[0]
    yield from (Piece(thinking=word) for word in _words(reply.thinking))
    yield from (Piece(word) for word in _words(text))
    for number, call in enumerate(calls):
        call_id = f"call_{next(_NUMBERS)}"
        yield Piece(call=number, call_id=call_id, name=call.name)
        for start in range(0, len(call.text), _ARGUMENTS_PER_PIECE):
            yield Piece(call=number, arguments=call.text[start : start + _ARGUMENTS_PER_PIECE])


_NUMBERS = count(1)


def _words(text: str) -> list[str]:
    *words, last = text.split(" ")
    return [*(f"{word} " for word in words), *([last] if last else [])]


def _generated(question: Question, context_window: int) -> Iterator[Piece]:
    engine = load_engine("tiny-hermes")
    request = TurnRequest(
        question.messages,
        tools=question.tools,
        tool_choice=question.tool_choice,
        parallel_tool_calls=question.parallel,
        schema=question.schema,
        options=GenerationOptions(SamplingParams(temperature=0), max_tokens=question.max_tokens or 128),
    )
    length = len(render(engine, request).token_ids)
    if length >= context_window:
        raise InvalidRequestError(f"the prompt has {length} tokens and the context window is {context_window}")
    return _events(Turn(engine, request))


def _events(turn: Turn) -> Iterator[Piece]:
    numbers: dict[str, int] = {}

    def call(call_id: str, name: str, arguments: str) -> Piece:
        is_new = call_id not in numbers
        number = numbers.setdefault(call_id, len(numbers))
        return Piece(call=number, call_id=call_id if is_new else "", name=name if is_new else "", arguments=arguments)

    for event in turn:
        match event:
            case TextDelta(text):
                yield Piece(text)
            case ToolCallDelta(call_id, name, arguments):
                yield call(call_id, name, arguments)
            case ToolCallEvent(made) if made.id not in numbers:
                yield call(made.id, made.name, json.dumps(made.arguments, ensure_ascii=False))
            case InvalidToolCallEvent(cut) if cut.id not in numbers:
                yield call(cut.id, cut.name or "", cut.arguments)
    yield Piece(finish=turn.result.finish_reason, usage=turn.result.usage)


class _Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """An answer on its way; closing it, or leaving its iterator, closes the connection, as httpcore does."""

    def __init__(self, chunks: Iterator[bytes], backend: Backend) -> None:
        self._chunks = chunks
        self._backend = backend
        self._ended = False

    def __iter__(self) -> Iterator[bytes]:
        try:
            while (chunk := self._next()) is not None:
                yield chunk
        finally:
            self.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while (chunk := await asyncio.to_thread(self._next)) is not None:
                yield chunk
        finally:
            self.close()

    def _next(self) -> bytes | None:
        chunk = next(self._chunks, None)
        self._ended = chunk is None
        return chunk

    def close(self) -> None:
        if not self._ended:
            self._backend.closed.set()

    async def aclose(self) -> None:
        self.close()


Wire = Callable[[httpx.Request, Backend], tuple[str, Iterator[bytes]]]


REFUSALS = {
    "too long": (400, "context_length_exceeded"),
    "bad request": (400, "invalid_request_error"),
    "bad key": (401, "invalid_api_key"),
    "no such model": (404, "model_not_found"),
    "too many requests": (429, "rate_limit_exceeded"),
    "broken": (500, "server_error"),
}


def _respond(request: httpx.Request, backend: Backend, wire: Wire) -> httpx.Response:
    if backend.refuses == "timeout":
        raise httpx.ReadTimeout("the server never answered", request=request)
    if backend.refuses is not None:
        status, code = REFUSALS[backend.refuses]
        return httpx.Response(status, json={"error": {"message": backend.refuses, "code": code, "type": code}})
    try:
        content_type, chunks = wire(request, backend)
    except InvalidRequestError as error:
        return httpx.Response(400, json={"error": {"message": str(error), "type": "invalid_request_error"}})
    except ServerError as error:
        return httpx.Response(error.status, json={"error": error.body})
    return httpx.Response(200, headers={"content-type": content_type}, stream=_Body(chunks, backend))


def transport(backend: Backend, wire: Wire) -> httpx.MockTransport:
    """Return the transport of a blocking client."""

    def handle(request: httpx.Request) -> httpx.Response:
        request.read()
        return _respond(request, backend, wire)

    return httpx.MockTransport(handle)


def async_transport(backend: Backend, wire: Wire) -> httpx.MockTransport:
    """Return the transport of an async client."""

    async def handle(request: httpx.Request) -> httpx.Response:
        await request.aread()
        return await asyncio.to_thread(_respond, request, backend, wire)

    return httpx.MockTransport(handle)
