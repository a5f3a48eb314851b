"""tiny-hermes's tokenizer: lossless, one BOS, and a value looks the same wherever it stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from hermes_runtime.messages import System, ToolSpec, User
from hermes_runtime.prompt import build_prompt
from tiny_hermes.evaluate import CHECKPOINT
from tiny_hermes.tokenizer import SPECIAL_TOKENS, build_tokenizer, fixed_phrases

MARKERS = ("<|im_start|>", "<|im_end|>")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(CHECKPOINT)


def ids_of(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


@given(text=st.text(max_size=80).filter(lambda text: not any(token in text for token in SPECIAL_TOKENS)))
def test_any_text_survives_the_round_trip(tokenizer, text):
    assert tokenizer.decode(ids_of(tokenizer, text)) == text


@pytest.mark.parametrize(
    "text", ["Grüße aus Köln", "漢字かな", "🎉👩‍👩‍👧", "a\n\n\tb  c", "it's {'a': \"b\"}", "\x00\u2028"]
)
def test_unusual_text_survives_the_round_trip(tokenizer, text):
    assert tokenizer.decode(ids_of(tokenizer, text)) == text


@given(text=st.text(alphabet="ab C1.,'\"{}:\n_", max_size=40))
def test_text_between_markers_is_encoded_as_it_is_alone(tokenizer, text):
    start, end = (tokenizer.convert_tokens_to_ids(marker) for marker in MARKERS)
    assert ids_of(tokenizer, f"<|im_start|>{text}<|im_end|>") == [start, *ids_of(tokenizer, text), end]


@pytest.mark.parametrize(
    "value", ["Paris", "New York", "buy milk", "-17", "3.25", "QX-41", "anna@mail.com", "2024-05-17"]
)
def test_a_value_has_the_same_tokens_in_a_question_and_in_a_call(tokenizer, value):
    inside = ids_of(tokenizer, value)
    for text in (
        f"What is it in {value}?",
        f"get it for {value} and",
        f"{{'arguments': {{'city': '{value}'}}",
        f'{{"city": "{value}"}}',
    ):
        ids = ids_of(tokenizer, text)
        assert any(ids[i : i + len(inside)] == inside for i in range(len(ids)))


def test_each_marker_is_one_special_token(tokenizer):
    for marker in SPECIAL_TOKENS:
        assert len(ids_of(tokenizer, marker)) == 1
    assert tokenizer.bos_token == "<s>"
    assert tokenizer.eos_token == "<|im_end|>"


def test_a_prompt_has_exactly_one_bos_and_few_tokens_for_what_is_fixed(tokenizer):
    tool = ToolSpec("f", "Do it.", {"type": "object", "properties": {}})
    ids = build_prompt([System("Be brief."), User("Hello")], tokenizer=tokenizer, tools=[tool]).token_ids
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id
    assert len(ids) < 60


def test_the_ids_of_a_prompt_are_those_of_its_text(tokenizer):
    tool = ToolSpec("get_weather", "Get the weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
    prompt = build_prompt([User("What is the weather in Oslo?")], tokenizer=tokenizer, tools=[tool])
    assert list(prompt.token_ids) == ids_of(tokenizer, prompt.text)


def test_every_fixed_phrase_is_one_token(tokenizer):
    for phrase in fixed_phrases():
        assert len(ids_of(tokenizer, phrase)) == 1


def test_building_is_deterministic():
    first, second = (build_tokenizer(samples=60).to_str() for _ in range(2))
    assert first == second
