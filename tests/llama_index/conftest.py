"""A HermesLLM over an engine that says what a test wrote down."""

from __future__ import annotations

import pytest

import llama_index_hermes.base
from llama_index_hermes import HermesLLM
from tests.support.scripted_engine import ScriptedEngine


@pytest.fixture
def scripted(mistral_tokenizer, monkeypatch):
    """`scripted(replies, engine=dict(...), **llm_options) -> (llm, engine)`."""

    def make(replies, *, engine=None, **options):
        made = ScriptedEngine(mistral_tokenizer, replies, **(engine or {}))
        monkeypatch.setattr(llama_index_hermes.base, "load_engine", lambda *_, **__: made)
        return HermesLLM(model="scripted", **options), made

    return make
