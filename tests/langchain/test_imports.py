from __future__ import annotations

import subprocess
import sys

import pytest

import langchain_hermes
from tests.support.places import ROOT


def _modules_after(statement):
    script = f"{statement}\nimport sys\nprint(' '.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT)
    return run.stdout.split()


@pytest.mark.parametrize(
    "statement",
    [
        "import langchain_hermes",
        "from langchain_hermes import ChatHermes\nChatHermes(model='tiny-hermes').bind_tools([])",
    ],
)
def test_neither_import_nor_construction_loads_what_is_slow_or_foreign(statement):
    modules = _modules_after(statement)
    assert "langchain_core" in modules
    assert not {"torch", "transformers", "llama_index", "langchain"} & set(modules)


def test_all_names_exist_and_are_all_there_is():
    assert sorted(langchain_hermes.__all__) == langchain_hermes.__all__
    for name in langchain_hermes.__all__:
        assert getattr(langchain_hermes, name) is not None
