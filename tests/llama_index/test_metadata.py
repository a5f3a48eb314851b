"""What is known of a model before it is loaded."""

from __future__ import annotations

import json

import pytest
from llama_index.core.memory import ChatMemoryBuffer

import llama_index_hermes.base
from llama_index_hermes import HermesLLM


@pytest.fixture(autouse=True)
def _nothing_is_loaded(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("metadata loaded the model")

    monkeypatch.setattr(llama_index_hermes.base, "load_engine", refuse)


def checkpoint(folder, **config):
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(folder)


def test_window_of_a_folder_is_what_its_config_says(tmp_path):
    assert HermesLLM(model=checkpoint(tmp_path, max_position_embeddings=512)).metadata.context_window == 512


@pytest.mark.parametrize("config", [{}, {"max_position_embeddings": None}, {"max_position_embeddings": 0}])
def test_config_without_a_window_means_the_default(tmp_path, config):
    assert HermesLLM(model=checkpoint(tmp_path, **config)).metadata.context_window == 3900


@pytest.mark.parametrize("model", ["nobody/has-this-model", "/no/such/folder", "no such name"])
def test_unknown_model_means_the_default(model):
    assert HermesLLM(model=model).metadata.context_window == 3900


def test_a_checkpoint_that_comes_later_is_seen(tmp_path):
    llm = HermesLLM(model=str(tmp_path))
    assert llm.metadata.context_window == 3900
    checkpoint(tmp_path, max_position_embeddings=512)
    assert llm.metadata.context_window == 512


def test_window_that_was_set_wins(tmp_path):
    llm = HermesLLM(model=checkpoint(tmp_path, max_position_embeddings=512), context_window=256)
    assert llm.metadata.context_window == 256


def test_memory_is_sized_by_it(tmp_path):
    llm = HermesLLM(model=checkpoint(tmp_path, max_position_embeddings=8192))
    assert ChatMemoryBuffer.from_defaults(llm=llm).token_limit == 6144


def test_config_is_read_once(tmp_path):
    llm = HermesLLM(model=checkpoint(tmp_path, max_position_embeddings=512))
    assert llm.metadata.context_window == 512
    (tmp_path / "config.json").unlink()
    assert llm.metadata.context_window == 512
