"""A grammar never takes forever or all memory: what would is refused."""

from __future__ import annotations

import sys

import pytest

from hermes_runtime.engines.local.decoding.constraint import ConstraintCompiler
from tests.support.hostile_schemas import HOSTILE, measured
from tests.support.small_model import COLUMNS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


@pytest.fixture(scope="module")
def costs(mistral_tokenizer):
    return {figures["name"]: figures for figures in measured(ConstraintCompiler(mistral_tokenizer, COLUMNS))}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_works_or_is_refused(costs, name):
    """The limit of CPU time under which it is measured is sixty times what is promised, for slow machines."""
    assert costs[name]["outcome"] == "works" or costs[name]["outcome"].startswith("SchemaError: ")
    assert costs[name]["megabytes"] < 500


@pytest.mark.parametrize(
    "name", ["an enum of 5,000 words", "200 tools", "a list of itself", "1,000 optional properties", "60 objects deep"]
)
def test_what_is_merely_large_works(costs, name):
    assert costs[name]["outcome"] == "works"
