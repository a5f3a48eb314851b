"""Turns of checkpoints of random weights, through the local engine: the worst models there are.

Random weights draw almost uniformly from what the constraint allows. Such a model needs some 30,000 tokens of free text
to end a turn, and longer than anybody can wait to write a tag, so for turns with free text there is an eager one: its
weights are random too, but for a tilt towards tokens that close something, and towards going on with a tag once it is
begun, also where the tag is a trap: inside a string.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch

from hermes_runtime.engines.local.engine import EngineLimits, LocalEngine
from hermes_runtime.messages import ToolSpec
from hermes_runtime.options.generation import GenerationOptions, SamplingParams
from hermes_runtime.turn import Turn, TurnRequest, TurnResult
from tests.support.small_model import COLUMNS, small_checkpoint
from tests.support.toolsets import CLOSING, bounded, problems_of, random_tools, read_calls

ASKED = ("any", "name", "parallel", "none", "auto")
_WITH_TEXT = ("none", "auto")
_CONTEXT = 8192
# Logits of the tilt: each of some 15 tokens then takes about as much probability as 2,000 others.
_TILT, _TAG_TILT, _CHAIN_TILT = 7.5, 1.5, 12.0


@dataclass(frozen=True, slots=True)
class RandomTurn:
    """What is asked of one turn.

    Attributes:
        asked: One of `ASKED`.
        name: The tool that must be called, where one is named.
        parallel: Whether several calls may be made.
        tools: What may be called.
        request: The turn.
    """

    asked: str
    name: str
    parallel: bool
    tools: tuple[ToolSpec, ...]
    request: TurnRequest


@dataclass(frozen=True, slots=True)
class Judged:
    """A turn that was run, and all that is wrong with it."""

    turn: RandomTurn
    result: TurnResult
    wrong: tuple[str, ...]


def random_request(seed: int, *, max_tokens: int, unbounded: float = 0.0) -> RandomTurn:
    """Ask for a turn; every tool set is asked for in each way, one after the other.

    Args:
        seed: Decides all.
        max_tokens: Where the turn is cut.
        unbounded: Share of the tool sets that have strings and lists without bounds.
    """
    rng = random.Random(seed // len(ASKED))
    tools = random_tools(rng)
    if rng.random() >= unbounded:
        tools = [replace(tool, parameters=bounded(tool.parameters)) for tool in tools]
    dialect = rng.choice(["card", "json_args_first", "name_first", "scratch_pad"])
    asked = ASKED[seed % len(ASKED)]
    rng = random.Random(seed)
    name = rng.choice(tools).name
    parallel = asked == "parallel" or rng.random() < 0.5
    request = TurnRequest(
        messages=[{"role": "user", "content": f"Turn {seed}"}],
        tools=tools,
        tool_choice={"any": "required", "parallel": "required", "name": name}.get(asked, asked),
        parallel_tool_calls=parallel,
        max_calls=rng.randint(1, 4),
        dialect=dialect,
        options=GenerationOptions(
            SamplingParams(temperature=1.0, top_p=1.0, top_k=0), max_tokens=max_tokens, seed=seed
        ),
    )
    return RandomTurn(asked, name, parallel, tuple(tools), request)


@contextmanager
def random_engines(tokenizer: Any, *, slots: int = 16) -> Iterator[Mapping[str, LocalEngine]]:
    """Engines of random weights by what is asked; see the module."""
    limits = EngineLimits(slots=slots)
    plain = LocalEngine(_checkpoint(tokenizer), limits=limits)
    eager = LocalEngine(_eager_checkpoint(tokenizer), limits=limits)
    try:
        yield {asked: eager if asked in _WITH_TEXT else plain for asked in ASKED}
    finally:
        plain.close()
        eager.close()


def run_turns(engines: Mapping[str, LocalEngine], turns: Sequence[RandomTurn], *, at_once: int = 32) -> list[Judged]:
    """Run turns in the engines' running batches and judge each."""

    async def run(turn: RandomTurn, room: asyncio.Semaphore) -> Judged:
        async with room:
            running = Turn(engines[turn.asked], turn.request)
            async for _ in running:
                pass
        return Judged(turn, running.result, tuple(what_is_wrong(turn, running.result, engines[turn.asked].tokenizer)))

    async def run_all() -> list[Judged]:
        room = asyncio.Semaphore(at_once)
        return list(await asyncio.gather(*(run(turn, room) for turn in turns)))

    return asyncio.run(run_all())


