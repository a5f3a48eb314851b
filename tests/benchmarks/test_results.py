"""Committed benchmark results have the agreed shape, and the report prints them."""

from __future__ import annotations

import json
from dataclasses import fields
from itertools import takewhile

import pytest

from benchmarks import _common, report
from tests.support.places import DOCS, ROOT

COMMITTED = sorted(report.RESULTS.glob("*.json"))
REPORTED = {path.stem: report.table(json.loads(path.read_text(encoding="utf-8"))).splitlines() for path in COMMITTED}


def tables(page):
    """Return the rows of each table of results in a page."""
    parts = page.read_text(encoding="utf-8").split(report.HEADER + "\n")[1:]
    return [list(takewhile(lambda line: line.startswith("|"), part.splitlines())) for part in parts]


TABLES = [(page, rows) for page in (ROOT / "README.md", *sorted(DOCS.glob("*.md"))) for rows in tables(page)]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_results_have_the_agreed_shape(path):
    document = json.loads(path.read_text(encoding="utf-8"))
    assert set(document) == {"benchmark", "date", "command", "machine", "versions", "results"}
    assert set(document["machine"]) == {"cpu", "cores", "gpu", "memory"}
    assert document["results"]
    for result in document["results"]:
        assert set(result) == {field.name for field in fields(_common.Result)}


def test_the_report_prints_a_row_for_each_result(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["x", "--quick"])
    results = [
        _common.Result("decode", 0.17, "s", "other", 0.9, "at most other's", holds=True, limit_share=0.5),
        _common.Result("load", 9.0, "s", goal="at most 5 s", holds=False),
    ]
    _common.publish("awq", results, {"torch": "2"}, tmp_path / "new" / "awq.json")
    capsys.readouterr()
    assert report.main([str(tmp_path / "new" / "awq.json")]) == 0
    printed = capsys.readouterr().out
    assert "| decode | 0.17 s | 0.90 x other | at most other's: yes | 50% |" in printed
    assert "| load | 9 s |  | at most 5 s: no |  |" in printed
    assert "python -m benchmarks.awq --quick" in printed


@pytest.mark.parametrize(("page", "rows"), TABLES, ids=[page.stem for page, _ in TABLES])
def test_a_table_of_the_docs_is_a_committed_one(page, rows):
    assert rows
    assert [name for name, printed in REPORTED.items() if set(rows) <= set(printed)], rows


def test_the_pages_that_show_results_show_all_of_them():
    shown = {row for _, rows in TABLES for row in rows}
    for name in ("awq", "engine"):
        assert {line for line in REPORTED[name] if line.startswith("| ")} - {report.HEADER.split("\n")[0]} <= shown
