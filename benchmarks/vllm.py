"""What the vLLM engine costs beside vLLM itself: the same requests to the same AsyncLLM, with and without it.

`python -m benchmarks.vllm [--quick] [--json FILE]`, in an environment that has vLLM (`make test-vllm` makes one).

The model is the embedded toy: its steps take so little that what is done per token shows as nowhere else. Each request
is greedy under a grammar that never ends, so that all have the same length. vLLM alone makes its own text; the engine
makes ids into text itself. Rounds of both take turns, and the best of each counts.
"""

# ruff: noqa: SLF001 - vLLM itself is inside the engine, and runs in its loop

from __future__ import annotations

import asyncio
import os
import time
import uuid
from typing import TYPE_CHECKING, Any

from benchmarks._common import Result, parser, publish, versions

if TYPE_CHECKING:
    from hermes_runtime.engines.vllm import VLLMEngine

_GOAL = 0.97
_GRAMMAR = "start: /[a-z ]{4000}/\n"
_WINDOW = 2048


def main() -> None:
    options = parser(__doc__).parse_args()
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
    from hermes_runtime.engines.registry import load_engine

    tokens, rounds = (128, 3) if options.quick else (256, 6)
    engine: Any = load_engine("tiny-hermes", engine="vllm", context_window=_WINDOW)
    results = [result for count in (1, 16) for result in _compare(engine, count, tokens, rounds)]
    engine.close()
    publish("vllm", results, versions("vllm", "vllm-cpu", "torch", "transformers", "llguidance"), options.json)


def _compare(engine: VLLMEngine, count: int, tokens: int, rounds: int) -> list[Result]:
    raw, ours = [], []
    for _ in range(rounds):
        raw.append(engine._loop.run(_raw(engine, count, tokens)))
        ours.append(asyncio.run(_ours(engine, count, tokens)))
    at_once = f"{count} at a time"
    alone, adapted = (count * tokens / min(times) for times in (raw, ours))
    ratio = adapted / alone
    return [
        Result(f"vLLM alone, {at_once}", alone, "tokens/s"),
        Result(
            f"vLLM engine, {at_once}", adapted, "tokens/s", "vLLM alone", ratio, f"at least {_GOAL}", ratio >= _GOAL
        ),
    ]


def _prompt(index: int) -> tuple[int, ...]:
    return (1, *range(10 + index, 74 + index))


async def _raw(engine: VLLMEngine, count: int, tokens: int) -> float:
    from vllm import SamplingParams
    from vllm.inputs import tokens_input
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    async def one(index: int) -> int:
        params = SamplingParams(
            max_tokens=tokens,
            temperature=0,
            output_kind=RequestOutputKind.DELTA,
            structured_outputs=StructuredOutputsParams(grammar=_GRAMMAR),
        )
        made = 0
        async for output in engine._llm.generate(tokens_input(list(_prompt(index))), params, uuid.uuid4().hex):
            made += len(output.outputs[0].token_ids)
        return made

    start = time.perf_counter()
    made = await asyncio.gather(*(one(index) for index in range(count)))
    spent = time.perf_counter() - start
    assert set(made) == {tokens}
    return spent


async def _ours(engine: VLLMEngine, count: int, tokens: int) -> float:
    from hermes_runtime.engines.base import GenerationRequest
    from hermes_runtime.options.generation import GenerationOptions, SamplingParams

    async def one(index: int) -> int:
        request = GenerationRequest(
            _prompt(index), GenerationOptions(SamplingParams(temperature=0.0), max_tokens=tokens), _GRAMMAR
        )
        return sum([len(delta.ids) async for delta in engine.submit(request)])

    start = time.perf_counter()
    made = await asyncio.gather(*(one(index) for index in range(count)))
    spent = time.perf_counter() - start
    assert set(made) == {tokens}
    return spent


if __name__ == "__main__":
    main()
