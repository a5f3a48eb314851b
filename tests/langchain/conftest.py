from __future__ import annotations

from functools import partial

import pytest

from langchain_hermes import ChatHermes
from tests.support.scripted_engine import ScriptedEngine, stand_in


@pytest.fixture
def load_by(monkeypatch):
    """Return a function that lets another one make this process's local engines."""

    return partial(stand_in, monkeypatch)


@pytest.fixture
def scripted(load_by, mistral_tokenizer):
    """Return a function that makes a `ChatHermes` over a scripted engine, which stands in the process's registry."""

    def make(replies, *, engine_options=None, **fields):
        engine = ScriptedEngine(mistral_tokenizer, replies, **(engine_options or {}))
        load_by(lambda model, **options: engine)
        return ChatHermes(model="scripted", **fields), engine

    return make
