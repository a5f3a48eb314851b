"""Runs the same checks on ChatHermes and its peers, and writes what each can do into docs/langchain.md.

    python -m benchmarks.peers.langchain_table [--check ROW] [--only CLASS]

Needs langchain-openai, langchain-ollama and langchain-huggingface; no network and no key.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("LANGSMITH_TRACING", "false")

from benchmarks.peers import langchain_contenders as contenders
from benchmarks.peers.langchain_checks import CHECKS, Check

PAGE = Path(__file__).parents[2] / "docs" / "langchain.md"
BEGIN, END = "<!-- the table below is written by benchmarks.peers.langchain_table -->", "<!-- end of the table -->"
PACKAGES = ("langchain-core", "langchain-huggingface", "langchain-ollama", "langchain-openai", "openai")
_SIGNS = {True: "yes", False: "no", None: "n/a"}


def outcome(check: Check, contender: contenders.Contender) -> tuple[bool | None, str]:
    """Return whether the check holds, and what was raised if anything was."""
    try:
        return check(contender), ""
    except Exception as error:  # noqa: BLE001 - whatever a contender raises is its answer: no
        return False, f"{type(error).__name__}: {error}".partition("\n")[0][:160]


def table(rows: Sequence[tuple[str, Check]], columns: Sequence[contenders.Contender]) -> str:
    """Return the table in Markdown."""
    lines = ["| | " + " | ".join(f"`{column.name}`" for column in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for question, check in rows:
        signs = []
        for column in columns:
            holds, error = outcome(check, column)
            signs.append(_SIGNS[holds])
            print(f"{signs[-1]:3}  {column.name}: {question}  {error}", file=sys.stderr, flush=True)
        lines.append(f"| {question} | " + " | ".join(signs) + " |")
    return "\n".join(lines)


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", default="", help="only the rows whose name has this in it; the page is left alone")
    parser.add_argument("--only", default="", help="only the column of this class; the page is left alone")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    makers: list[Callable[[], contenders.Contender]] = [
        contenders.hermes,
        contenders.hugging_face,
        contenders.ollama,
        contenders.openai,
    ]
    columns = [column for column in (make() for make in makers) if options.only in column.name]
    rows = [row for row in CHECKS if options.check in row[0]]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    text = f"{table(rows, columns)}\n\nChecked with {versions}."
    if options.check or options.only:
        print(text)
        return
    page = PAGE.read_text(encoding="utf-8")
    written = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n\n{text}\n\n{END}", page, flags=re.DOTALL)
    PAGE.write_text(written, encoding="utf-8")


if __name__ == "__main__":
    main()
