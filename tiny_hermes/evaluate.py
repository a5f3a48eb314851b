"""Measures tiny-hermes on conversations whose tools and values do not occur in training, greedily and unconstrained.

`python -m tiny_hermes.evaluate [--checkpoint DIR] [--trained model.pt] [--json FILE]`.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hermes_adapters.ending import run_to_end
from hermes_runtime.checkpoint.hub import TINY_FOLDER
from hermes_runtime.messages import Assistant, Message
from hermes_runtime.parser import parse_completion
from tiny_hermes.conversations import Conversation, conversations
from tiny_hermes.dataset import prompt_of, with_generated_ids
from tiny_hermes.pack import dense_weights, read_dense

CHECKPOINT = TINY_FOLDER
BATCH = 48
LONGEST_ANSWER = 160


class Student:
    """A dense Mistral over the weights of a checkpoint, and its tokenizer."""

    def __init__(self, folder: Path = CHECKPOINT, weights: dict[str, Tensor] | None = None) -> None:
        from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM  # noqa: PLC0415  (slow to import)

        config = json.loads((folder / "config.json").read_text())
        del config["quantization_config"]
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: torch.nn.Module = MistralForCausalLM(MistralConfig(**config))
        self.model: Any = model.float().eval()
        self.model.load_state_dict(read_dense(folder) if weights is None else weights)

    @torch.inference_mode()
    def write(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """Continue every prompt greedily up to and including its end marker."""
        written: list[list[int]] = [[]] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        end, pad = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            width = max(len(prompts[index]) for index in chosen)
            ids = torch.full((len(chosen), width), pad)
            mask = torch.zeros_like(ids)
            for row, index in enumerate(chosen):
                ids[row, width - len(prompts[index]) :] = torch.tensor(prompts[index])
                mask[row, width - len(prompts[index]) :] = 1
            output: Any = self.model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=LONGEST_ANSWER,
                do_sample=False,
                eos_token_id=end,
                pad_token_id=pad,
            )
            for row, index in enumerate(chosen):
                answer = output[row, width:].tolist()
                written[index] = answer[: answer.index(end) + 1] if end in answer else answer
        return written

    def text(self, ids: Sequence[int]) -> str:
        """Decode generated ids without their end marker."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))


def _calls(text: str) -> tuple[list[tuple[str, dict[str, Any]]], bool]:
    """Return the calls of a text, and whether all of them could be read."""
    completion = parse_completion(text)
    return [(call.name, call.arguments) for call in completion.tool_calls], not completion.invalid_tool_calls


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def is_right(conversation: Conversation, index: int, text: str) -> bool:
    """Compare a written turn with the expected one: calls by value, with types and order; everything else as text."""
    expected = conversation.messages[index]
    assert isinstance(expected, Assistant)
    if expected.calls:
        calls, readable = _calls(text)
        # As JSON, so that 1, 1.0 and true differ; the members of an object have no order.
        return readable and _json(calls) == _json([(call.name, call.arguments) for call in expected.calls])
    return text.strip() == expected.text


def score_turns(
    student: Student, sample: Iterable[Conversation], failures: list[dict[str, str]]
) -> dict[str, list[bool]]:
    """Write every assistant turn after its true history; collect the marks by skill and number of tools."""
    turns: list[tuple[Conversation, int, str, list[Message]]] = [
        (conversation, step.index, step.kind, messages)
        for conversation in sample
        for messages in [with_generated_ids(conversation, student.tokenizer)]
        for step in conversation.steps
    ]
    prompts = [
        prompt_of(conversation, messages[:index], student.tokenizer).token_ids
        for conversation, index, _, messages in turns
    ]
    scores: dict[str, list[bool]] = defaultdict(list)
    for (conversation, index, kind, _), ids in zip(turns, student.write(prompts), strict=True):
        text = student.text(ids)
        right = is_right(conversation, index, text)
        scores[kind].append(right)
        if kind in ("one_call", "two_calls"):
            scores["exact calls"].append(right)
            scores[f"exact calls, {len(conversation.tools)} tools"].append(right)
            calls, readable = _calls(text)
            scores["parseable calls"].append(readable and bool(calls))
        if not right:
            failures.append({"kind": kind, "expected": conversation.assistant_text(index), "written": text})
    return scores


def score_agent_runs(student: Student, sample: Iterable[Conversation]) -> list[bool]:
    """Let the model make the calls of a conversation's first task itself, answer them, and let it answer."""
    runs: list[tuple[Conversation, int]] = []
    for conversation in sample:
        step = next((s for s in conversation.steps if s.kind in ("one_call", "two_calls")), None)
        if step is not None and step == conversation.steps[0] and len(conversation.steps) > 1:
            runs.append((conversation, step.index))
    questions = [prompt_of(c, list(c.messages[:index]), student.tokenizer).token_ids for c, index in runs]
    outcome = [False] * len(runs)
    going: list[tuple[int, tuple[int, ...], int]] = []
    for number, ((conversation, index), ids) in enumerate(zip(runs, student.write(questions), strict=True)):
        if not is_right(conversation, index, student.text(ids)):
            continue
        expected = conversation.messages[index]
        assert isinstance(expected, Assistant)
        own = Assistant(calls=expected.calls, token_ids=tuple(ids))
        end = index + 1 + len(expected.calls)
        messages = [*conversation.messages[:index], own, *conversation.messages[index + 1 : end]]
        going.append((number, prompt_of(conversation, messages, student.tokenizer).token_ids, end))
    for (number, _, end), ids in zip(going, student.write([prompt for _, prompt, _ in going]), strict=True):
        outcome[number] = is_right(runs[number][0], end, student.text(ids))
    return outcome


def evaluate(student: Student, *, count: int = 300, seed: int = 1234, everyday: bool = False) -> dict[str, Any]:
    """Score held-out conversations.

    Args:
        student: The model.
        count: Conversations.
        seed: Of the conversations.
        everyday: Also draw the everyday demo tools, which training knows, here with values it does not.

    Returns:
        Shares of right turns and runs by skill, each with its count, and up to 40 failures.
    """
    sample = list(itertools.islice(conversations(seed, held_out=True, everyday=everyday), count))
    failures: list[dict[str, str]] = []
    scores = score_turns(student, sample, failures)
    scores["agent runs"] = score_agent_runs(student, sample)
    shares = {
        name: {"right": round(100 * sum(marks) / len(marks), 1), "of": len(marks)}
        for name, marks in sorted(scores.items())
    }
    return {"scores": shares, "failures": failures[:40]}


def report(title: str, result: dict[str, Any]) -> None:
    """Print the scores as a table."""
    lines = [f"  {skill:28} {score['right']:5.1f} % of {score['of']}" for skill, score in result["scores"].items()]
    print("\n".join([title, *lines]), flush=True)  # noqa: T201  (a command-line report)


def main() -> None:
    """Run the evaluation from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--trained", type=Path, help="also score these full-precision weights")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1234)
    parser.add_argument("--everyday", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    students = {"4-bit": Student(options.checkpoint)}
    if options.trained:
        state = torch.load(options.trained, weights_only=True)["model"]
        students["full precision"] = Student(options.checkpoint, dense_weights(state))
    asked = {"count": options.count, "seed": options.seed, "everyday": options.everyday}
    results = {name: evaluate(student, **asked) for name, student in students.items()}
    for name, result in results.items():
        report(name, result)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    run_to_end(main)
