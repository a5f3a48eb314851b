"""The eight endpoints behind one shape: a prompt in, a list of responses out, the last of them final."""

from __future__ import annotations

import asyncio

from llama_index.core.llms import ChatMessage


async def _drain(stream):
    return [response async for response in stream]


async def _astream_chat(llm, prompt, **options):
    return await _drain(await llm.astream_chat([ChatMessage(prompt)], **options))


async def _astream_complete(llm, prompt, **options):
    return await _drain(await llm.astream_complete(prompt, **options))


CHAT = {
    "chat": lambda llm, prompt, **options: [llm.chat([ChatMessage(prompt)], **options)],
    "achat": lambda llm, prompt, **options: [asyncio.run(llm.achat([ChatMessage(prompt)], **options))],
    "stream_chat": lambda llm, prompt, **options: list(llm.stream_chat([ChatMessage(prompt)], **options)),
    "astream_chat": lambda llm, prompt, **options: asyncio.run(_astream_chat(llm, prompt, **options)),
}
COMPLETE = {
    "complete": lambda llm, prompt, **options: [llm.complete(prompt, **options)],
    "acomplete": lambda llm, prompt, **options: [asyncio.run(llm.acomplete(prompt, **options))],
    "stream_complete": lambda llm, prompt, **options: list(llm.stream_complete(prompt, **options)),
    "astream_complete": lambda llm, prompt, **options: asyncio.run(_astream_complete(llm, prompt, **options)),
}
ALL = CHAT | COMPLETE
