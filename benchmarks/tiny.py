"""What the embedded checkpoint gets right: greedy, unconstrained, on tools and values that training has not seen.

python -m benchmarks.tiny --json benchmarks/results/tiny.json [--trained model.pt]
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from benchmarks._common import Result, parser, publish, versions
from tiny_hermes.evaluate import CHECKPOINT, Student, evaluate
from tiny_hermes.pack import dense_weights

GOALS = {"exact calls": 90.0, "agent runs": 90.0}


def results(
    title: str, scores: dict[str, dict[str, float]], beside: dict[str, dict[str, float]] | None
) -> list[Result]:
    """Turn the scores of one set into results, beside those in full precision where they are known."""
    found = []
    for skill, score in scores.items():
        goal = GOALS.get(skill) if title == "held-out tools" else None
        found.append(
            Result(
                f"{title}: {skill} (of {score['of']})",
                score["right"],
                "%",
                ratio_to="full precision" if beside else None,
                ratio=score["right"] / beside[skill]["right"] if beside and beside[skill]["right"] else None,
                goal=f"at least {goal:g} %" if goal else None,
                holds=score["right"] >= goal if goal else None,
            )
        )
    return found


def main() -> int:
    """Measure, print and write."""
    made = parser(__doc__)
    made.add_argument("--trained", type=Path, help="full-precision weights to score beside the 4-bit ones")
    made.add_argument("--failures", type=Path, help="where to write what went wrong")
    options = made.parse_args()
    count = 15 if options.quick else 60
    student = Student(CHECKPOINT)
    trained = None
    if options.trained:
        trained = Student(CHECKPOINT, dense_weights(torch.load(options.trained, weights_only=True)["model"]))
    found: list[Result] = []
    failures: dict[str, Any] = {}
    for title, everyday, seed in (("held-out tools", False, 1234), ("everyday tools among them", True, 4321)):
        scored = evaluate(student, count=count, seed=seed, everyday=everyday)
        beside = evaluate(trained, count=count, seed=seed)["scores"] if trained and not everyday else None
        found += results(title, scored["scores"], beside)
        failures[title] = scored["failures"]
    publish("tiny", found, versions("torch", "transformers"), options.json)
    if options.failures:
        options.failures.write_text(json.dumps(failures, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
