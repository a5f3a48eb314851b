"""Which engine a name and its options stand for."""

from __future__ import annotations

from dataclasses import fields

import pytest

from hermes_runtime import load_engine
from hermes_runtime.engines import registry
from hermes_runtime.engines.local.batch.limits import EngineLimits
from hermes_runtime.engines.local.generate import GenerateEngine
from hermes_runtime.errors import InvalidRequestError
from langchain_hermes import ChatHermes

FIRST = ChatHermes(model="tiny-hermes", temperature=0, max_tokens=24)


def test_the_oracle_is_an_engine_by_name_and_says_the_same():
    slow = ChatHermes(model="tiny-hermes", engine="generate", temperature=0, max_tokens=24)
    assert slow.invoke("Hello").content == FIRST.invoke("Hello").content
    assert isinstance(load_engine("tiny-hermes", engine="generate"), GenerateEngine)


def test_the_bounds_of_the_batch_are_engine_options():
    assert {field.name for field in fields(EngineLimits)} == registry._LIMITS
    narrow = ChatHermes(
        model="tiny-hermes", temperature=0, max_tokens=24, engine_options={"slots": 1, "chunk": 8, "draft": 0}
    )
    assert narrow.invoke("Hello").content == FIRST.invoke("Hello").content


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"engine": "warp"}, "unknown engine"),
        ({"engine_options": {"slot": 1}}, "slot"),
        ({"engine_options": {"slots": 0}}, "slots must be at least 1"),
        ({"engine_options": {"graphs": "yes"}}, "graphs must be True, False or None"),
        ({"device": "cpu", "engine_options": {"graphs": True}}, "CUDA graphs need a CUDA device"),
        ({"engine": "generate", "engine_options": {"slots": 1}}, "slots"),
        ({"engine": "server"}, "base_url"),
        ({"api_key": "x"}, "api_key"),
    ],
)
def test_what_cannot_be_honored_is_refused(options, said):
    with pytest.raises(InvalidRequestError, match=said):
        load_engine("tiny-hermes", **options)
