"""What the adapters cost: tokens a second of both on the embedded model, beside the engine's own.

The engine answers the very requests that the adapters sent it; nothing but the adapter lies between the two.

    python -m benchmarks.adapters --json FILE
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from llama_index.core.llms import ChatMessage

from benchmarks import _common
from benchmarks._common import Result
from benchmarks._tools import TOOLS
from hermes_runtime import load_engine
from hermes_runtime.engines.base import Engine, GenerationRequest
from langchain_hermes import ChatHermes
from llama_index_hermes import HermesLLM

MODEL = "tiny-hermes"
QUESTIONS = (
    "Hello! Who are you, and what can you do for me?",
    "Tell me a long story about the sea, please.",
    "What is the weather in Brest?",
)
_GOAL = 0.9


class Requests:
    """Takes note of what an engine is asked for."""

    def __init__(self, engine: Engine) -> None:
        self.taken: list[GenerationRequest] = []
        self._submit = engine.submit
        engine.submit = self._noted  # type: ignore[method-assign]

    def _noted(self, request: GenerationRequest) -> Any:
        self.taken.append(request)
        return self._submit(request)

    def replay(self) -> int:
        """Let the engine alone answer all of them; return how many tokens that took."""
        return sum(len(delta.ids) for request in self.taken for delta in self._submit(request))


def contenders(tokens: int) -> dict[str, Callable[[], object]]:
    """Name -> one stream for each question, read to its end."""
    chat = ChatHermes(model=MODEL, temperature=0.0, max_tokens=tokens)
    bound = chat.bind_tools(TOOLS[:3], tool_choice="any")
    llm = HermesLLM(model=MODEL, temperature=0.0, max_tokens=tokens)

    async def astream() -> None:
        for question in QUESTIONS:
            async for _ in chat.astream(question):
                pass

    return {
        "ChatHermes.stream": lambda: [list(chat.stream(question)) for question in QUESTIONS],
        "ChatHermes.astream": lambda: asyncio.run(astream()),
        "ChatHermes.stream, tools": lambda: [list(bound.stream(question)) for question in QUESTIONS],
        "HermesLLM.stream_chat": lambda: [
            list(llm.stream_chat([ChatMessage(role="user", content=question)])) for question in QUESTIONS
        ],
        "HermesLLM.stream_chat, tools": lambda: [
            list(llm.stream_chat([ChatMessage(role="user", content=question)], tools=TOOLS[:3], tool_choice="any"))
            for question in QUESTIONS
        ],
    }


def measure(tokens: int, repeats: int, clock: Callable[[], float]) -> list[Result]:
    """Each adapter and the engine in turn, several times; the best time of each counts."""
    requests = Requests(load_engine(MODEL))
    found = []
    for name, run in contenders(tokens).items():
        requests.taken.clear()
        run()
        asked = list(requests.taken)
        count = requests.replay()
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(repeats):
            for work, kept in zip((run, requests.replay), times, strict=True):
                requests.taken = list(asked)
                start = clock()
                work()
                kept.append(clock() - start)
        adapter, engine = (count / min(kept) for kept in times)
        found.append(_result(name, adapter, engine))
    return found


def _result(name: str, adapter: float, engine: float) -> Result:
    ratio = adapter / engine
    beside = f"the engine's own ({engine:.4g})"
    return Result(name, adapter, "tokens/s", beside, ratio, f"at least {_GOAL:g}", ratio >= _GOAL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    parser = _common.parser(__doc__)
    parser.add_argument(
        "--cpu-time", action="store_true", help="CPU seconds of one thread: for a machine that is in use"
    )
    options = parser.parse_args(arguments)
    if options.cpu_time:
        torch.set_num_threads(1)
    clock = time.process_time if options.cpu_time else time.perf_counter
    found = measure(60 if options.quick else 150, 3 if options.quick else 10, clock)
    used = _common.versions("torch", "transformers", "langchain-core", "llama-index-core")
    _common.publish("adapters", found, used, options.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
