"""What the rules have in common: the endpoints behind one shape, events, and what it means to grow."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel, Field
from pydantic_core import from_json


def examples(count: int) -> settings:
    """Keep a property cheap, and the same in every class that inherits it; replies are small, so none is shrunk."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )


def add(a: int = 0, b: int = 0) -> int:
    """Add two numbers."""
    return a + b


def look_up(city: str = "") -> str:
    """Look up a city."""
    return f"{city} is fine"


class Add(BaseModel):
    """Arguments that end, whatever model writes them."""

    a: int = Field(ge=0, le=999)
    b: int = Field(ge=0, le=999)


class LookUp(BaseModel):
    """As above."""

    city: str = Field(max_length=12)


TOOLS = [
    FunctionTool.from_defaults(add, fn_schema=Add),
    FunctionTool.from_defaults(look_up, fn_schema=LookUp),
]


async def drain(stream: Any) -> list[Any]:
    """Read a stream that a coroutine opens."""
    return [response async for response in await stream]


def _ask(prompt: str | list[ChatMessage]) -> list[ChatMessage]:
    return [ChatMessage(prompt)] if isinstance(prompt, str) else prompt


# Each takes an LLM, a prompt or messages, and options of the call; each returns all responses, the last one final.
CHAT = {
    "chat": lambda llm, prompt, **options: [llm.chat(_ask(prompt), **options)],
    "achat": lambda llm, prompt, **options: [asyncio.run(llm.achat(_ask(prompt), **options))],
    "stream_chat": lambda llm, prompt, **options: list(llm.stream_chat(_ask(prompt), **options)),
    "astream_chat": lambda llm, prompt, **options: asyncio.run(drain(llm.astream_chat(_ask(prompt), **options))),
}
COMPLETE = {
    "complete": lambda llm, prompt, **options: [llm.complete(prompt, **options)],
    "acomplete": lambda llm, prompt, **options: [asyncio.run(llm.acomplete(prompt, **options))],
    "stream_complete": lambda llm, prompt, **options: list(llm.stream_complete(prompt, **options)),
    "astream_complete": lambda llm, prompt, **options: asyncio.run(drain(llm.astream_complete(prompt, **options))),
}
ALL = CHAT | COMPLETE
TOOL_CHAT = {
    "chat_with_tools": lambda llm, tools, **options: [llm.chat_with_tools(tools, **options)],
    "achat_with_tools": lambda llm, tools, **options: [asyncio.run(llm.achat_with_tools(tools, **options))],
    "stream_chat_with_tools": lambda llm, tools, **options: list(llm.stream_chat_with_tools(tools, **options)),
    "astream_chat_with_tools": lambda llm, tools, **options: asyncio.run(
        drain(llm.astream_chat_with_tools(tools, **options))
    ),
}
TOOL_STREAMS = {name: call for name, call in TOOL_CHAT.items() if "stream" in name}


def text_of(response: Any) -> str:
    """Return the text of either kind of response."""
    return (response.message.content if isinstance(response, ChatResponse) else response.text) or ""


def blocks_of(response: ChatResponse) -> list[ToolCallBlock]:
    """Return the tool calls that a message shows."""
    return [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]


def calls_of(llm: Any, response: ChatResponse) -> list[tuple[str, dict[str, Any]]]:
    """Return name and arguments of what an agent would run."""
    made = llm.get_tool_calls_from_response(response, error_on_no_tool_call=False)
    return [(call.tool_name, call.tool_kwargs) for call in made]


def plain(response: Any) -> Any:
    """Return a response without ids, which differ from call to call, and without what other rules are about."""
    data = response.model_dump(exclude={"delta", "raw", "additional_kwargs"})
    if "message" in data:
        data["message"]["blocks"] = [block for block in data["message"]["blocks"] if block.get("text") != ""]
    ids: dict[str, str] = {}
    for block in data.get("message", {}).get("blocks", ()):
        if block["block_type"] == "tool_call" and block["tool_call_id"] is not None:
            ids[block["tool_call_id"]] = f"id {len(ids)}"
    text = json.dumps(data, sort_keys=True, default=str)
    for call_id, number in ids.items():
        text = text.replace(call_id, number)
    return text


def is_part(part: Any, whole: Any) -> bool:
    """Tell whether a value can become another by growing: longer text, more items, more members."""
    if isinstance(part, str) and isinstance(whole, str):
        return whole.startswith(part)
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) <= len(whole) and all(map(is_part, part, whole))
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and is_part(value, whole[key]) for key, value in part.items())
    return type(part) is type(whole) and part == whole


def arguments_grow(earlier: dict[str, Any] | str, later: dict[str, Any] | str) -> bool:
    """Tell whether arguments, as JSON text or as an object, only grew; text may end as the object that it spells."""
    if isinstance(earlier, str) and isinstance(later, str):
        return later.startswith(earlier)
    if isinstance(earlier, str):
        # The last number of a text may still go on.
        text = earlier.rstrip("0123456789.eE+-").rstrip() or "{}"
        return is_part(from_json(text, allow_partial="trailing-strings"), later)
    return is_part(earlier, later)


class Recorder(BaseEventHandler):
    """Keeps every instrumentation event, and with exceptions the frames that ran."""

    seen: list[Any]

    def handle(self, event: Any, **_: Any) -> None:
        """Keep an event."""
        self.seen.append(event)

    def count(self, name: str) -> int:
        """Return how many events of a class were seen."""
        return sum(type(event).__name__ == name for event in self.seen)

    def messages(self) -> str:
        """Return all that was sent to the model, as the start events tell it."""
        sent = [getattr(event, "messages", None) or getattr(event, "prompt", "") for event in self.seen]
        return "\n".join(map(str, sent))


@contextmanager
def recorded() -> Iterator[Recorder]:
    """Record the events of a block."""
    root, recorder = get_dispatcher(), Recorder(seen=[])
    root.add_event_handler(recorder)
    try:
        yield recorder
    finally:
        root.event_handlers.remove(recorder)


class _Keeper(logging.Handler):
    """Keeps the texts of warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@contextmanager
def warned() -> Iterator[list[str]]:
    """Keep what is logged as a warning, or worse, in a block."""
    root, keeper = logging.getLogger(), _Keeper()
    root.addHandler(keeper)
    try:
        yield keeper.texts
    finally:
        root.removeHandler(keeper)
