"""What `benchmarks.engine` measures, each against what it is compared with, in one process over one model."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from benchmarks._common import Result
from benchmarks._tools import QUESTION, REPORT, SYSTEM, TOOLS
from hermes_runtime.engines.base import Engine, GenerationRequest, TokenDelta, Usage
from hermes_runtime.engines.local.batch.limits import EngineLimits
from hermes_runtime.engines.local.engine import LocalEngine
from hermes_runtime.engines.local.generate import GenerateEngine
from hermes_runtime.grammar import build_grammar
from hermes_runtime.messages import Assistant, System, ToolResult, User
from hermes_runtime.options.generation import GenerationOptions, SamplingParams
from hermes_runtime.prompt import build_prompt
from hermes_runtime.turn import Turn, TurnRequest
from hermes_runtime.weights.loader import LoadedCheckpoint

GREEDY = GenerationOptions(SamplingParams(temperature=0.0))
STREAMS = 8
# Tokens. Prompts are bound by arithmetic, so that batching them gains nothing: the shortest show what the answers gain.
_PROMPTS = (8, 32)
_PAGE = 32  # tokens; transformers' default of 256 would leave most of each page empty here


@dataclass(frozen=True, slots=True)
class Bench:
    """A model, how much to measure on it, and the clock.

    Attributes:
        checkpoint: The model; its end-of-turn id is never drawn where lengths must be equal.
        turns: Of the agent's conversation.
        calls: Constrained tool calls.
        tokens: Generated per request elsewhere.
        repeats: Of the short scenarios; the best counts.
        clock: Seconds.
    """

    checkpoint: LoadedCheckpoint
    turns: int
    calls: int
    tokens: int
    repeats: int
    clock: Callable[[], float] = time.perf_counter

    def timed(self, run: Callable[[], object]) -> float:
        """Seconds that one run takes."""
        start = self.clock()
        run()
        return self.clock() - start


def agent(bench: Bench) -> list[Result]:
    """A conversation with six tools, one call and one result a turn, beside `model.generate` for every prompt anew."""
    with closing(LocalEngine(bench.checkpoint)) as engine:
        recorder = Recorder(engine)
        ours = bench.timed(lambda: converse(recorder, bench.turns))
    prompts = [len(request.prompt_ids) for request in recorder.requests]
    new = sum(
        after - before - usage.completion_tokens
        for before, after, usage in zip(prompts, prompts[1:], recorder.usages, strict=False)
    )
    computed = sum(usage.prompt_tokens - usage.cached_tokens for usage in recorder.usages[1:])

    def anew() -> None:
        for request in recorder.requests:
            _read(oracle, request)

    _use_transformers_attention(bench.checkpoint)
    with closing(GenerateEngine(bench.checkpoint)) as oracle:
        theirs = bench.timed(anew)
    title = f"agent, {bench.turns} turns"
    return [
        Result(f"{title}: tokens of the first and the last prompt", prompts[0], f"to {prompts[-1]}"),
        Result(
            f"{title}: prompt tokens computed after the first",
            computed,
            "tokens",
            f"new tokens ({new})",
            computed / new,
            "at most 1.02",
            computed <= 1.02 * new,
        ),
        _ratio(f"{title}: time", ours, "s", f"model.generate ({theirs:.3g} s)", ours / theirs, most=0.35),
    ]


def calls(bench: Bench) -> list[Result]:
    """Constrained calls among three tools, with and without drafts; the same seeds, so the same tokens."""
    tools = TOOLS[:3]
    prompt = build_prompt([System(SYSTEM), User(QUESTION)], tokenizer=bench.checkpoint.tokenizer, tools=tools)
    grammar = build_grammar(tools, tool_choice="any", max_calls=1).lark
    requests = [
        GenerationRequest(prompt.token_ids, GenerationOptions(SamplingParams(temperature=1.0), seed=seed), grammar)
        for seed in range(bench.calls)
    ]
    passes: list[int] = []
    seconds: list[float] = []
    tokens: list[int] = []
    for limits in (EngineLimits(), EngineLimits(draft=0)):
        with closing(LocalEngine(bench.checkpoint, limits=limits)) as engine, _counted(bench.checkpoint) as count:
            _read(engine, requests[0])  # computes the prompt, which is not what is measured
            count.clear()
            generated: list[int] = []
            seconds.append(
                bench.timed(lambda done=generated, by=engine: done.extend(len(_read(by, item)) for item in requests))
            )
            passes.append(len(count))
            tokens.append(sum(generated))
    share, rate, plain = passes[0] / tokens[0], tokens[0] / seconds[0], tokens[1] / seconds[1]
    return [
        Result("constrained calls: tokens of one", tokens[0] / bench.calls, "tokens"),
        Result(
            "constrained calls: forward passes",
            passes[0],
            "passes",
            f"generated tokens ({tokens[0]})",
            share,
            "at most 0.45",
            share <= 0.45,
        ),
        _ratio(
            "constrained calls: time of a token",
            1 / rate,
            "s",
            f"without drafts ({1 / plain:.3g} s)",
            plain / rate,
            most=0.6,
        ),
    ]


def concurrent(bench: Bench) -> list[Result]:
    """Eight requests at once, beside transformers' continuous batching and beside one after another.

    A random model that answers greedily repeats itself, which drafts copy: that flatters a single stream most, so what
    batching alone gains is shown too.
    """
    return [result for length in _PROMPTS for result in _concurrent(bench, length)]


def _concurrent(bench: Bench, length: int) -> list[Result]:
    chance = random.Random(0)
    title = f"{STREAMS} streams, prompts of {length} tokens"
    found = []
    for name, limits in ((title, EngineLimits()), (f"{title}, no drafts", EngineLimits(draft=0))):
        ours, single = [], []
        for _ in range(bench.repeats):
            with closing(LocalEngine(bench.checkpoint, limits=limits)) as engine:
                _read(engine, _free(_prompts(chance, 1, length)[0], 2))
                ours.append(
                    _rate(bench, lambda by=engine: _at_once(by, _prompts(chance, STREAMS, length), bench.tokens))
                )
                single.append(
                    _rate(
                        bench, lambda by=engine: _one_after_another(by, _prompts(chance, STREAMS, length), bench.tokens)
                    )
                )
        rate, alone = max(ours), max(single)
        found.append(
            _ratio(
                f"{name}: all together", rate, "tokens/s", f"one after another ({alone:.3g})", rate / alone, least=2.5
            )
        )
    _use_transformers_attention(bench.checkpoint)
    theirs = max(
        _rate(bench, lambda: _generate_batch(bench.checkpoint, _prompts(chance, STREAMS, length), bench.tokens))
        for _ in range(bench.repeats)
    )
    rate = found[0].value
    beside = f"generate_batch ({theirs:.3g})"
    return [_ratio(f"{title}: all together", rate, "tokens/s", beside, rate / theirs, least=0.95), *found]


def _rate(bench: Bench, run: Callable[[], int]) -> float:
    """Tokens a second of a run that returns how many it generated."""
    start = bench.clock()
    return run() / (bench.clock() - start)


def stream(bench: Bench) -> list[Result]:
    """One stream without a grammar, beside a bare loop over the model with transformers' own cache."""
    chance = random.Random(1)
    ours, bare = [], []
    for _ in range(bench.repeats + 1):
        prompt = _prompts(chance, 1, 64)[0]
        with closing(LocalEngine(bench.checkpoint)) as engine:
            ours.append(_streamed(bench, engine, _free(prompt, bench.tokens)))
        _use_transformers_attention(bench.checkpoint)
        bare.append(_bare_loop(bench, prompt))
    rate, beside = max(ours), max(bare)
    return [_ratio("one stream", rate, "tokens/s", f"a bare forward loop ({beside:.3g})", rate / beside, least=0.97)]


