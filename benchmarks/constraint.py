"""Constrained decoding: time to compile and to mask, share of forced tokens, hostile schemas, and random models' turns.

Tools are those of tests/data/tool_schemas.jsonl, the tokenizer is Mistral 7B's, a row of logits has 32,032 columns.
Times are CPU time of one thread, so that other work on the machine does not count. Where xgrammar is installed, it gets
the very same tool sets, calls and tokenizer in the same run, one thread and no cache too; it refuses some schemas, and
ratios are taken over the sets that both compile.

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
from hermes_runtime.engines.local.decoding.constraint import ConstraintCompiler
from hermes_runtime.grammar import build_grammar
from hermes_runtime.messages import ToolSpec
from tests.support.hostile_schemas import measured
from tests.support.mistral import IM_END, load_mistral_tokenizer
from tests.support.random_turns import random_engines, random_request, run_turns

COLUMNS = 32_032
OWN = "llguidance"
SCHEMAS = Path(__file__).parents[1] / "tests" / "data" / "tool_schemas.jsonl"
TEXT = "Let me look that up for you. I will use the tool with the values that you gave me, and then tell you more.\n"


def main() -> int:
    """Measure, print and write."""
    options = parser(__doc__).parse_args()
    torch.set_num_threads(1)
    tokenizer = load_mistral_tokenizer()
    rows = [json.loads(line) for line in SCHEMAS.read_text(encoding="utf-8").splitlines()]
    draws, turns = (5, 50) if options.quick else (25, 1000)
    own = Llguidance(tokenizer)
    contenders: dict[str, Any] = {OWN: own}
    if importlib.util.find_spec("xgrammar"):
        contenders["xgrammar"] = Xgrammar(tokenizer)
    else:
        print("xgrammar is not installed: it is left out, and nothing is compared", file=sys.stderr)
    results = [
        *compile_times(contenders, rows, draws),
        *mask_times(contenders, tokenizer, rows, every=8 if options.quick else 1),
        *forced_shares(own, tokenizer, rows, every=8 if options.quick else 1),
        *hostile_schemas(own.compiler),
        *random_turns(tokenizer, turns),
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
        rng = random.Random(count)
        sets = [fresh_tools(rows, count, rng) for _ in range(draws)]
        times = {name: [_compile_time(each, tools) for tools in sets] for name, each in contenders.items()}
        for name, taken in times.items():
            done = [time for time in taken if time is not None]
            both = [(one, own) for one, own in zip(taken, times[OWN], strict=True) if one is not None]
            ratio = float(np.median([one for one, _ in both]) / np.median([own for _, own in both])) if both else None
            what, beside = f"compile {count} tools, {name}", {} if name == OWN else {"ratio_to": OWN, "ratio": ratio}
            p95 = float(np.percentile(done, 95)) if done else float("nan")
            goal = {"goal": "at most 30 ms", "holds": p95 <= 30} if (count, name) == (10, OWN) else {}
            results += [
                Result(f"{what}, median", float(np.median(done)) if done else float("nan"), "ms CPU", **beside),
                Result(f"{what}, 95th percentile", p95, "ms CPU", **goal),
            ]
            if len(done) < draws:
                results.append(Result(f"{what}, sets that it refuses", draws - len(done), f"of {draws}"))
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
    ordered = keys if DIALECTS[dialect].shape.arguments_first else keys[::-1]
    return f"<tool_call>\n{json.dumps(dict(ordered), ensure_ascii=False)}\n</tool_call>"


def generated_ids(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text that starts right after the line of the assistant's role."""
    start = tokenizer.encode("assistant\n", add_special_tokens=False)
    return tokenizer.encode(f"assistant\n{text}", add_special_tokens=False)[len(start) :]


def offered(rows: list[dict[str, Any]], index: int, count: int) -> list[ToolSpec]:
    """The tool of one row among its neighbors."""
    chosen = [rows[(index + step) % len(rows)] for step in range(count)]
    return [ToolSpec(row["name"], "", row["parameters"]) for row in chosen]


