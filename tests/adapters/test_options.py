"""Options of a generation are the same of both frameworks: as fields, in one call, and in what tells models apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.llms import ChatMessage

from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.options.generation import SamplingParams
from langchain_hermes import ChatHermes
from llama_index_hermes import HermesLLM
from tests.support.scripted_engine import ScriptedEngine, stand_in

ASKS: dict[type, Callable[..., Any]] = {
    ChatHermes: lambda llm, **options: llm.invoke("Hi", **options),
    HermesLLM: lambda llm, **options: llm.chat([ChatMessage("Hi")], **options),
}


@pytest.fixture
def engine(monkeypatch, mistral_tokenizer):
    made = ScriptedEngine(mistral_tokenizer, lambda _: "Hello")
    stand_in(monkeypatch, lambda model, **options: made)
    return made


@pytest.mark.parametrize("kind", ASKS)
def test_penalties_biases_and_a_least_length_reach_the_engine_and_a_call_wins(kind, engine):
    llm = kind(
        model="m", temperature=0, frequency_penalty=0.5, presence_penalty=-0.5, logit_bias={"5": 2}, min_tokens=3
    )
    assert llm.logit_bias == {5: 2}
    ASKS[kind](llm)
    ASKS[kind](llm, frequency_penalty=0, presence_penalty=1, logit_bias={"7": -100, 8: 1.5}, min_tokens=1)
    first, second = (request.options for request in engine.requests)
    assert first.sampling == SamplingParams(0, frequency_penalty=0.5, presence_penalty=-0.5, logit_bias={5: 2})
    assert second.sampling == SamplingParams(0, frequency_penalty=0, presence_penalty=1, logit_bias={7: -100, 8: 1.5})
    assert (first.min_tokens, second.min_tokens) == (3, 1)


@pytest.mark.parametrize("kind", ASKS)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"frequency_penalty": 3}, "frequency_penalty must be at least -2 and at most 2"),
        ({"presence_penalty": -2.5}, "presence_penalty must be at least -2 and at most 2"),
        ({"logit_bias": {5: 1000}}, "logit_bias of 5 must be at least -100 and at most 100"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens=9 is more than max_tokens=8"),
    ],
)
def test_what_no_call_could_keep_is_refused_when_made_assigned_and_called(kind, options, said, engine):
    with pytest.raises(InvalidRequestError, match=said):
        kind(model="m", **options)
    llm = kind(model="m", max_tokens=8)
    name, value = next(iter(options.items()))
    with pytest.raises(InvalidRequestError, match=said):
        setattr(llm, name, value)
    with pytest.raises(InvalidRequestError, match=said):
        ASKS[kind](llm, **options)
    assert not engine.requests


def test_each_of_them_tells_cached_answers_apart():
    params = [
        ChatHermes(model="m", **options)._get_llm_string()
        for options in (
            {}, {"frequency_penalty": 0.5}, {"presence_penalty": 0.5}, {"logit_bias": {5: 1}}, {"logit_bias": {5: 2}},
            {"min_tokens": 2},
        )
    ]  # fmt: skip
    assert len({*params}) == len(params)


def test_hosted_names_mean_them_too(engine):
    ASKS[HermesLLM](HermesLLM("m", additional_kwargs={"frequency_penalty": 0.5, "logit_bias": {"5": 1}}))
    ASKS[ChatHermes](ChatHermes(model="m", model_kwargs={"frequency_penalty": 0.5, "logit_bias": {"5": 1}}))
    one, other = (request.options.sampling for request in engine.requests)
    assert one == other == SamplingParams(frequency_penalty=0.5, logit_bias={5: 1})
