"""The table beside other chat models is the one that its script would write today."""

from __future__ import annotations

import re

from benchmarks.peers.langchain_checks import CHECKS
from benchmarks.peers.langchain_table import BEGIN, END, PAGE


def test_the_table_of_the_page_has_every_check_and_no_other():
    table = re.search(f"{re.escape(BEGIN)}(.*){re.escape(END)}", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
    head, _, *rows = [line.strip("|").split("|") for line in table.strip().splitlines() if line.startswith("|")]
    assert [name.strip(" `") for name in head[1:]] == ["ChatHermes", "ChatHuggingFace", "ChatOllama", "ChatOpenAI"]
    assert [row[0].strip() for row in rows] == [question for question, _ in CHECKS]
    assert {sign.strip() for row in rows for sign in row[1:]} <= {"yes", "no", "n/a"}
    assert {row[1].strip() for row in rows} == {"yes"}