def mask_times(contenders: dict[str, Any], tokenizer: Any, rows: list[dict[str, Any]], *, every: int) -> list[Result]:
    """Text and then a call, ten tools offered: the mask of every token, applied to a row."""
    indices = range(0, len(rows), every)
    times: dict[str, dict[int, list[float]]] = {name: {} for name in contenders}
    for name, contender in contenders.items():
        for index in indices:
            try:
                state, taken = contender.compile(offered(rows, index, 10)), []
                for token in generated_ids(tokenizer, TEXT + call_text(rows[index], "name_first")):
                    taken.append(cpu_milliseconds(lambda c=contender, s=state: c.mask(s)))
                    contender.accept(state, token)
            except (ValueError, RuntimeError) as error:
                print(f"refused: {error}", file=sys.stderr)
            else:
                times[name][index] = taken
    common = set.intersection(*(set(each) for each in times.values()))
    means = {name: float(np.mean([t for index in common for t in each[index]])) for name, each in times.items()}
    results = []
    for name, each in times.items():
        beside = {} if name == OWN else {"ratio_to": OWN, "ratio": means[name] / means[OWN]}
        goal = {"goal": "at most 0.3 ms", "holds": means[name] <= 0.3} if name == OWN else {}
        p99 = float(np.percentile([t for index in common for t in each[index]], 99))
        results += [
            Result(f"mask a token, {name}, mean", means[name], "ms CPU", **beside, **goal),
            Result(f"mask a token, {name}, 99th percentile", p99, "ms CPU"),
        ]
        if refused := len(indices) - len(each):
            results.append(Result(f"tool sets and calls that {name} refuses", refused, f"of {len(indices)}"))
    return results


def forced_shares(contender: Llguidance, tokenizer: Any, rows: list[dict[str, Any]], *, every: int) -> list[Result]:
    """How many tokens of a typical required call the grammar knows before the model does."""
    results = []
    for dialect in DIALECTS:
        for count in (1, 10):
            total = forced = 0
            for index in range(0, len(rows), every):
                row = rows[index]
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


def hostile_schemas(compiler: ConstraintCompiler) -> list[Result]:
    """What schemas cost that were made to exhaust the compiler; see tests/support/hostile_schemas.py."""
    costs = list(measured(compiler))
    slowest = max(cost["compile"] for cost in costs)
    largest = max(cost["megabytes"] for cost in costs)
    works = sum(cost["outcome"] == "works" for cost in costs)
    refused = sum(cost["outcome"].startswith("SchemaError") for cost in costs)
    return [
        Result("hostile schemas that work", works, f"of {len(costs)}"),
        Result(
            "hostile schemas that are refused",
            refused,
            f"of {len(costs)}",
            goal="all others",
            holds=works + refused == len(costs),
        ),
        Result("slowest of them to compile or refuse", slowest, "s CPU", goal="at most 2 s", holds=slowest <= 2),
        Result("most memory that one of them takes", largest, "MB", goal="at most 500 MB", holds=largest <= 500),
    ]


def random_turns(tokenizer: Any, count: int) -> list[Result]:
    """Turns of models of random weights, from prompt to parser, temperature 1; see tests/support/random_turns.py."""
    with random_engines(tokenizer) as engines:
        judged = run_turns(engines, [random_request(seed, max_tokens=800, unbounded=0.3) for seed in range(count)])
    finished = [turn for turn in judged if turn.result.finish_reason != "length"]
    asked = Counter(turn.turn.asked for turn in judged)
    ended = Counter(turn.turn.asked for turn in finished)
    wrong_ended = sum(bool(turn.wrong) for turn in finished)
    wrong_cut = sum(bool(turn.wrong) for turn in judged) - wrong_ended
    return [
        *(Result(f"random turns that finished, {name}", ended[name], f"of {asked[name]}") for name in asked),
        Result("tokens in random turns", sum(len(turn.result.token_ids) for turn in judged), "tokens"),
        Result("valid calls in them", sum(len(turn.result.tool_calls) for turn in judged), "calls"),
        Result("finished turns with anything invalid", wrong_ended, "turns", goal="none", holds=wrong_ended == 0),
        Result("cut turns with a cut call that could run", wrong_cut, "turns", goal="none", holds=wrong_cut == 0),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