def _streamed(bench: Bench, engine: Engine, request: GenerationRequest) -> float:
    """Tokens a second between the first and the last one."""
    reader = iter(engine.submit(request))
    next(reader)
    start = bench.clock()
    count = sum(len(delta.ids) for delta in reader)
    return count / (bench.clock() - start)


@torch.inference_mode()
def _bare_loop(bench: Bench, prompt: tuple[int, ...]) -> float:
    model: Any = bench.checkpoint.model
    cache = DynamicCache(config=model.config)
    device = bench.checkpoint.device
    output = model(torch.tensor([prompt], device=device), past_key_values=cache, use_cache=True, logits_to_keep=1)
    token = output.logits[:, -1:].argmax(-1)
    int(token)
    start = bench.clock()
    for _ in range(bench.tokens - 1):
        token = model(token, past_key_values=cache, use_cache=True).logits[:, -1:].argmax(-1)
        int(token)  # as somebody who shows it would
    return (bench.tokens - 1) / (bench.clock() - start)


def _at_once(engine: Engine, prompts: Sequence[tuple[int, ...]], tokens: int) -> int:
    running = [engine.submit(_free(prompt, tokens)) for prompt in prompts]
    return sum(len(delta.ids) for generation in running for delta in generation)


def _one_after_another(engine: Engine, prompts: Sequence[tuple[int, ...]], tokens: int) -> int:
    return sum(len(_read(engine, _free(prompt, tokens))) for prompt in prompts)


