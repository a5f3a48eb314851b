"""The engine as users meet it: one stream, many, prompts, an agent, constrained calls, and where its time goes."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
import threading
import time
from bisect import bisect
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch

from benchmarks import _engine_scenarios as scenarios
from benchmarks._common import Result
from benchmarks._gpu.rig import IDS, Rig
from benchmarks._gpu.slot import Log
from benchmarks.awq import flops_per_token
from hermes_runtime.engines.base import Engine, GenerationRequest, TokenDelta
from hermes_runtime.engines.local.batch.limits import EngineLimits
from hermes_runtime.engines.local.engine import LocalEngine
from hermes_runtime.options.generation import GenerationOptions, SamplingParams

GREEDY = GenerationOptions(SamplingParams(temperature=0.0))
DRAWN = GenerationOptions(SamplingParams(temperature=0.8, top_p=0.95, top_k=50))
_PATIENCE = 40.0  # seconds until streams that decode too slowly are given up
_DRAFT = 15  # with the token before it a whole tile of 16 rows
_PROFILED = 20  # tokens
_AGENT_WINDOW = 16_384  # tokens, of which a tokenizer of bytes needs most
_LONGEST_KERNEL_NAME = 90
_SHOWN_KERNELS = 24


def demo(_: Rig, log: Log) -> None:
    """The demo of both adapters, as the README has it, on this device."""
    needed = ("langchain", "llama_index")
    if absent := [name for name in needed if importlib.util.find_spec(name) is None]:
        log.write(left_out="demo", reason=f"{', '.join(absent)} cannot be imported")
        return
    start = time.perf_counter()
    command = [sys.executable, "-m", "hermes_adapters", "demo"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "140"})
    took = time.perf_counter() - start
    is_right = done.returncode == 0
    log.figure(
        Result("demo of both adapters", took, "s", goal="every answer right", holds=is_right),
        **({} if is_right else {"said": (done.stdout + done.stderr)[-1500:]}),
    )


def limits(rig: Rig, log: Log) -> None:
    """What the device can do at all: reading memory, and arithmetic."""
    log.figure(Result("memory read", rig.bandwidth / 1e9, "GB/s"))
    log.figure(Result("matrix product", rig.product_rate / 1e12, "TFLOP/s"))


def load(rig: Rig, log: Log) -> None:
    """From files to a model that can be asked."""
    start = time.perf_counter()
    folder = rig.checkpoint
    log.figure(Result("random checkpoint written", time.perf_counter() - start, "s"))
    if rig.is_cuda:
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    loaded = rig.loaded
    log.figure(Result("load", time.perf_counter() - start, "s"), kernel=loaded.kernel)
    if rig.is_cuda:
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        peak = torch.cuda.max_memory_allocated() / size
        log.figure(Result("peak device memory of loading", peak, "x checkpoint"))


def one_stream(rig: Rig, log: Log) -> None:
    """One greedy stream, with and without CUDA graphs."""
    rate = _decode(rig, log, "greedy", 1)
    if rig.is_cuda:
        _decode(rig, log, "greedy, without CUDA graphs", 1, beside=("with them", rate), graphs=False)


def several_streams(rig: Rig, log: Log) -> None:
    """As many as a busy agent has."""
    _decode(rig, log, "greedy", rig.plan.streams[1])


def drawn_tokens(rig: Rig, log: Log) -> None:
    """Sampled instead of greedy."""
    for streams in rig.plan.streams[:2]:
        _decode(rig, log, "sampled", streams, asked=DRAWN)


def drafted_tokens(rig: Rig, log: Log) -> None:
    """With drafts. A random model that answers greedily repeats itself, which drafts copy: that flatters them."""
    for streams in rig.plan.streams[:2]:
        _decode(rig, log, "greedy, drafts", streams, draft=_DRAFT)


def many_streams(rig: Rig, log: Log) -> None:
    """As many as a server has."""
    _decode(rig, log, "greedy", rig.plan.streams[2])
    _decode(rig, log, "sampled", rig.plan.streams[2], asked=DRAWN)


def long_contexts(rig: Rig, log: Log) -> None:
    """One stream far into a conversation."""
    for context in rig.plan.contexts:
        _decode(rig, log, f"greedy, after {context} tokens", 1, context=context)


def prompts(rig: Rig, log: Log) -> None:
    """Seconds to the first token, for prompts of several lengths."""
    chance = random.Random(5)
    window = min(rig.plan.shape.context, 2 * max(rig.plan.prompts) + 256)
    with closing(LocalEngine(rig.loaded, context_window=window, limits=EngineLimits(slots=1, draft=0))) as engine:
        for length in rig.plan.prompts:
            took = min(_seconds_to_first(engine, _prompt(chance, length)) for _ in range(3))
            share = length * flops_per_token(rig.plan.shape) / rig.product_rate / took
            log.figure(
                Result(f"prompt of {length} tokens: first token", took * 1e3, "ms", limit_share=share),
                rate=length / took,
            )


def agent(rig: Rig, log: Log) -> None:
    """A conversation with six tools, one call and one result a turn."""
    checkpoint = _agent_checkpoint(rig)
    for name, bounds in (("drafts", EngineLimits(draft=_DRAFT)), ("no drafts", EngineLimits(draft=0))):
        with closing(LocalEngine(checkpoint, limits=bounds)) as engine:
            recorder = scenarios.Recorder(engine)
            scenarios.converse(recorder, 1)  # what is computed once for all conversations
            start = time.perf_counter()
            scenarios.converse(recorder, rig.plan.turns)
            took = time.perf_counter() - start
            tokens = sum(usage.completion_tokens for usage in recorder.usages[1:])
            title = f"agent, {rig.plan.turns} turns, {name}"
            log.figure(Result(title, took, "s"), tokens=tokens, passes=_passes(engine))


def constrained_calls(rig: Rig, log: Log) -> None:
    """Calls under a grammar, with and without drafts."""
    bench = scenarios.Bench(_agent_checkpoint(rig), turns=1, calls=rig.plan.calls, tokens=rig.plan.tokens, repeats=1)
    for result in scenarios.calls(bench):
        log.figure(replace(result, goal=None, holds=None))


def profile(rig: Rig, log: Log) -> None:
    """Where the time of a token goes, by kernel."""
    if not rig.is_cuda:
        log.write(left_out="profile", reason="there are no kernels to see without a GPU")
        return
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    window = min(rig.plan.shape.context, 4096)
    with closing(LocalEngine(rig.loaded, context_window=window, limits=_bounds(1))) as engine:
        reader = iter(engine.submit(GenerationRequest(_prompt(random.Random(3), 128), GREEDY)))
        for _ in range(2 * _PROFILED):
            next(reader)
        rig.wait()
        with profiler(activities=[ProfilerActivity.CUDA]) as seen:
            start, count = time.perf_counter(), 0
            while count < _PROFILED:
                count += len(next(reader).ids)
            wall = rig.wait() - start
    kernels = [event for event in seen.events() if event.device_type.name == "CUDA"]
    spans = sorted((event.time_range.start, event.time_range.end) for event in kernels)
    busy, end = 0.0, 0.0
    for begun, ended in spans:
        busy += max(0.0, ended - max(begun, end))
        end = max(end, ended)
    log.figure(
        Result("a token under the profiler", wall / count * 1e3, "ms"),
        kernels=len(kernels) / count,
        busy_ms=busy / 1e3 / count,
    )
    kinds: dict[str, list[float]] = {}
    for event in kernels:
        kinds.setdefault(event.name[:_LONGEST_KERNEL_NAME], []).append(event.time_range.end - event.time_range.start)
    for name, times in sorted(kinds.items(), key=lambda kind: -sum(kind[1]))[:_SHOWN_KERNELS]:
        log.figure(Result(f"kernel {name}", sum(times) / count, "us a token"), calls=len(times) / count)


def _decode(
    rig: Rig,
    log: Log,
    name: str,
    streams: int,
    *,
    context: int = 128,
    asked: GenerationOptions = GREEDY,
    draft: int = 0,
    graphs: bool | None = None,
    beside: tuple[str, float] | None = None,
) -> float:
    """Write how many tokens a second some streams decode together, and how their passes ran; return it."""
    name = f"{streams} {'stream' if streams == 1 else 'streams'}, {name}"
    context = min(context, rig.plan.shape.context // 4)
    window = min(rig.plan.shape.context, 2 * context + 8 * rig.plan.tokens + 2048)
    bounds = replace(_bounds(streams), draft=draft, graphs=graphs)
    with closing(LocalEngine(rig.loaded, context_window=window, limits=bounds)) as engine:
        rate = streams_rate(engine, streams, context, rig.plan.tokens, asked)
        passes = _passes(engine)
    moved = (rig.token_bytes + streams * context * rig.cached_bytes) * rate / streams
    ratio_to, ratio = (None, None) if beside is None else (beside[0], rate / beside[1])
    # A draft's tokens share a pass, so the weights are read less often than this figure would say.
    share = None if draft else moved / rig.bandwidth
    log.figure(Result(name, rate, "tokens/s", ratio_to, ratio, limit_share=share), passes=passes)
    return rate


def streams_rate(engine: Engine, streams: int, context: int, tokens: int, asked: GenerationOptions = GREEDY) -> float:
    """Return the tokens a second of all streams together while all of them decode."""
    chance = random.Random(streams * context)
    times: list[list[float]] = [[] for _ in range(streams)]
    is_enough = threading.Event()

    def read(generation: Iterable[TokenDelta], own: list[float]) -> None:
        for delta in generation:
            own += [time.perf_counter()] * len(delta.ids)
            # Graphs are captured in the first few passes; what counts comes after as many as are measured.
            if all(times) and len(own) - bisect(own, max(each[0] for each in times)) > 2 * tokens:
                is_enough.set()

    running = [
        engine.submit(GenerationRequest(_prompt(chance, context), replace(asked, seed=seed))) for seed in range(streams)
    ]
    readers = [threading.Thread(target=read, args=pair) for pair in zip(running, times, strict=True)]
    for reader in readers:
        reader.start()
    is_enough.wait(_PATIENCE)
    for generation in running:
        generation.cancel()
    for reader in readers:
        reader.join()
    if not is_enough.is_set():
        raise RuntimeError(f"{streams} streams never decoded {2 * tokens} tokens together")
    last = min(own[-1] for own in times)
    measured = [own[: bisect(own, last)][-tokens - 1 :] for own in times]
    return sum((len(own) - 1) / (own[-1] - own[0]) for own in measured)


def _seconds_to_first(engine: Engine, prompt: tuple[int, ...]) -> float:
    start = time.perf_counter()
    list(engine.submit(GenerationRequest(prompt, replace(GREEDY, max_tokens=1))))
    return time.perf_counter() - start


def _prompt(chance: random.Random, length: int) -> tuple[int, ...]:
    return (1, *chance.choices(IDS, k=length - 1))


def _bounds(streams: int) -> EngineLimits:
    return EngineLimits(slots=streams, patience=3600.0, draft=0)


def _agent_checkpoint(rig: Rig) -> Any:
    """The model under test with greedy defaults, and room for a conversation."""
    greedy = SamplingParams(0.0, 1.0, 0, 0.0, 1.0)
    return replace(rig.loaded, generation_defaults=greedy, context_window=min(rig.plan.shape.context, _AGENT_WINDOW))


def _passes(engine: LocalEngine) -> dict[str, int] | None:
    fixed = engine._fixed  # noqa: SLF001 - nobody else asks for it
    return None if fixed is None else dict(fixed.passes)
