"""A stand-in for the vllm package that keeps what it is asked and says what a test wrote down.

It has the names that the engine imports and nothing else; the real package is tested where it is installed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any


class FakeLLM:
    """Streams the scripted ids one by one.

    Attributes:
        args: What it was opened with.
        asked: Prompt ids and parameters of every request, in order.
        aborted: How many streams were closed before their end.
    """

    def __init__(self, args: dict[str, Any], script: Sequence[Any], window: int) -> None:
        self.args = args
        self.model_config = SimpleNamespace(max_model_len=window)
        self.asked: list[tuple[list[int], SimpleNamespace]] = []
        self.aborted = 0
        self.errored = False
        self.is_shut_down = False
        self.started = asyncio.Event()
        self._script = script

    async def generate(self, prompt: dict[str, Any], params: SimpleNamespace, request_id: str) -> Any:
        self.asked.append((prompt["prompt_token_ids"], params))
        done = False
        try:
            for index, step in enumerate(self._script):
                if isinstance(step, Exception):
                    self.errored = isinstance(step, DeadError)
                    raise step
                if step == "wait":
                    await asyncio.Event().wait()
                last = index == len(self._script) - 1
                logprobs = None if params.logprobs is None else [{step: _entry(-0.5), 9: _entry(-0.25)}]
                output = SimpleNamespace(token_ids=[step], logprobs=logprobs, finish_reason="length" if last else None)
                done = last
                yield SimpleNamespace(outputs=[output], finished=last, num_cached_tokens=2)
        finally:
            self.aborted += not done

    def shutdown(self) -> None:
        self.is_shut_down = True


class DeadError(RuntimeError):
    """vLLM's processes ended."""


class ClientError(Exception):
    """The request is wrong."""


def _entry(logprob: float) -> SimpleNamespace:
    return SimpleNamespace(logprob=logprob)


def install(
    monkeypatch: Any, script: Sequence[Any] = (), *, version: str = "0.32.0", window: int = 64
) -> list[FakeLLM]:
    """Put the stand-in where `import vllm` finds it; return the list of the engines that will be opened."""
    opened: list[FakeLLM] = []

    def open_llm(args: dict[str, Any]) -> FakeLLM:
        if args.get("gpu_memory_utilization") == 7:
            raise RuntimeError("no such memory")
        opened.append(FakeLLM(args, script, args["max_model_len"] or window))
        return opened[-1]

    def engine_args(**options: Any) -> dict[str, Any]:
        if "tensor_paralel_size" in options:
            raise TypeError("unexpected keyword argument 'tensor_paralel_size'")
        return options

    def namespace(**values: Any) -> SimpleNamespace:
        return SimpleNamespace(**values)

    kinds = SimpleNamespace(DELTA="delta")
    modules = {
        "vllm": {"__version__": version},
        "vllm.config": {"StructuredOutputsConfig": namespace},
        "vllm.engine": {},
        "vllm.engine.arg_utils": {"AsyncEngineArgs": engine_args},
        "vllm.exceptions": {"VLLMClientError": ClientError},
        "vllm.inputs": {"tokens_input": lambda ids: {"type": "token", "prompt_token_ids": ids}},
        "vllm.sampling_params": {
            "RequestOutputKind": kinds,
            "SamplingParams": namespace,
            "StructuredOutputsParams": namespace,
        },
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.async_llm": {"AsyncLLM": SimpleNamespace(from_engine_args=open_llm)},
    }
    for name, contents in modules.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    return opened
