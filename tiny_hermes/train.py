"""Trains tiny-hermes on a CPU, against the clock: the learning rate reaches zero when the time is up.

`python -m tiny_hermes.train --minutes 75 --folder DIR`. One process a core: on a shared machine two that meet
once a step lose less than two threads that meet at every product. The data are seeded; how many steps fit into the
time is not, so two runs agree in quality and not bit for bit.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import distributed, multiprocessing

from hermes_adapters.ending import run_to_end
from tiny_hermes.conversations import make_conversation
from tiny_hermes.dataset import Example, make_example
from tiny_hermes.model import Batch, Muon, Shape, TinyMistral
from tiny_hermes.tokenizer import build_tokenizer, save_tokenizer

LONGEST = 1024
TOKENS_PER_STEP = 5120
POSITIONS = 2304
CONTEXT_WEIGHT, LATE_CONTEXT_WEIGHT = 0.1, 0.005
GUIDE_WEIGHT = 2.0
DECISION_WEIGHT = 8.0
COUNTED = 6
DRILL = 0.3
HARD = 0.6
POOL = 600
QUANTIZED_SHARE = 0.16
MATRIX_RATE, OTHER_RATE = 0.02, 0.003
WARM_UP_STEPS, DECAY_SHARE = 50, 0.85
EASY_LOSS, HARD_LOSS = 1.2, 0.35
SAVE_SECONDS = 180


@dataclass(slots=True)
class Progress:
    """Where a training run stands; saved with the weights."""

    seconds: float = 0.0
    step: int = 0
    seen: int = 0
    loss: float = 3.0
    guide_loss: float = 1.0
    difficulty: float = 0.0


def make_batch(examples: list[Example], rng: random.Random, positions: int, context_weight: float) -> Batch:
    """Return examples as a batch of exactly `positions` positions.

    Every token that the model has to write counts 1, and `DECISION_WEIGHT` where a tool or its first argument is
    chosen; the room left over is filled with random other tokens, which count `context_weight`: guessing what stands in
    a prompt teaches copying too.
    """
    tokens = max(len(example.ids) for example in examples)
    ids = torch.zeros(len(examples), tokens, dtype=torch.long)
    described = torch.full_like(ids, -1)
    starts = torch.zeros_like(ids, dtype=torch.bool)
    starts[:, 0] = True
    counting: list[int] = []
    guided: list[int] = []
    called: list[int] = []
    asked = torch.zeros(sum(len(example.guides) for example in examples), tokens, dtype=torch.bool)
    wanted: list[tuple[int, int]] = []
    context: list[tuple[int, int]] = []
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        for number, description in enumerate(example.tools):
            described[row, description.start : description.stop] = number
            starts[row, description.start] = True
            counting += [row * tokens + place for place in rng.choices(description, k=COUNTED)]
        for guide in example.guides:
            asked[len(guided), guide.asked] = True
            guided.append(row * tokens + guide.position)
            called.append(guide.tool)
        for position, target in enumerate(example.ids[1:]):
            (wanted if example.is_target[position + 1] else context).append((row * tokens + position, target))
    rng.shuffle(wanted)
    rng.shuffle(context)
    wanted = wanted[:positions]
    chosen = (wanted + context)[:positions]
    decisions = set(guided)
    weights = [DECISION_WEIGHT if place in decisions else 1.0 for place, _ in wanted]
    weights += [context_weight] * (len(chosen) - len(wanted))
    rows, targets = torch.tensor(chosen).T
    places, tools = torch.tensor([guided, called], dtype=torch.long)
    counts = torch.tensor(counting, dtype=torch.long)
    return Batch(ids, rows, targets, torch.tensor(weights), described, starts, counts, places, asked, tools)


def batches(tokenizer: Any, seed: int, difficulty: Synchronized[float], parts: int) -> Iterator[list[Batch]]:
    """Yield one batch for each process, of conversations of like length and of the difficulty that then holds."""
    rng = random.Random(seed)  # noqa: S311  (reproducible data, no secret)
    number = 0
    pieces = sorted(token for token in tokenizer.get_vocab() if token.isascii() and token.isalpha() and token.islower())
    while True:
        pool: list[Example] = []
        while len(pool) < POOL:
            example = make_example(
                make_conversation(
                    rng, difficulty=difficulty.value, number=number, pieces=pieces, drill=DRILL, hard=HARD
                ),
                tokenizer,
            )
            number += 1
            if len(example.ids) <= LONGEST:
                pool.append(example)
        pool.sort(key=lambda example: len(example.ids))
        made = []
        while pool:
            size = max(parts, TOKENS_PER_STEP // len(pool[-1].ids))
            if len(pool) < size:
                break
            shares = [pool[-size:][part::parts] for part in range(parts)]
            # Once copying has been learned, what cannot be guessed in a prompt is only noise, and drowns the rest.
            weight = CONTEXT_WEIGHT + (LATE_CONTEXT_WEIGHT - CONTEXT_WEIGHT) * difficulty.value
            made.append([make_batch(share, rng, POSITIONS // parts, weight) for share in shares])
            del pool[-size:]
        rng.shuffle(made)
        yield from made


def _produce(folder: Path, seed: int, difficulty: Synchronized[float], queues: list[Any]) -> None:
    from transformers import AutoTokenizer  # noqa: PLC0415  (only this process needs it)

    torch.set_num_threads(1)
    for made in batches(AutoTokenizer.from_pretrained(folder), seed, difficulty, len(queues)):
        for queue, batch in zip(queues, made, strict=True):
            queue.put(tuple(part.numpy() for part in batch))


def _learn(
    rank: int,
    parts: int,
    folder: Path,
    minutes: float,
    seed: int,
    resume: bool,
    difficulty: Synchronized[float],
    queue: Any,
) -> None:
    """Run one of the processes that train together."""
    torch.set_num_threads(1)
    # Attention that has learned to be sure is full of denormal numbers, which halve the speed of everything.
    torch.set_flush_denormal(True)
    torch.manual_seed(seed)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=parts)
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = TinyMistral(Shape(vocabulary=-(-backend.get_vocab_size() // 64) * 64))
    matrices = model.matrices()
    others = [p for p in model.parameters() if all(p is not m for m in matrices)]
    optimizers: list[torch.optim.Optimizer] = [
        Muon(matrices, MATRIX_RATE, part=(rank, parts), add_up=distributed.all_reduce),
        torch.optim.AdamW(others, OTHER_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    progress = _load(folder, model, optimizers) if resume else Progress()
    parameters = list(model.parameters())
    begun = time.monotonic() - progress.seconds
    saved_at = time.monotonic()
    share = progress.seconds / (minutes * 60)
    while share < 1:
        batch = Batch(*(torch.from_numpy(part) for part in queue.get()))
        factor = min(1.0, (progress.step + 1) / WARM_UP_STEPS) * min(1.0, (1 - share) / DECAY_SHARE)
        for optimizer, rate in zip(optimizers, (MATRIX_RATE, OTHER_RATE), strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
        loss, losses, misguided = model(batch, share > 1 - QUANTIZED_SHARE)
        (loss + GUIDE_WEIGHT * misguided).backward()
        written = losses.detach()[batch.weights >= 1].mean().item()
        elapsed = time.monotonic() - begun
        # The first process's clock and everyone's loss travel with the gradients, so that all agree when to stop.
        notes = torch.tensor(
            [elapsed if rank == 0 else 0.0, written / parts, misguided.item() / parts, float(batch.ids.numel())]
        )
        flat = torch.cat([*(p.grad.flatten() / parts for p in parameters if p.grad is not None), notes])
        distributed.all_reduce(flat)
        *gradients, notes = torch.split(flat, [*(p.numel() for p in parameters), 4])
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.view_as(parameter)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        progress.seconds, written, looked, tokens = notes.tolist()
        share = progress.seconds / (minutes * 60)
        progress.loss += (written - progress.loss) * 0.03
        progress.guide_loss += (looked - progress.guide_loss) * 0.03
        progress.step += 1
        progress.seen += int(tokens)
        # By loss and not by the clock: hard prompts before copying has been learned only slow it down.
        progress.difficulty = max(progress.difficulty, min(1.0, (EASY_LOSS - progress.loss) / (EASY_LOSS - HARD_LOSS)))
        difficulty.value = progress.difficulty
        if rank == 0 and progress.step % 20 == 0:
            print(f"{progress} rate {factor:.3f} tokens/s {progress.seen / progress.seconds:.0f}", flush=True)  # noqa: T201
        if rank == 0 and (time.monotonic() - saved_at > SAVE_SECONDS or share >= 1):
            saved_at = time.monotonic()
            _save(folder, model, optimizers, progress)
    distributed.destroy_process_group()


def _save(folder: Path, model: TinyMistral, optimizers: list[torch.optim.Optimizer], progress: Progress) -> None:
    state = {
        "model": model.state_dict(),
        "optimizers": [o.state_dict() for o in optimizers],
        "progress": asdict(progress),
    }
    partial = folder / "model.partial"
    torch.save(state, partial)
    partial.replace(folder / "model.pt")


def _load(folder: Path, model: TinyMistral, optimizers: list[torch.optim.Optimizer]) -> Progress:
    saved = torch.load(folder / "model.pt", weights_only=True)
    model.load_state_dict(saved["model"])
    for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
        optimizer.load_state_dict(state)
    return Progress(**saved["progress"])


def train(folder: Path, minutes: float, *, seed: int = 1, processes: int = 2, resume: bool = False) -> None:
    """Train, logging a line every 20 steps and saving `model.pt` every three minutes and at the end.

    Args:
        folder: Where the tokenizer is put and the model saved.
        minutes: Wall-clock time; the rate falls linearly to zero over most of it.
        seed: Of the weights and the data.
        processes: How many processes share each step; as many as there are cores.
        resume: Go on from `model.pt`, with the time it had left.

    Raises:
        RuntimeError: A training process failed; its own message stands above.
    """
    folder = folder.resolve()
    if not resume:
        save_tokenizer(build_tokenizer(), folder)
    (folder / "rendezvous").unlink(missing_ok=True)
    context = multiprocessing.get_context("spawn")
    difficulty = context.Value("d", 0.0)
    queues = [context.Queue(maxsize=48) for _ in range(processes)]
    data_seed = seed + (int((folder / "model.pt").stat().st_mtime) if resume else 0)
    if resume:
        difficulty.value = torch.load(folder / "model.pt", weights_only=True)["progress"]["difficulty"]
    producer = context.Process(target=_produce, args=(folder, data_seed, difficulty, queues), daemon=True)
    learners = [
        context.Process(
            target=_learn, args=(rank, processes, folder, minutes, seed, resume, difficulty, queue), daemon=True
        )
        for rank, queue in enumerate(queues)
    ]
    for process in (producer, *learners):
        process.start()
    for learner in learners:
        learner.join()
    producer.terminate()
    if any(learner.exitcode for learner in learners):
        raise RuntimeError(f"training failed: exit codes {[learner.exitcode for learner in learners]}")


def main() -> None:
    """Run the training from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=75)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    train(options.folder, options.minutes, seed=options.seed, processes=options.processes, resume=options.resume)


if __name__ == "__main__":
    run_to_end(main)
