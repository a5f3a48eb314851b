"""Fixtures that several rooms share."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def mistral_tokenizer():
    """The tokenizer of Hermes 2 Pro Mistral 7B: Mistral 7B v0.1's SentencePiece model and two ChatML tokens."""
    from tests.mistral import load_mistral_tokenizer

    return load_mistral_tokenizer()


@pytest.fixture(scope="session")
def parser_cases():
    """The catalogue of model outputs with their right reading."""
    lines = (DATA / "parser_cases.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


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
