"""Writes what each LLM keeps of the suite into a page.

`python -m tests.llama_index_contract.table docs/llama_index.md` does it.

A row is a rule, by the name of its test. Needs the packages that `peers` names.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SUBJECTS = {
    "HermesLLM": ("test_hermes.py::TestHermes", "hermes-adapters"),
    "OpenAILike": ("peers.py::TestOpenAILike", "llama-index-llms-openai-like"),
    "Ollama": ("peers.py::TestOllama", "llama-index-llms-ollama"),
    "HuggingFaceLLM": ("peers.py::TestHuggingFaceLLM", "llama-index-llms-huggingface"),
}
BEGIN, END = "<!-- contract table -->", "<!-- end of contract table -->"


class Outcomes:
    """Collects what became of each rule: outcomes of its cases by the name of its test."""

    def __init__(self) -> None:
        self.by_rule: dict[str, list[str]] = defaultdict(list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep an outcome."""
        if report.when == "call" or report.outcome != "passed":
            self.by_rule[report.nodeid.rpartition("::")[2].partition("[")[0]].append(report.outcome)


def run(subject: str, extra: list[str]) -> dict[str, list[str]]:
    """Run the suite on one LLM."""
    outcomes = Outcomes()
    pytest.main(
        [str(HERE / SUBJECTS[subject][0]), "-q", "--tb=line", "-p", "no:cacheprovider", "--timeout=180", *extra],
        plugins=[outcomes],
    )
    return dict(outcomes.by_rule)


def cell(outcomes: list[str]) -> str:
    """Return a mark: kept, broken (in how many of how many cases), or not offered."""
    run_cases = [outcome for outcome in outcomes if outcome != "skipped"]
    failed = run_cases.count("failed")
    if not run_cases:
        return "-"
    if not failed:
        return "✔"
    return "✘" if failed == len(run_cases) else f"✘ {failed}/{len(run_cases)}"


def table(results: dict[str, dict[str, list[str]]]) -> str:
    """Return the rows, rules in the order of the suite."""
    rules = list(next(iter(results.values())))
    lines = ["| rule | " + " | ".join(results) + " |", "|---" * (len(results) + 1) + "|"]
    for rule in rules:
        marks = [cell(outcomes.get(rule, [])) for outcomes in results.values()]
        lines.append(f"| {rule.removeprefix('test_').replace('_', ' ')} | " + " | ".join(marks) + " |")
    broken = [sum(cell(of.get(rule, [])).startswith("✘") for rule in rules) for of in results.values()]
    lines.append("| **rules broken** | " + " | ".join(f"**{count}**" for count in broken) + " |")
    versions = ", ".join(f"{name} {version(SUBJECTS[name][1])}" for name in results)
    return "\n".join([*lines, "", f"{len(rules)} rules; {versions}, llama-index-core {version('llama-index-core')}."])


def main() -> None:
    """Run the suite on every LLM, and write the table between its two marks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, help="page with the two marks, which is rewritten")
    parser.add_argument("--only", choices=SUBJECTS, nargs="+", default=list(SUBJECTS))
    options, extra = parser.parse_known_args()
    made = table({subject: run(subject, extra) for subject in options.only})
    page = options.page.read_text(encoding="utf-8")
    written, found = re.subn(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{made}\n{END}", page, flags=re.DOTALL)
    if not found:
        raise SystemExit(f"{options.page} has no {BEGIN} and {END}")
    options.page.write_text(written, encoding="utf-8")


if __name__ == "__main__":
    main()
