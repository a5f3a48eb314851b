"""How long a call of the adapters holds the event loop up while it makes its prompt and its grammar.

Another task of the same loop wakes up every millisecond; the lag is how late it was at worst. Beside it stands how long
the same request takes to be made in a thread that does nothing else, for that is how long a loop that made it would be
held. Every request has tools of names that were not there before, so that no cache answers for the work.

    python -m benchmarks.loop_lag --json FILE
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from llama_index.core.llms import ChatMessage

from benchmarks import _common
from benchmarks._common import Result
from benchmarks._tools import TOOLS
from hermes_runtime import Engine, GenerationRequest, Turn, TurnRequest, User, load_engine
from langchain_hermes import ChatHermes
from llama_index_hermes import HermesLLM

MODEL = "tiny-hermes"
QUESTION = "What is the weather in Brest?"
SETS = {"small": 3, "huge": 48}
_BEAT = 0.001  # seconds
_GOAL = 0.05  # seconds: what a person does not see, and what the interpreter's lock alone may cost
_numbers = itertools.count()


def tool_set(count: int) -> list[dict[str, Any]]:
    """Return tools that no earlier set had."""
    tools = []
    for tool, number in zip(itertools.cycle(TOOLS), range(count), strict=False):
        described = tool["function"]
        name = f"{described['name']}_{number}_{next(_numbers)}"
        tools.append({"type": "function", "function": {**described, "name": name}})
    return tools


async def lag(call: Callable[[], Awaitable[object]]) -> float:
    """Return by how many seconds a task beside a call woke up too late, at worst."""
    worst = 0.0

    async def beat() -> None:
        nonlocal worst
        while True:
            due = time.perf_counter() + _BEAT
            await asyncio.sleep(_BEAT)
            worst = max(worst, time.perf_counter() - due)

    beating = asyncio.create_task(beat())
    await asyncio.sleep(10 * _BEAT)
    worst = 0.0
    await call()
    beating.cancel()
    return worst


class Handed:
    """Notes when an engine was handed a request, and spares it the answer."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.at = 0.0
        self._submit = engine.submit
        engine.submit = self._cancelled  # type: ignore[method-assign]

    def _cancelled(self, request: GenerationRequest) -> Any:
        generation = self._submit(request)
        self.at = time.perf_counter()
        generation.cancel()
        return generation

    def seconds(self, tools: list[dict[str, Any]]) -> float:
        """Return how long a request takes to be made and handed over."""
        start = time.perf_counter()
        for _ in Turn(self.engine, TurnRequest([User(QUESTION)], tools=tools)):
            pass
        return self.at - start


def calls() -> dict[str, Callable[[list[dict[str, Any]]], Awaitable[object]]]:
    """Name -> one call with tools."""
    chat = ChatHermes(model=MODEL)
    llm = HermesLLM(model=MODEL)
    return {
        "ChatHermes.ainvoke": lambda tools: chat.ainvoke(QUESTION, tools=tools),
        "HermesLLM.achat": lambda tools: llm.achat([ChatMessage(role="user", content=QUESTION)], tools=tools),
    }


def measure(repeats: int) -> list[Result]:
    """Each adapter with each set of tools; the median of several runs counts."""
    handed = Handed(load_engine(MODEL))
    found = []
    for (size, count), (name, call) in itertools.product(SETS.items(), calls().items()):
        asyncio.run(lag(lambda call=call: call(tool_set(3))))  # type: ignore[misc]
        lags, times = [], []
        for _ in range(repeats):
            tools = tool_set(count)
            lags.append(asyncio.run(lag(lambda call=call, tools=tools: call(tools))))  # type: ignore[misc]
            times.append(handed.seconds(tool_set(count)))
        held, taken = sorted(lags)[repeats // 2], sorted(times)[repeats // 2]
        beside = f"making the request ({taken:.4g} s)"
        goal = f"at most {_GOAL:g} s"
        found.append(Result(f"{name}, {size} tool set ({count})", held, "s", beside, held / taken, goal, held <= _GOAL))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    options = _common.parser(__doc__).parse_args(arguments)
    found = measure(3 if options.quick else 9)
    used = _common.versions("torch", "transformers", "langchain-core", "llama-index-core", "llguidance")
    _common.publish("loop_lag", found, used, options.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
