from __future__ import annotations

from dataclasses import replace

import pytest

from hermes_runtime.engines import registry
from langchain_hermes import ChatHermes
from tests.scripted_engine import ScriptedEngine


@pytest.fixture
def load_by(monkeypatch):
    """Return a function that lets another one make this process's local engines."""

    def use(load):
        monkeypatch.setattr(registry, "_ENGINES", {})
        monkeypatch.setitem(registry._KINDS, "local", replace(registry._KINDS["local"], make=load))

    return use


@pytest.fixture
def scripted(load_by, mistral_tokenizer):
    """Return a function that makes a `ChatHermes` over a scripted engine, which stands in the process's registry."""

    def make(replies, *, engine_options=None, **fields):
        engine = ScriptedEngine(mistral_tokenizer, replies, **(engine_options or {}))
        load_by(lambda model, **options: engine)
        return ChatHermes(model="scripted", **fields), engine

    return make