def _generate_batch(checkpoint: LoadedCheckpoint, prompts: Sequence[tuple[int, ...]], tokens: int) -> int:
    model: Any = checkpoint.model
    pages = sum(-(-(len(prompt) + tokens) // _PAGE) for prompt in prompts) + len(prompts)
    outputs = model.generate_batch(
        [list(prompt) for prompt in prompts],
        generation_config=GenerationConfig(max_new_tokens=tokens, do_sample=False, eos_token_id=-1, pad_token_id=0),
        continuous_batching_config=ContinuousBatchingConfig(
            page_size=_PAGE, num_blocks=pages, max_batch_tokens=512, allow_block_sharing=False
        ),
        warmup=False,
    )
    return sum(len(output.generated_tokens) for output in outputs.values())


def converse(engine: Engine, turns: int) -> None:
    messages: list[Any] = [System(SYSTEM), User(QUESTION)]
    for number in range(1, turns + 1):
        turn = Turn(
            engine,
            TurnRequest(messages, tools=TOOLS, tool_choice="any", parallel_tool_calls=False, options=GREEDY),
        )
        for _ in turn:
            pass
        (call,) = turn.result.tool_calls
        messages.append(Assistant(turn.result.content, turn.result.tool_calls))
        messages.append(ToolResult(call.id, REPORT.format(number=number, day=number), call.name))


def _read(engine: Engine, request: GenerationRequest) -> list[int]:
    return [token for delta in engine.submit(request) for token in delta.ids]


def _free(prompt: tuple[int, ...], tokens: int) -> GenerationRequest:
    return GenerationRequest(prompt, replace(GREEDY, max_tokens=tokens))


def _prompts(chance: random.Random, count: int, length: int) -> list[tuple[int, ...]]:
    return [(1, *chance.choices(range(300, 30_000), k=length - 1)) for _ in range(count)]


def _ratio(
    name: str,
    value: float,
    unit: str,
    beside: str,
    ratio: float,
    *,
    most: float | None = None,
    least: float | None = None,
) -> Result:
    if most is not None:
        return Result(name, value, unit, beside, ratio, f"at most {most:g}", ratio <= most)
    assert least is not None
    return Result(name, value, unit, beside, ratio, f"at least {least:g}", ratio >= least)


def _use_transformers_attention(checkpoint: LoadedCheckpoint) -> None:
    """Give the model back the attention that it was loaded with; the next `LocalEngine` takes its own."""
    checkpoint.model.set_attn_implementation("sdpa")


@contextmanager
def _counted(checkpoint: LoadedCheckpoint) -> Iterator[list[None]]:
    """A list that gets an item for each forward pass of the model."""
    passes: list[None] = []
    hook = checkpoint.model.register_forward_hook(lambda *_: passes.append(None))
    try:
        yield passes
    finally:
        hook.remove()


@dataclass(slots=True, weakref_slot=True, eq=False)
class Recorder:
    """An engine that keeps what it was asked for, and what that cost."""

    engine: Engine
    requests: list[GenerationRequest] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)

    @property
    def tokenizer(self) -> Any:
        return self.engine.tokenizer

    @property
    def model_name(self) -> str:
        return self.engine.model_name

    @property
    def context_window(self) -> int:
        return self.engine.context_window

    @property
    def grammar_language(self) -> Any:
        return self.engine.grammar_language

    @property
    def grammar_tokens(self) -> frozenset[str]:
        return self.engine.grammar_tokens

    @property
    def is_closed(self) -> bool:
        return self.engine.is_closed

    def submit(self, request: GenerationRequest) -> Recorded:
        self.requests.append(request)
        return Recorded(self.engine.submit(request), self.usages)

    def close(self) -> None:
        self.engine.close()


@dataclass(frozen=True, slots=True)
class Recorded:
    generation: Any
    usages: list[Usage]

    def __iter__(self) -> Iterator[TokenDelta]:
        yield from self.generation
        self.usages.append(self.generation.usage)

    def cancel(self) -> None:
        self.generation.cancel()

    @property
    def usage(self) -> Usage | None:
        usage: Usage | None = self.generation.usage
        return usage
