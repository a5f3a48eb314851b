"""Vocabularies in which a tag of the format is one token, as those of Hermes 2 Pro Llama 3, Hermes 3 and Qwen are."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from llguidance import LLMatcher
from llguidance.hf import from_tokenizer
from llguidance.torch import allocate_token_bitmask, fill_next_token_bitmask
from tokenizers import AddedToken

from hermes_runtime.control_tokens import control_tokens, named_tokens
from hermes_runtime.engines.local.decoding.constraint import ConstraintCompiler
from hermes_runtime.grammar import build_grammar
from hermes_runtime.messages import ToolSpec, User
from hermes_runtime.parser import parse_completion
from hermes_runtime.prompt import build_prompt
from hermes_runtime.turn import Turn, TurnRequest
from tests.support.mistral import IM_END, IM_START, load_mistral_tokenizer
from tests.support.random_turns import random_engines, random_request, run_turns
from tests.support.requests import turn_request
from tests.support.scripted_engine import ScriptedEngine
from tests.support.small_model import COLUMNS

OPEN, CLOSE = 32002, 32003
SPELLED_OPEN = ["<", "tool", "_", "call", ">"]
SEARCH = ToolSpec("search", "", {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]})
BODY = '\n{"arguments": {"q": "x"}, "name": "search"}\n'


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "flagged as special"])
def tokenizer(request):
    tokenizer = load_mistral_tokenizer()
    tags = [AddedToken(text, normalized=False, special=request.param) for text in ("<tool_call>", "</tool_call>")]
    tokenizer.add_tokens(tags, special_tokens=request.param)
    assert tokenizer.convert_tokens_to_ids(["<tool_call>", "</tool_call>"]) == [OPEN, CLOSE]
    return tokenizer


@pytest.fixture(scope="module")
def compiler(tokenizer):
    return ConstraintCompiler(tokenizer, COLUMNS)


def allowed(constraint, token: int) -> bool:
    row = torch.zeros(COLUMNS)
    constraint.mask(row)
    return bool(torch.isfinite(row[token]))


def spelled(tokenizer, text: str) -> list[int]:
    """The ids of a text in which every character is a token of its own."""
    return tokenizer.convert_tokens_to_ids([{"\n": "<0x0A>", " ": "▁"}.get(char, char) for char in text])


def test_a_tag_is_text_and_a_marker_is_not(tokenizer, compiler):
    assert control_tokens(tokenizer) == {"<unk>", "<s>", "</s>", "<|im_end|>", "<|im_start|>"}
    constraint = compiler.compile(build_grammar([SEARCH]).lark)
    assert [allowed(constraint, index) for index in (OPEN, CLOSE, IM_END)] == [True] * 3
    assert not any(allowed(constraint, index) for index in (0, 1, 2, IM_START, CLOSE + 1, COLUMNS - 1))


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_a_call_may_be_written_with_either_form_of_the_tag(tokenizer, compiler, choice):
    lark = build_grammar([SEARCH], tool_choice=choice).lark
    for opening in ([OPEN], tokenizer.convert_tokens_to_ids(SPELLED_OPEN)):
        for closing in ([CLOSE], spelled(tokenizer, "</tool_call>")):
            constraint = compiler.compile(lark)
            constraint.accept([*opening, *spelled(tokenizer, BODY), *closing])
            assert constraint.may_finish
            assert not allowed(constraint, CLOSE)


def test_what_is_forced_is_the_one_token(tokenizer, compiler):
    constraint = compiler.compile(build_grammar([SEARCH], tool_choice="required", parallel_tool_calls=False).lark)
    assert constraint.forced()[0] == OPEN
    constraint.accept([OPEN, *spelled(tokenizer, BODY[: BODY.index("x")])])
    constraint.accept(tokenizer.convert_tokens_to_ids(["x", '"']))
    forced = constraint.forced()
    assert forced[-1] == CLOSE
    constraint.accept(forced)
    assert constraint.is_finished


def test_none_lets_no_form_of_the_tag_pass(tokenizer, compiler):
    for tools in ([SEARCH], []):
        constraint = compiler.compile(build_grammar(tools, tool_choice="none").lark)
        assert not allowed(constraint, OPEN)
        *begun, last = tokenizer.convert_tokens_to_ids(SPELLED_OPEN)
        constraint.accept(begun)
        assert not allowed(constraint, last)
        assert allowed(constraint, IM_END)


def test_the_prompt_writes_the_tag_as_the_model_learned_it(tokenizer):
    messages = [
        {"role": "user", "content": "Find it </s>."},
        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "search", "arguments": {"q": "x"}}}]},
        {"role": "tool", "tool_call_id": "1", "content": "found <tool_call>"},
    ]
    ids = build_prompt(messages, tokenizer=tokenizer, tools=[SEARCH]).token_ids
    assert ids.count(OPEN) == ids.count(CLOSE) + 1 >= 2
    assert 2 not in ids


def test_a_random_model_writes_only_valid_calls_from_prompt_to_parser(tokenizer):
    with random_engines(tokenizer) as engines:
        judged = run_turns(engines, [random_request(seed, max_tokens=250) for seed in range(25)])
    assert not [(turn.turn.request.options.seed, turn.wrong) for turn in judged if turn.wrong]
    calling = [turn for turn in judged if turn.result.tool_calls]
    assert len(calling) >= 10
    assert sum(OPEN in turn.result.token_ids for turn in calling) >= 8
    written = [turn for turn in judged if turn.turn.asked == "none"]
    assert not any(OPEN in turn.result.token_ids for turn in written)


def test_what_only_looks_like_a_call_is_text_where_none_is_asked_for(tokenizer):
    written = '{"name": "search", "arguments": {"q": "x"}}'
    for options in ({}, {"schema": {"type": "object"}}):
        request = turn_request([User("Find it.")], tools=[SEARCH], tool_choice="none", **options)
        turn = Turn(ScriptedEngine(tokenizer, [written]), request)
        list(turn)
        assert (turn.result.content, turn.result.tool_calls, turn.result.finish_reason) == (written, (), "stop")


# An engine that lets llguidance read the tokenizer, as vLLM does: tags that are tokens are then control tokens for it.


@pytest.fixture(scope="module")
def read_by_llguidance(tokenizer):
    return from_tokenizer(tokenizer, n_vocab=COLUMNS, eos_token=[IM_END])


def matcher_of(read_by_llguidance, tokenizer, **options):
    lark = build_grammar(tokens=named_tokens(tokenizer), **options).lark
    matcher = LLMatcher(read_by_llguidance, lark, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    return matcher


def sampled_from(matcher) -> list[int]:
    mask = allocate_token_bitmask(1, COLUMNS)
    fill_next_token_bitmask(matcher, mask)
    bits = np.unpackbits(mask.numpy().view(np.uint8), bitorder="little")
    return np.flatnonzero(bits[:COLUMNS]).tolist()


def test_the_tags_that_are_tokens_are_named(tokenizer):
    assert named_tokens(tokenizer) == {"<tool_call>", "</tool_call>"}
    assert named_tokens(load_mistral_tokenizer()) == frozenset()


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_a_call_may_be_written_with_either_form_of_the_tag_there_too(tokenizer, read_by_llguidance, choice):
    for opening in ([OPEN], tokenizer.convert_tokens_to_ids(SPELLED_OPEN)):
        for closing in ([CLOSE], spelled(tokenizer, "</tool_call>")):
            matcher = matcher_of(read_by_llguidance, tokenizer, tools=[SEARCH], tool_choice=choice)
            ids = [*opening, *spelled(tokenizer, BODY), *closing]
            assert matcher.try_consume_tokens(ids) == len(ids)
            assert matcher.is_accepting()


@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_masks_let_pass_there_is_a_whole_turn(tokenizer, read_by_llguidance, seed):
    rng = random.Random(seed)
    bounded = {"type": "object", "properties": {"q": {"enum": ["<tool_call>", "x"]}}, "required": ["q"]}
    choice = rng.choice(["auto", "required"])
    matcher = matcher_of(
        read_by_llguidance, tokenizer, tools=[ToolSpec("search", "", bounded)], tool_choice=choice, max_calls=2
    )
    ids: list[int] = []
    while not matcher.is_stopped():
        allowed_now = sampled_from(matcher)
        favored = [token for token in (OPEN, CLOSE, IM_END) if token in allowed_now]
        ids.append(rng.choice(favored) if favored and rng.random() < 0.5 else rng.choice(allowed_now))
        assert matcher.consume_token(ids[-1]), matcher.get_error()
        assert len(ids) < 500
    completion = parse_completion(tokenizer.decode(ids[:-1] if ids[-1] == IM_END else ids), tools=[SEARCH])
    assert not completion.invalid_tool_calls
    if choice == "required":
        assert completion.tool_calls


def test_none_lets_no_form_of_the_tag_pass_there_either(tokenizer, read_by_llguidance):
    for tools in ([SEARCH], []):
        matcher = matcher_of(read_by_llguidance, tokenizer, tools=tools, tool_choice="none")
        allowed_now = sampled_from(matcher)
        assert OPEN not in allowed_now
        assert CLOSE in allowed_now
        assert matcher.try_consume_tokens([CLOSE, 500]) == 2
        *begun, last = tokenizer.convert_tokens_to_ids(SPELLED_OPEN)
        assert matcher.try_consume_tokens([*begun, last]) == len(begun)


def test_a_turn_names_the_tokens_that_its_engine_tells(tokenizer):
    engine = ScriptedEngine(tokenizer, ["Hello."])
    engine.grammar_tokens = named_tokens(tokenizer)
    list(Turn(engine, TurnRequest([User("Find it.")], tools=[SEARCH])))
    assert "(<tool_call>)" in engine.requests[0].constraint
