from __future__ import annotations

import doctest
import re

from tests.support.places import DOCS

PAGE = DOCS / "langchain.md"


def test_the_code_of_the_page_runs_from_top_to_bottom(monkeypatch, capsys):
    from langchain.chat_models import base

    monkeypatch.setattr(base, "_BUILTIN_PROVIDERS", dict(base._BUILTIN_PROVIDERS))
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    namespace = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), namespace)
    printed = capsys.readouterr().out
    assert "get_weather" in printed
    assert "name='Victor' age=34" in printed


def test_the_examples_of_the_class_docstring_run():
    import langchain_hermes.chat_models

    (example,) = doctest.DocTestFinder(recurse=False).find(
        langchain_hermes.ChatHermes, module=langchain_hermes.chat_models
    )
    assert len(example.examples) >= 15
    assert doctest.DocTestRunner().run(example).failed == 0
