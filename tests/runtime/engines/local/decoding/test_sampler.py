"""What the options of sampling do to scores, beside the formulas in float64."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hermes_runtime.engines.local.decoding.constraint import ConstraintCompiler
from hermes_runtime.engines.local.decoding.sampler import ConstraintMask, sampling_processors
from hermes_runtime.options.generation import SamplingParams
from tests.support.requests import generation_request

SIZE, COLUMNS = 12, 16
END = 2
TOKENS = st.integers(0, SIZE - 1)


def scored(scores, prompt, generated, constraint=None, *, size=SIZE, **options):
    """Return what the processors make of one row."""
    sampling = SamplingParams(temperature=0.0, **{name: options.pop(name) for name in list(options) if name in NAMES})
    request = generation_request(prompt, sampling=sampling, stop_ids=(END,), **options)
    chain = sampling_processors(request, SamplingParams(), constraint, None, size)
    seen = torch.tensor([[*prompt, *generated]])
    return chain(seen, torch.tensor([scores], dtype=torch.float32))[0].double().numpy()


NAMES = {"repetition_penalty", "frequency_penalty", "presence_penalty", "logit_bias"}


@given(
    scores=st.lists(st.floats(-30, 30, width=32), min_size=COLUMNS, max_size=COLUMNS),
    prompt=st.lists(TOKENS, min_size=1, max_size=8),
    generated=st.lists(TOKENS, max_size=20),
    frequency=st.floats(-2, 2),
    presence=st.floats(-2, 2),
    repetition=st.sampled_from([1.0, 1.3, 0.7]),
    biases=st.dictionaries(TOKENS, st.floats(-100, 100)),
    least=st.integers(0, 25),
)
def test_scores_are_those_of_the_formulas(scores, prompt, generated, frequency, presence, repetition, biases, least):
    """OpenAI's: score - count * frequency - (count > 0) * presence, of what was generated, and the bias on top.

    The repetition penalty is of the prompt too, and of what the bias left, as in vLLM.
    """
    found = scored(
        scores, prompt, generated, frequency_penalty=frequency, presence_penalty=presence, logit_bias=biases,
        repetition_penalty=repetition, min_tokens=least,
    )  # fmt: skip
    counts = Counter(generated)
    expected = np.asarray(scores, dtype=np.float32).astype(np.float64)
    for token in range(SIZE):
        expected[token] += biases.get(token, 0.0)
        if token in counts or token in prompt:
            expected[token] *= repetition if expected[token] < 0 else 1 / repetition
        expected[token] -= counts[token] * frequency + (counts[token] > 0) * presence
    expected[SIZE:] = -np.inf
    if len(generated) < least:
        expected[END] = -np.inf
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-4)


@pytest.fixture(scope="module")
def compiler(mistral_tokenizer):
    return ConstraintCompiler(mistral_tokenizer, len(mistral_tokenizer), end_ids=[END])


def masked(compiler, mistral_tokenizer, grammar, written, **options):
    """Return which tokens a grammar and the options leave after some others."""
    constraint = compiler.compile(grammar)
    ids = [mistral_tokenizer.convert_tokens_to_ids(token) for token in written]
    constraint.accept(ids)
    size = len(mistral_tokenizer)
    scores = scored([0.0] * size, [1], ids, ConstraintMask(constraint), size=size, **options)
    return set(np.flatnonzero(scores > -np.inf).tolist()), scores


def test_a_bias_lets_nothing_through_that_the_grammar_forbids(compiler, mistral_tokenizer):
    allowed, _ = masked(compiler, mistral_tokenizer, 'start: "yes" | "no"\n', [])
    forbidden = mistral_tokenizer.encode("maybe", add_special_tokens=False)[0]
    assert forbidden not in allowed
    biased, scores = masked(
        compiler, mistral_tokenizer, 'start: "yes" | "no"\n', [], logit_bias={forbidden: 100, min(allowed): 7.0}
    )
    assert biased == allowed
    assert int(scores.argmax()) == min(allowed)


def test_a_grammar_that_leaves_a_choice_goes_on_and_one_that_leaves_the_end_alone_ends(compiler, mistral_tokenizer):
    open_ended = "start: /a+/\n"
    assert END in masked(compiler, mistral_tokenizer, open_ended, ["a"])[0]
    assert END not in masked(compiler, mistral_tokenizer, open_ended, ["a"], min_tokens=5)[0]
    assert masked(compiler, mistral_tokenizer, 'start: "yes"\n', ["yes"], min_tokens=5)[0] == {END}
