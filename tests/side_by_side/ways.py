"""The ways in which a library can be used, behind one shape each: what is run and what it is given; the result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from functools import reduce
from operator import add
from typing import Any

from langchain_core.messages import AIMessageChunk


async def _listed(stream: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in stream]


def _sum(chunks: Iterable[Any]) -> Any:
    return reduce(add, chunks)


# Models, and chains of them, whose parts add up.
RUNNABLE = {
    "invoke": lambda run, given, **options: run.invoke(given, **options),
    "ainvoke": lambda run, given, **options: asyncio.run(run.ainvoke(given, **options)),
    "stream": lambda run, given, **options: _sum(run.stream(given, **options)),
    "astream": lambda run, given, **options: _sum(asyncio.run(_listed(run.astream(given, **options)))),
}
# Chains whose parts replace each other.
GROWING = {
    **RUNNABLE,
    "stream": lambda run, given, **options: list(run.stream(given, **options))[-1],
    "astream": lambda run, given, **options: asyncio.run(_listed(run.astream(given, **options)))[-1],
}


def _last_state(parts: Iterable[Any]) -> Any:
    """Return the last state, and check that what was streamed of the model's words is what the state says."""
    state, said = None, []
    for mode, part in parts:
        if mode == "values":
            state = part
        elif isinstance(part[0], AIMessageChunk):
            said.append(part[0].text)
    return {"state": state, "streamed": "".join(said)}


_MODES = ["values", "messages"]
# Graphs: the state in which they end; streamed, with the words as they came.
GRAPH = {
    "invoke": lambda graph, given, *config: graph.invoke(given, *config),
    "ainvoke": lambda graph, given, *config: asyncio.run(graph.ainvoke(given, *config)),
    "stream": lambda graph, given, *config: _last_state(graph.stream(given, *config, stream_mode=_MODES)),
    "astream": lambda graph, given, *config: _last_state(
        asyncio.run(_listed(graph.astream(given, *config, stream_mode=_MODES)))
    ),
}
BLOCKING = {name: GRAPH[name] for name in ("invoke", "ainvoke")}
STREAMED = {name: GRAPH[name] for name in ("invoke", "stream")}
