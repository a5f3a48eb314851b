"""Constrained decoding: time to compile and to mask, share of forced tokens, and turns of the worst model there is.

Tools are those of tests/data/tool_schemas.jsonl, the tokenizer is Mistral 7B's, a row of logits has 32,032 columns.
Times are CPU time of one thread, so that other work on the machine does not count. xgrammar is measured beside it where
it is installed; it refuses some of the schemas, and what it refuses is not in its times.

    python -m benchmarks.constraint --json benchmarks/results/constraint.json
"""

from __future__ import annotations

import importlib.util
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._common import Result, parser, publish, versions
from hermes_runtime.dialects import DIALECTS
from hermes_runtime.engines.local.constraint import ConstraintCompiler
from hermes_runtime.grammar import build_grammar
from hermes_runtime.messages import ToolSpec
from tests.mistral import IM_END, load_mistral_tokenizer
from tests.toolsets import random_turn

COLUMNS = 32_032
SCHEMAS = Path(__file__).parents[1] / "tests" / "data" / "tool_schemas.jsonl"
TEXT = "Let me look that up for you. I will use the tool with the values that you gave me, and then tell you more.\n"


def main() -> int:
    """Measure, print and write."""
    options = parser(__doc__).parse_args()
    torch.set_num_threads(1)
    tokenizer = load_mistral_tokenizer()
    rows = [json.loads(line) for line in SCHEMAS.read_text(encoding="utf-8").splitlines()]
    draws, turns = (20, 100) if options.quick else (100, 1000)
    contenders: dict[str, Any] = {"llguidance": Llguidance(tokenizer)}
    if importlib.util.find_spec("xgrammar"):
        contenders["xgrammar"] = Xgrammar(tokenizer)
    else:
        print("xgrammar is not installed and was left out", file=sys.stderr)
    results = [
        *compile_times(contenders, rows, draws),
        *mask_times(contenders, tokenizer, rows),
        *forced_shares(contenders["llguidance"], tokenizer, rows),
        *random_turns(contenders["llguidance"].compiler, tokenizer, turns),
    ]
    used = versions("llguidance", "xgrammar", "torch", "transformers")
    publish("constraint", results, used, options.json)
    return 0


class Llguidance:
    """This project: schema to grammar to compiled state."""

    def __init__(self, tokenizer: Any) -> None:
        self.compiler = ConstraintCompiler(tokenizer, COLUMNS)
        self._row = torch.zeros(COLUMNS)

    def compile(self, tools: list[ToolSpec], dialect: str = "name_first") -> Any:
        """Return the state at the start of a turn."""
        return self.compiler.compile(build_grammar(tools, dialect=dialect).lark)

    def mask(self, state: Any) -> None:
        """Mask one row."""
        state.mask(self._row)

    def accept(self, state: Any, token: int) -> None:
        """Move past one token."""
        state.accept([token])


class Xgrammar:
    """The same turn, name first, as xgrammar's structural tag."""

    def __init__(self, tokenizer: Any) -> None:
        import xgrammar

        self._xgrammar = xgrammar
        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=COLUMNS)
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self._bits = xgrammar.allocate_token_bitmask(1, COLUMNS)
        self._row = torch.zeros(1, COLUMNS)

    def compile(self, tools: list[ToolSpec], _dialect: str = "name_first") -> Any:
        """Return the state at the start of a turn."""
        tags = [
            {
                "type": "tag",
                "begin": f'<tool_call>\n{{"name": "{tool.name}", "arguments": ',
                "content": {"type": "json_schema", "json_schema": dict(tool.parameters)},
                "end": "}\n</tool_call>",
            }
            for tool in tools
        ]
        form = {"type": "triggered_tags", "triggers": ["<tool_call>"], "tags": tags}
        compiled = self._compiler.compile_structural_tag({"type": "structural_tag", "format": form})
        return self._xgrammar.GrammarMatcher(compiled)

    def mask(self, state: Any) -> None:
        """Mask one row."""
        state.fill_next_token_bitmask(self._bits)
        self._xgrammar.apply_token_bitmask_inplace(self._row, self._bits, backend="cpu")

    def accept(self, state: Any, token: int) -> None:
        """Move past one token."""
        if not state.accept_token(token):
            raise ValueError(f"xgrammar refuses token {token}")


def cpu_milliseconds(run: Callable[[], object]) -> float:
    """CPU time that the calling thread spends in `run`."""
    start = time.thread_time()
    run()
    return (time.thread_time() - start) * 1e3


def fresh_tools(rows: list[dict[str, Any]], count: int, rng: random.Random) -> list[ToolSpec]:
    """Tools that no cache knows yet."""
    mark = f"{rng.randrange(10**9)}"
    chosen = rng.sample(rows, count)
    return [ToolSpec(f"{row['name']}_{mark}", "", {**row["parameters"], "$comment": mark}) for row in chosen]


