from __future__ import annotations

import pytest

from hermes_runtime.engines import registry
from langchain_hermes import ChatHermes
from tests.scripted_engine import ScriptedEngine


@pytest.fixture
def scripted(monkeypatch, mistral_tokenizer):
    """Return a function that makes a `ChatHermes` over a scripted engine, which stands in the process's registry."""

    def make(replies, *, engine_options=None, **fields):
        engine = ScriptedEngine(mistral_tokenizer, replies, **(engine_options or {}))
        monkeypatch.setattr(registry, "_ENGINES", {})
        monkeypatch.setitem(registry._FACTORIES, "local", lambda model, **options: engine)
        return ChatHermes(model="scripted", **fields), engine

    return make
