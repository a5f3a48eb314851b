"""Which engine a name and its options stand for."""

from __future__ import annotations

from dataclasses import fields

import pytest

from hermes_runtime import load_engine
from hermes_runtime.engines import registry
from hermes_runtime.engines.local.batch.limits import EngineLimits
from hermes_runtime.engines.local.generate import GenerateEngine
from hermes_runtime.engines.registry import loaded_engine
from hermes_runtime.errors import EngineError, InvalidRequestError
from langchain_hermes import ChatHermes
from tests.support.faulty_server import FaultyServer

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


def test_what_is_of_a_call_makes_no_other_engine():
    server = FaultyServer([])
    try:
        engine = load_engine("tiny-hermes", base_url=server.url, max_retries=2)
        assert load_engine("tiny-hermes", base_url=server.url, max_retries=5) is engine
        assert load_engine("tiny-hermes", base_url=server.url) is engine
        assert loaded_engine("tiny-hermes", base_url=server.url, max_retries=0) is engine
        engine.close()
    finally:
        server.close()


def test_retries_are_not_asked_of_an_engine_that_is_not_loaded_over_a_wire():
    with pytest.raises(InvalidRequestError, match="max_retries"):
        load_engine("tiny-hermes", max_retries=1)


@pytest.mark.parametrize(("max_retries", "is_made"), [(0, False), (1, False), (3, True)])
def test_a_server_that_is_still_starting_is_waited_for_as_often_as_is_said(max_retries, is_made):
    server = FaultyServer([], failures=range(3))
    options = {"base_url": server.url, "max_retries": max_retries, "engine_options": {"retry_delay": 0.001}}
    try:
        if is_made:
            load_engine("tiny-hermes", **options).close()
        else:
            with pytest.raises(EngineError, match="503"):
                load_engine("tiny-hermes", **options)
            assert len(server.heads) == max_retries + 1
    finally:
        server.close()
