"""Mixed requests from threads and tasks, a third of which leave at random moments: nothing lost, nothing hung.

Afterwards memory has not grown, and the engine still says what `model.generate` says.
"""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass

import psutil

from benchmarks._common import Result
from benchmarks._tools import TOOLS
from hermes_runtime.engines.base import Engine, GenerationRequest, TokenDelta
from hermes_runtime.engines.local.batch.limits import EngineLimits
from hermes_runtime.engines.local.engine import LocalEngine
from hermes_runtime.engines.local.generate import GenerateEngine
from hermes_runtime.errors import GenerationTimeoutError
from hermes_runtime.grammar import build_grammar
from hermes_runtime.options.generation import GenerationOptions, SamplingParams
from hermes_runtime.weights.loader import LoadedCheckpoint

_THREADS, _LOOPS, _TASKS = 4, 2, 6
_CHECKED = 24
_PATIENCE = 600.0  # seconds; whoever is not done by then hangs
_GROWTH = 32 * 2**20  # bytes that Python and the allocators may keep between a third of the way and the end
_SAMPLING = (
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=1.0),
    SamplingParams(temperature=0.8, top_k=20, repetition_penalty=1.1),
    SamplingParams(temperature=1.2, top_p=0.9, min_p=0.01),
)


@dataclass(frozen=True, slots=True)
class _Case:
    """A request, and after how many deltas its reader leaves; None stays to the end, 0 never reads."""

    request: GenerationRequest
    leaves_after: int | None


def soak(checkpoint: LoadedCheckpoint, count: int, seed: int = 0) -> list[Result]:
    """Run `count` requests and check what must hold; the checkpoint should compute in float32, or nearly so."""
    chance = random.Random(seed)
    cases = [_case(chance, leaves=number % 3 == 0) for number in range(count)]
    chance.shuffle(cases)
    tally = _Tally()
    with closing(LocalEngine(checkpoint, limits=EngineLimits(slots=6, waiting=count, chunk=64))) as engine:
        third = count // 3
        hung = _served(engine, cases[:third], tally)
        before = _resident()
        start = time.perf_counter()
        hung += _served(engine, cases[third:], tally)
        took = time.perf_counter() - start
        grown = _resident() - before
        wrong = _wrong_answers(engine, checkpoint, chance)
    done = tally.outcomes["finished"] + tally.outcomes["left"] + tally.outcomes["timed out"]
    for problem in tally.problems[:5]:
        print(problem)
    return [
        Result("soak: requests a second", (count - third) / took, "requests/s"),
        Result("soak: finished", tally.outcomes["finished"], "requests"),
        Result("soak: left at a random moment", tally.outcomes["left"], "requests"),
        Result("soak: timed out as asked", tally.outcomes["timed out"], "requests"),
        _none("soak: lost", count - done),
        _none("soak: hung readers", hung),
        _none("soak: wrong streams", len(tally.problems)),
        Result("soak: memory grown", grown / 2**20, "MiB", goal="at most 32", holds=grown <= _GROWTH),
        _none(f"soak: answers afterwards that are not the oracle's, of {_CHECKED}", wrong),
    ]


def _none(name: str, count: int) -> Result:
    return Result(name, count, "", goal="none", holds=count == 0)


