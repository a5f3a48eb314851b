"""The options of a generation: checked once, read off one row, and laid over each other."""

from __future__ import annotations

import copy
import pickle
from dataclasses import fields, replace

import pytest

from hermes_runtime.engines.base import GenerationRequest
from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.options.fields import GenerationFields
from hermes_runtime.options.generation import OPTION_NAMES, GenerationOptions, SamplingParams, merged
from hermes_runtime.turn import TurnRequest
from langchain_hermes import ChatHermes
from llama_index_hermes import HermesLLM


@pytest.mark.parametrize("owner", [GenerationFields, ChatHermes, HermesLLM])
def test_every_option_is_a_field_of_both_frameworks_classes(owner):
    assert {*OPTION_NAMES} <= {*owner.model_fields}
    assert {*GenerationFields.model_fields} == {*OPTION_NAMES}


def test_every_option_is_read_from_one_row():
    row = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1, "repetition_penalty": 1.1, "frequency_penalty": 1,
        "presence_penalty": -1, "logit_bias": {"5": 2}, "max_tokens": 9, "min_tokens": 2, "stop": "END", "seed": 4,
        "timeout": 3.0, "logprobs": True, "top_logprobs": 2,
    }  # fmt: skip
    assert row.keys() == {*OPTION_NAMES}
    options = GenerationOptions.of({**row, "dialect": "card"})
    assert options.sampling == SamplingParams(0.5, 0.9, 3, 0.1, 1.1, 1, -1, {5: 2})
    assert {field.name: getattr(options, field.name) for field in fields(options) if field.name != "sampling"} == {
        "max_tokens": 9, "min_tokens": 2, "stop": ("END",), "seed": 4, "timeout": 3.0, "logprobs": 2,
    }  # fmt: skip
    assert GenerationOptions.of({}) == GenerationOptions()


def test_a_call_wins_and_turns_log_probabilities_off_as_a_whole():
    own = {"top_logprobs": 2, "logprobs": None, "seed": 1}
    assert merged(own, {"seed": None})["seed"] is None
    assert GenerationOptions.of(merged(own, {"logprobs": False})) == GenerationOptions(seed=1)
    with pytest.raises(InvalidRequestError, match="top_logprobs needs logprobs"):
        GenerationOptions.of(merged(own, {"logprobs": False, "top_logprobs": 1}))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"frequency_penalty": 2.1}, "frequency_penalty must be at least -2 and at most 2, got 2.1"),
        ({"presence_penalty": -3}, "presence_penalty must be at least -2 and at most 2, got -3"),
        ({"presence_penalty": True}, "presence_penalty must be a finite number, got True"),
        ({"logit_bias": [1]}, "logit_bias must be a dict of token ids, got list"),
        ({"logit_bias": {"one": 1}}, "logit_bias has 'one', which is no token id"),
        ({"logit_bias": {-1: 1}}, "logit_bias has -1, which is no token id"),
        ({"logit_bias": {True: 1}}, "logit_bias has True, which is no token id"),
        ({"logit_bias": {5: 101}}, "logit_bias of 5 must be at least -100 and at most 100, got 101"),
        ({"logit_bias": {"5": float("nan")}}, "logit_bias of '5' must be a finite number, got nan"),
        ({"min_tokens": -1}, "min_tokens must be an integer of at least 0, got -1"),
        ({"min_tokens": 1.0}, "min_tokens must be an integer of at least 0, got 1.0"),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens=5 is more than max_tokens=4"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_value(options, said):
    with pytest.raises(InvalidRequestError) as refused:
        GenerationOptions.of(options)
    assert str(refused.value) == said


def test_biases_are_kept_by_number_and_apart_from_what_was_given():
    given = {"7": -100, 8: 0.5}
    sampling = SamplingParams(logit_bias=given)
    given["9"] = 1
    assert sampling.logit_bias == {7: -100, 8: 0.5}
    assert SamplingParams().with_defaults(SamplingParams(0.8, 1.0, 0, 0.0, 1.0)).logit_bias is None


@pytest.mark.parametrize(
    ("kind", "argument"), [(TurnRequest, [{"role": "user", "content": "Hi"}]), (GenerationRequest, (1, 2))]
)
def test_options_beside_the_others_are_known_for_a_while(kind, argument):
    with pytest.warns(DeprecationWarning, match=r"max_tokens, sampling stands in options"):
        request = kind(argument, max_tokens=5, sampling=SamplingParams(0.5))
    assert request == kind(argument, options=GenerationOptions(SamplingParams(0.5), max_tokens=5))
    with pytest.warns(DeprecationWarning, match="seed"):
        assert replace(request, seed=3).options == GenerationOptions(SamplingParams(0.5), max_tokens=5, seed=3)
    with pytest.warns(DeprecationWarning, match="max_tokens"):
        assert request.max_tokens == 5
    with pytest.raises(AttributeError, match="nothing"):
        _ = request.nothing
    assert pickle.loads(pickle.dumps(request)) == copy.deepcopy(request) == request
