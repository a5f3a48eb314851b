"""Print the committed results as the tables that the docs show.

python -m benchmarks.report [FILE ...]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks._common import row

RESULTS = Path(__file__).parent / "results"
HEADER = "| what | value | beside it, in the same run | goal | of the physical limit |\n|---|---|---|---|---|"


def table(document: dict[str, Any]) -> str:
    """One results file as Markdown."""
    where = document["machine"]
    hardware = f"{where['cores']} cores of {where['cpu']}, {where['memory']}"
    if where.get("gpu"):
        hardware += f", {where['gpu']}"
    used = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    head = f"### {document['benchmark']}\n\n{document['date']}, {hardware}; {used}. `{document['command']}`\n\n{HEADER}"
    return "\n".join([head, *(row(result) for result in document["results"])])


def main(arguments: list[str]) -> int:
    """Print the named files, or all committed ones."""
    paths = [Path(name) for name in arguments] or sorted(RESULTS.glob("*.json"))
    print("\n\n".join(table(json.loads(path.read_text(encoding="utf-8"))) for path in paths))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