class _Tally:
    """What became of the requests; safe from any thread."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.problems: list[str] = []
        self._lock = threading.Lock()

    def add(self, outcome: str) -> None:
        with self._lock:
            self.outcomes[outcome] += 1

    def check(self, case: _Case, deltas: Sequence[TokenDelta], completion_tokens: int | None) -> None:
        """Count a stream that was read to its end, and note what is wrong with it."""
        ids = [token for delta in deltas for token in delta.ids]
        limit = case.request.options.max_tokens or 0
        ends = [delta.finish_reason for delta in deltas if delta.finish_reason is not None]
        if (
            len(ends) != 1
            or deltas[-1].finish_reason is None
            or not 1 <= len(ids) <= limit
            or completion_tokens != len(ids)
        ):
            with self._lock:
                self.problems.append(f"{len(ids)} ids of at most {limit}, ends {ends}, usage {completion_tokens}")
        self.add("finished")

    def fail(self, error: BaseException) -> None:
        """Count a timeout that was asked for; anything else is a problem."""
        if isinstance(error, GenerationTimeoutError):
            self.add("timed out")
            return
        with self._lock:
            self.problems.append(f"{type(error).__name__}: {error}")


_GRAMMAR = build_grammar(TOOLS[:3], tool_choice="any", max_calls=1).lark


def _case(chance: random.Random, *, leaves: bool) -> _Case:
    # Few distinct ids, so that prompts share prefixes and repeat themselves.
    prompt = (1, *chance.choices(range(600, 606), k=chance.choice((2, 9, 40, 90))))
    max_tokens = chance.randint(1, 30)
    request = GenerationRequest(
        prompt,
        GenerationOptions(
            chance.choice(_SAMPLING),
            stop=("ab", "}") if chance.random() < 0.2 else (),
            max_tokens=max_tokens,
            seed=chance.randint(0, 9),
            logprobs=2 if chance.random() < 0.1 else None,
            timeout=1e-4 if chance.random() < 0.03 else None,
        ),
        constraint=_GRAMMAR if chance.random() < 0.3 else None,
    )
    return _Case(request, chance.randint(0, max_tokens) if leaves else None)


def _served(engine: Engine, cases: Sequence[_Case], tally: _Tally) -> int:
    """Read all requests from threads and tasks; return how many readers hang."""
    shares = [cases[number :: _THREADS + _LOOPS] for number in range(_THREADS + _LOOPS)]
    threads = [
        threading.Thread(target=_read_all, args=(engine, share, tally), daemon=True) for share in shares[:_THREADS]
    ]
    threads += [
        threading.Thread(target=asyncio.run, args=(_aread_all(engine, share, tally),), daemon=True)
        for share in shares[_THREADS:]
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + _PATIENCE
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return sum(thread.is_alive() for thread in threads)


def _read_all(engine: Engine, cases: Sequence[_Case], tally: _Tally) -> None:
    for case in cases:
        try:
            _read(engine, case, tally)
        except Exception as error:  # noqa: BLE001 - the tally says which may come
            tally.fail(error)


def _read(engine: Engine, case: _Case, tally: _Tally) -> None:
    generation = engine.submit(case.request)
    deltas: list[TokenDelta] = []
    if case.leaves_after == 0:
        del generation  # nobody will ever read it
        tally.add("left")
        return
    reader = iter(generation)
    for delta in reader:
        deltas.append(delta)
        if len(deltas) == case.leaves_after:
            reader.close()  # type: ignore[attr-defined]  # it is a generator
            tally.add("left")
            return
    tally.check(case, deltas, generation.usage and generation.usage.completion_tokens)


async def _aread_all(engine: Engine, cases: Sequence[_Case], tally: _Tally) -> None:
    remaining = list(cases)

    async def work() -> None:
        while remaining:
            try:
                await _aread(engine, remaining.pop(), tally)
            except Exception as error:  # noqa: BLE001 - as above
                tally.fail(error)

    await asyncio.gather(*(work() for _ in range(_TASKS)))


async def _aread(engine: Engine, case: _Case, tally: _Tally) -> None:
    enough = asyncio.Event()
    deltas: list[TokenDelta] = []
    generation = engine.submit(case.request)

    async def consume() -> None:
        async for delta in generation:
            deltas.append(delta)
            if len(deltas) == case.leaves_after:
                enough.set()
                await asyncio.Event().wait()  # until cancelled

    task = asyncio.create_task(consume())
    if case.leaves_after is None:
        await task
        tally.check(case, deltas, generation.usage and generation.usage.completion_tokens)
        return
    if case.leaves_after:
        leaving = asyncio.create_task(enough.wait())
        await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
    if task.done():
        await task  # raises what the stream raised
        tally.check(case, deltas, generation.usage and generation.usage.completion_tokens)
        return
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    tally.add("left")


def _wrong_answers(engine: Engine, checkpoint: LoadedCheckpoint, chance: random.Random) -> int:
    cases = [_case(chance, leaves=False).request for _ in range(4 * _CHECKED)]
    requests = [request for request in cases if request.options.timeout is None][:_CHECKED]
    running = [engine.submit(request) for request in requests]
    ours = [[token for delta in generation for token in delta.ids] for generation in running]
    with closing(GenerateEngine(checkpoint)) as oracle:
        theirs = [[token for delta in oracle.submit(request) for token in delta.ids] for request in requests]
    return sum(one != other for one, other in zip(ours, theirs, strict=True))


def _resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)