def what_is_wrong(turn: RandomTurn, result: TurnResult, tokenizer: Any) -> list[str]:
    """Compare what the runtime reports with a reading of the generated ids that shares no code with it."""
    finished = result.finish_reason in ("stop", "tool_calls")
    ids = result.token_ids[:-1] if finished else result.token_ids
    control = [index for index in ids if index >= len(tokenizer) or index in tokenizer.all_special_ids]
    wrong = [f"control token {index}" for index in control if not _is_tag(tokenizer, index)]
    calls, complete = read_calls(tokenizer.decode(list(ids), skip_special_tokens=False))
    reported = [{"name": call.name, "arguments": call.arguments} for call in result.tool_calls]
    if reported != calls:
        wrong.append(f"written {calls!r}, reported {reported!r}")
    wrong += problems_of(calls, list(turn.tools))
    wrong += [f"problem {problem}" for call in result.tool_calls for problem in call.problems]
    if turn.asked == "none" and (calls or not complete or result.invalid_tool_calls):
        wrong.append("a call, or a beginning of one")
    if len(calls) > (turn.request.max_calls if turn.parallel else 1):
        wrong.append("too many calls")
    if turn.asked == "name" and any(call["name"] != turn.name for call in calls):
        wrong.append("another tool")
    if finished:
        if result.invalid_tool_calls or not complete:
            wrong.append("an invalid call in a finished turn")
        if turn.asked in ("any", "name", "parallel") and not calls:
            wrong.append("no call")
    elif len(result.invalid_tool_calls) != (not complete):
        wrong.append("a cut call that is not reported as invalid")
    return wrong


def _is_tag(tokenizer: Any, index: int) -> bool:
    return index < len(tokenizer) and tokenizer.convert_ids_to_tokens(index) in ("<tool_call>", "</tool_call>")


def _checkpoint(tokenizer: Any) -> Any:
    columns = max(COLUMNS, len(tokenizer))
    return small_checkpoint(
        tokenizer, context_window=_CONTEXT, vocab_size=columns, max_position_embeddings=_CONTEXT, num_hidden_layers=1
    )


def _eager_checkpoint(tokenizer: Any) -> Any:
    """Random weights with a tilt: one hidden coordinate that every token sets, and one for each step of the tag."""
    checkpoint = _checkpoint(tokenizer)
    with torch.no_grad():
        read, write = (module.weight for module in (checkpoint.model.model.embed_tokens, checkpoint.model.lm_head))

        def tilt(coordinate: int, before: Any, after: Any, logit: float) -> None:
            read[before, coordinate] += 0.2
            # The last layer's output is normalized to a root mean square of 1 before the head reads it.
            write[after, coordinate] += logit / (0.2 / float(read[before].square().mean(-1).sqrt().mean()))

        named = [*CLOSING, "<tool_call>", "</tool_call>"]
        closing = [index for index in tokenizer.convert_tokens_to_ids(named) if index != tokenizer.unk_token_id]
        tilt(0, slice(None), [*closing, tokenizer.eos_token_id], _TILT)
        tilt(0, slice(None), tokenizer.convert_tokens_to_ids(["<"]), _TAG_TILT)
        tag = tokenizer.convert_tokens_to_ids(["<", "tool", "_", "call", ">"])
        for step, (before, after) in enumerate(pairwise(tag), start=1):
            tilt(step, before, after, _CHAIN_TILT)
    return checkpoint
