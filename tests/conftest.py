"""Fixtures that several rooms share."""

from __future__ import annotations

import json
import os

import pytest

from tests.support.places import DATA

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # there are as many processes as cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def mistral_tokenizer():
    """The tokenizer of Hermes 2 Pro Mistral 7B: Mistral 7B v0.1's SentencePiece model and two ChatML tokens."""
    from tests.support.mistral import load_mistral_tokenizer

    return load_mistral_tokenizer()


@pytest.fixture(scope="session")
def dense_tiny(tmp_path_factory):
    """A folder with the embedded checkpoint in float32.

    In 16 bits two nearly equal candidates may change places with the batch they are computed in; what compares texts
    across batches or engines is exact with this.
    """
    from tests.support.dense_tiny import write_dense

    return write_dense(tmp_path_factory.mktemp("tiny") / "tiny-float32")


@pytest.fixture(scope="session")
def served_hub():
    """A hub that runs for the whole session; tests take `fake_hub`."""
    from tests.support.fake_hub import FakeHub, failing_models

    hub = FakeHub(failing_models())
    yield hub
    hub.close()


@pytest.fixture
def fake_hub(served_hub, tmp_path, monkeypatch):
    """The hub, reached as its client would after HF_ENDPOINT and HF_HOME were set; its cache is empty."""
    from tests.support.fake_hub import GOOD, HubModel, use_hub

    use_hub(monkeypatch, served_hub.address, tmp_path / "cache")
    served_hub.models[GOOD] = HubModel()
    served_hub.asked.clear()
    return served_hub


@pytest.fixture
def cities_asked():
    """The cities that `get_weather` is asked for in this test."""
    from tests.support.weather import CITIES_ASKED

    CITIES_ASKED.clear()
    return CITIES_ASKED


@pytest.fixture(scope="session")
def parser_cases():
    """The catalogue of model outputs with their right reading."""
    lines = (DATA / "parser_cases.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="session")
def problem_texts():
    """The texts of the problems in the catalogue's outputs, whole and cut in half by the length limit, by its ids."""
    lines = (DATA / "problem_texts.jsonl").read_text(encoding="utf-8").splitlines()
    return {case["id"]: case for case in map(json.loads, lines)}


def pytest_configure():
    """Keep hypothesis quick and repeatable; session fixtures are safe under it because no test changes them."""
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "hermes",
        max_examples=60,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    settings.load_profile("hermes")
