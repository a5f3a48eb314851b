"""Makes the embedded checkpoint from nothing: `python -m tiny_hermes.make --work DIR [--minutes 75]`.

Trains, quantizes, packs and scores. Two runs agree in quality and not bit for bit: how many steps fit into the time
depends on the machine.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from hermes_adapters.ending import run_to_end
from tiny_hermes.evaluate import CHECKPOINT, Student, evaluate, report
from tiny_hermes.pack import write_checkpoint
from tiny_hermes.train import train


def main() -> None:
    """Run every stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="where the training state is kept")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="where the checkpoint is written")
    parser.add_argument("--minutes", type=float, default=75)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    train(options.work, options.minutes, seed=options.seed)
    state = torch.load(options.work / "model.pt", weights_only=True)["model"]
    write_checkpoint(state, options.work, options.checkpoint)
    result = evaluate(Student(options.checkpoint))
    report("4-bit", result)
    (options.work / "scores.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    run_to_end(main)