def compile_times(contenders: dict[str, Any], rows: list[dict[str, Any]], draws: int) -> list[Result]:
    """From schemas to a state that can mask, nothing cached, for 1 to 30 tools."""
    results = []
    for count in (1, 3, 10, 30):
        medians: dict[str, float] = {}
        for name, contender in contenders.items():
            own = name == "llguidance"
            rng = random.Random(count)
            sets = [fresh_tools(rows, count, rng) for _ in range(draws if own else 5)]
            times = [taken for tools in sets if (taken := _compile_time(contender, tools)) is not None]
            if not times:
                continue
            medians[name] = float(np.median(times))
            ratio = medians[name] / medians["llguidance"] if not own else None
            results.append(
                Result(
                    f"compile {count} tools, {name}, median",
                    medians[name],
                    "ms CPU",
                    ratio_to=None if own else "llguidance",
                    ratio=ratio,
                )
            )
            if own:
                p95 = float(np.percentile(times, 95))
                goal, holds = ("at most 30 ms", p95 <= 30) if count == 10 else (None, None)
                results.append(
                    Result(f"compile {count} tools, {name}, 95th percentile", p95, "ms CPU", goal=goal, holds=holds)
                )
    return results


def _compile_time(contender: Any, tools: list[ToolSpec]) -> float | None:
    try:
        return cpu_milliseconds(lambda: contender.compile(tools))
    except RuntimeError as error:
        print(f"refused: {error}", file=sys.stderr)
        return None


def call_text(row: dict[str, Any], dialect: str) -> str:
    """A typical call, as the grammar writes it."""
    keys = [("arguments", row["example"]), ("name", row["name"])]
    ordered = keys if DIALECTS[dialect].arguments_first else keys[::-1]
    return f"<tool_call>\n{json.dumps(dict(ordered), ensure_ascii=False)}\n</tool_call>"


def generated_ids(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text that starts right after the line of the assistant's role."""
    start = tokenizer.encode("assistant\n", add_special_tokens=False)
    return tokenizer.encode(f"assistant\n{text}", add_special_tokens=False)[len(start) :]


def offered(rows: list[dict[str, Any]], index: int, count: int) -> list[ToolSpec]:
    """The tool of one row among its neighbors."""
    chosen = [rows[(index + step) % len(rows)] for step in range(count)]
    return [ToolSpec(row["name"], "", row["parameters"]) for row in chosen]


def mask_times(contenders: dict[str, Any], tokenizer: Any, rows: list[dict[str, Any]]) -> list[Result]:
    """Text and then a call, ten tools offered: the mask of every token, applied to a row."""
    means: dict[str, float] = {}
    results = []
    for name, contender in contenders.items():
        times: list[float] = []
        skipped = 0
        for index in range(0, len(rows), 1 if name == "llguidance" else 8):
            try:
                state = contender.compile(offered(rows, index, 10))
                for token in generated_ids(tokenizer, TEXT + call_text(rows[index], "name_first")):
                    times.append(cpu_milliseconds(lambda c=contender, s=state: c.mask(s)))
                    contender.accept(state, token)
            except (ValueError, RuntimeError):
                skipped += 1
        means[name] = float(np.mean(times))
        own = name == "llguidance"
        results += [
            Result(
                f"mask a token, {name}, mean",
                means[name],
                "ms CPU",
                ratio_to=None if own else "llguidance",
                ratio=None if own else means[name] / means["llguidance"],
                goal="at most 0.3 ms" if own else None,
                holds=means[name] <= 0.3 if own else None,
            ),
            Result(f"mask a token, {name}, 99th percentile", float(np.percentile(times, 99)), "ms CPU"),
        ]
        if skipped:
            results.append(Result(f"tool sets and calls that {name} refuses", skipped, "of 9"))
    return results


def forced_shares(contender: Llguidance, tokenizer: Any, rows: list[dict[str, Any]]) -> list[Result]:
    """How many tokens of a typical required call the grammar knows before the model does."""
    results = []
    for dialect in DIALECTS:
        for count in (1, 10):
            total = forced = 0
            for index, row in enumerate(rows):
                grammar = build_grammar(offered(rows, index, count), tool_choice="required", dialect=dialect)
                state = contender.compiler.compile(grammar.lark)
                ids = [*generated_ids(tokenizer, call_text(row, dialect)), IM_END]
                position = 0
                while position < len(ids):
                    known = state.forced()
                    if known != ids[position : position + len(known)]:
                        raise AssertionError(f"forced ids differ from the tokenizer's own in a call of {row['name']}")
                    step = known or [ids[position]]
                    state.accept(step)
                    position += len(step)
                    forced += len(known)
                total += len(ids)
            results.append(
                Result(f"forced tokens of a call, {dialect}, {count} tools", forced / total, "of all tokens")
            )
    return results


def random_turns(compiler: ConstraintCompiler, tokenizer: Any, turns: int) -> list[Result]:
    """Turns of a model of random weights over random tools; see tests/toolsets.py."""
    counts: Counter[str] = Counter()
    for seed in range(turns):
        _, turn, calls, wrong = random_turn(seed, tokenizer, compiler)
        counts["finished" if turn.finished else "cut"] += 1
        counts["calls"] += len(calls)
        counts["wrong"] += bool(wrong)
    return [
        Result("random turns that finished", counts["finished"], f"of {turns}"),
        Result("random turns cut by the token limit", counts["cut"], f"of {turns}"),
        Result("valid calls in them", counts["calls"], "calls"),
        Result(
            "finished turns with anything invalid", counts["wrong"], "turns", goal="none", holds=counts["wrong"] == 0
        ),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
