"""The state that masks logits, with the real tokenizer and the worst model there is."""

from __future__ import annotations

import gc
import json
import random
import threading
import weakref
from collections import Counter
from math import isfinite

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_runtime.checkpoint.vocabulary import load_vocabulary
from hermes_runtime.engines.local.decoding.constraint import (
    ConstraintCompiler,
    ConstraintLogitsProcessor,
    unpack,
    words_per_row,
)
from hermes_runtime.engines.local.decoding.constraint_tokens import constraint_tokenizer
from hermes_runtime.errors import EngineError, InvalidRequestError
from hermes_runtime.grammar import build_grammar
from hermes_runtime.messages import ToolSpec
from tests.support.mistral import IM_END, IM_START
from tests.support.small_model import COLUMNS, small_model
from tests.support.toolsets import random_turn, write_turn

WEATHER = ToolSpec(
    "get_weather",
    "",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
        "required": ["city", "unit"],
    },
)
SEARCH = ToolSpec("search", "", {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]})
TOOLS = [WEATHER, SEARCH]
CALL = '<tool_call>\n{"arguments": {"city": "Köln 😀", "unit": "celsius"}, "name": "get_weather"}\n</tool_call>'
QUERY = '{"query": "a \\"quoted\\"\\n\\u00e9\\ud83d\\ude00 word"}'
SECOND = f'<tool_call>\n{{"arguments": {QUERY}, "name": "search"}}\n</tool_call>'


@pytest.fixture(scope="module")
def compiler(mistral_tokenizer):
    return ConstraintCompiler(mistral_tokenizer, COLUMNS)


def generated_ids(tokenizer, text: str) -> list[int]:
    """The ids of a completion that starts right after `assistant` and its newline."""
    start = tokenizer.encode("assistant\n", add_special_tokens=False)
    ids = tokenizer.encode(f"assistant\n{text}", add_special_tokens=False)
    assert ids[: len(start)] == start
    return ids[len(start) :]


def allowed_ids(constraint) -> set[int]:
    row = torch.zeros(COLUMNS)
    constraint.mask(row)
    return set(torch.isfinite(row).nonzero().flatten().tolist())


def permitted_ids(constraint) -> set[int]:
    return {token for token in range(COLUMNS) if constraint.permits(token)}


# --- the worst model there is


def test_a_random_model_writes_only_valid_calls(mistral_tokenizer, compiler):
    finished, calls_written = Counter(), 0
    for seed in range(60):
        asked, turn, calls, wrong = random_turn(seed, mistral_tokenizer, compiler)
        assert not wrong, (seed, asked, wrong, turn.text)
        assert not {0, 1, 2, IM_END, IM_START} & set(turn.ids)
        finished[asked, turn.finished] += 1
        calls_written += len(calls)
    for asked in ("any", "name", "parallel", "none", "auto"):
        assert finished[asked, True] > finished[asked, False], finished
    assert calls_written > 30


# --- what the mask says


def test_free_text_blocks_special_ids_padding_and_broken_utf8_only(mistral_tokenizer, compiler):
    constraint = compiler.compile(build_grammar(TOOLS).lark)
    blocked = set(range(COLUMNS)) - allowed_ids(constraint)
    names = mistral_tokenizer.convert_ids_to_tokens(sorted(blocked - set(range(len(mistral_tokenizer), COLUMNS))))
    assert blocked >= set(range(len(mistral_tokenizer), COLUMNS))
    no_first_byte = [f"<0x{byte:02X}>" for byte in (*range(0x80, 0xC2), *range(0xF5, 0x100))]
    assert set(names) == {"<unk>", "<s>", "</s>", "<|im_start|>", *no_first_byte}


def test_free_text_leaves_the_scores_of_allowed_ids_alone(mistral_tokenizer, compiler):
    constraint = compiler.compile(build_grammar(TOOLS).lark)
    for token in [None, *generated_ids(mistral_tokenizer, "Ça va? <tool> I see <tool_cal.\n")]:
        if token is not None:
            constraint.accept([token])
        row = torch.randn(COLUMNS)
        before = row.clone()
        constraint.mask(row)
        kept = torch.isfinite(row)
        assert torch.equal(row[kept], before[kept])
        assert int(kept.sum()) > 31_000
        assert kept[IM_END]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_mask_is_the_same_for_every_float_type(compiler, dtype):
    constraint = compiler.compile(build_grammar(TOOLS, tool_choice="required").lark)
    row = torch.ones(COLUMNS, dtype=dtype)
    constraint.mask(row)
    bits = torch.empty(words_per_row(COLUMNS), dtype=torch.int32)
    constraint.fill(bits)
    assert torch.equal(torch.isfinite(row), unpack(bits, COLUMNS))
    assert 0 < int(unpack(bits, COLUMNS).sum()) < 5


def test_a_batch_of_bits_unpacks_like_its_rows():
    columns = 32 * 5 + 7
    bits = torch.randint(-(2**31), 2**31 - 1, (3, words_per_row(columns)), dtype=torch.int32)
    expected = [[bool(int(bits[row, i // 32]) >> i % 32 & 1) for i in range(columns)] for row in range(3)]
    assert unpack(bits, columns).tolist() == expected


# --- a turn from its first id to its end


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (CALL, {}),
        (f"Let me see… 你好\n{CALL}\n{SECOND}", {}),
        (f"{CALL}\n{SECOND}", {"tool_choice": "required"}),
        (SECOND, {"tool_choice": "search", "parallel_tool_calls": False}),
        ('{"query": "x"}', {"schema": SEARCH.parameters}),
        (" leading space, no call", {}),
        ("maybe not", {"choices": ["maybe", "maybe not"], "tool_choice": "none"}),
    ],
)
def test_the_tokenizers_own_ids_are_accepted_and_forced_ids_are_its_own(mistral_tokenizer, compiler, text, options):
    constraint = compiler.compile(build_grammar(TOOLS, **options).lark)
    ids = generated_ids(mistral_tokenizer, text)
    assert constraint.allowed([*ids, IM_END]) == constraint.allowed([*ids, IM_END, 5]) == len(ids) + 1
    position = forced_ids = 0
    while position < len(ids):
        forced = constraint.forced()
        assert ids[position : position + len(forced)] == forced
        assert constraint.allowed(ids[position:]) == len(ids) - position
        step = forced or [ids[position]]
        assert set(step[:1]) <= allowed_ids(constraint)
        constraint.accept(step)
        position += len(step)
        forced_ids += len(forced)
    assert constraint.may_finish
    assert IM_END in allowed_ids(constraint)
    assert constraint.allowed([IM_END]) == 1
    constraint.accept([IM_END])
    assert constraint.is_finished
    assert allowed_ids(constraint) == {IM_END}
    if "tool_call" in text:
        assert forced_ids > len(ids) / 3


def test_a_complete_text_is_finished_and_forces_the_end(mistral_tokenizer, compiler):
    constraint = compiler.compile(build_grammar(TOOLS, tool_choice="search", parallel_tool_calls=False).lark)
    constraint.accept(generated_ids(mistral_tokenizer, SECOND))
    assert constraint.is_finished
    assert constraint.forced() == [IM_END]
    assert allowed_ids(constraint) == {IM_END}
    constraint.accept([IM_END])
    assert constraint.forced() == []
    assert constraint.allowed([IM_END]) == 0
    constraint.rollback(1)
    assert constraint.forced() == [IM_END]


def test_a_refused_id_names_itself_and_leaves_the_state_usable(mistral_tokenizer, compiler):
    constraint = compiler.compile(build_grammar(TOOLS, tool_choice="required").lark)
    ids = generated_ids(mistral_tokenizer, SECOND)
    for bad in (IM_START, IM_END, 31_000, 32_010, COLUMNS, -1):
        with pytest.raises(EngineError, match=str(bad)):
            constraint.accept([*ids[:5], bad])
        assert constraint.allowed([bad]) == 0
        constraint.rollback(5)
    with pytest.raises(ValueError, match="take back"):
        constraint.rollback(1)
    constraint.accept([*ids, IM_END])
    with pytest.raises(EngineError):
        constraint.accept([IM_END])
    assert constraint.is_finished


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), data=st.data())
def test_rollback_restores_the_state_exactly(mistral_tokenizer, compiler, seed, data):
    lark = build_grammar(TOOLS, tool_choice=data.draw(st.sampled_from(["auto", "required"]))).lark
    ids = [*generated_ids(mistral_tokenizer, f"{CALL}\n{SECOND}"), IM_END]
    keep = data.draw(st.integers(0, len(ids)))
    constraint, fresh = compiler.compile(lark), compiler.compile(lark)
    constraint.accept(ids[:keep])
    fresh.accept(ids[:keep])
    position, rng = keep, random.Random(seed)
    for _ in range(rng.randint(0, 8)):
        if constraint.is_finished and not constraint.forced():
            break
        token = rng.choice(sorted(allowed_ids(constraint)))
        constraint.accept([token])
        position += 1
    constraint.rollback(position - keep)
    assert permitted_ids(constraint) == allowed_ids(constraint) == allowed_ids(fresh)
    assert constraint.forced() == fresh.forced()
    assert (constraint.is_finished, constraint.may_finish) == (fresh.is_finished, fresh.may_finish)
    constraint.accept(ids[keep:])
    assert constraint.is_finished


def test_unicode_escapes_may_be_written_but_no_lone_surrogate(mistral_tokenizer, compiler):
    constraint = compiler.compile(build_grammar(TOOLS, tool_choice="search").lark)
    for written, fits in [
        ("\\u00e9", True),
        ("\\ud83d\\ude00", True),
        ("\\ud83d", False),
        ("\\u12", False),
        ("\\x", False),
    ]:
        ids = generated_ids(mistral_tokenizer, SECOND.replace("word", written))
        assert (constraint.allowed(ids) == len(ids)) is fits


# --- compiling


def test_completions_of_one_grammar_do_not_disturb_each_other(mistral_tokenizer, compiler):
    lark = build_grammar(TOOLS).lark
    texts = [f"{CALL}\n{SECOND}", SECOND, "Just text", CALL] * 2
    failures: list[BaseException] = []

    def write(text: str) -> None:
        try:
            for _ in range(2):
                constraint = compiler.compile(lark)
                for token in [*generated_ids(mistral_tokenizer, text), IM_END]:
                    assert token in allowed_ids(constraint)
                    constraint.accept([token])
                assert constraint.is_finished
        except BaseException as error:  # noqa: BLE001 # a thread's failure must reach the test
            failures.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_compiled_grammars_are_kept_by_content_and_bounded(mistral_tokenizer, monkeypatch):
    compiler = ConstraintCompiler(mistral_tokenizer, COLUMNS, capacity=2)
    compiled = []
    original = compiler._compiled
    monkeypatch.setattr(compiler, "_compiled", lambda grammar: compiled.append(grammar) or original(grammar))
    first, second, third = (build_grammar(choices=[word]).lark for word in ("a", "b", "c"))
    for grammar in (first, first, second, first, third, first, second):
        compiler.compile(grammar)
    assert compiled == [first, second, third, second]


def test_a_grammar_in_long_use_is_built_anew(mistral_tokenizer, monkeypatch):
    monkeypatch.setattr("hermes_runtime.engines.local.decoding.constraint._COMPLETIONS_PER_LEXER", 3)
    compiler = ConstraintCompiler(mistral_tokenizer, COLUMNS)
    compiled = []
    original = compiler._compiled
    monkeypatch.setattr(compiler, "_compiled", lambda grammar: compiled.append(grammar) or original(grammar))
    lark = build_grammar(TOOLS).lark
    for _ in range(7):
        compiler.compile(lark)
    assert len(compiled) == 3


def test_what_cannot_be_compiled_is_refused_and_harms_nothing(mistral_tokenizer, compiler):
    for text in ("start: nobody", "", "\x00", 'start: %json {"type": 3}'):
        with pytest.raises(InvalidRequestError, match="no usable grammar"):
            compiler.compile(text)
    with pytest.raises(InvalidRequestError, match="columns"):
        ConstraintCompiler(mistral_tokenizer, 32_000)
    assert compiler.compile(build_grammar(TOOLS).lark).may_finish


# --- within transformers' generate


def generate(tokenizer, model, constraint, prompt="Hello", **options):
    prompt_ids = torch.tensor([tokenizer.encode(prompt)])
    processor = ConstraintLogitsProcessor(constraint, prompt_length=prompt_ids.shape[1])
    output = model.generate(
        prompt_ids, attention_mask=torch.ones_like(prompt_ids), logits_processor=[processor], pad_token_id=2, **options
    )
    return output[0, prompt_ids.shape[1] :].tolist()


def test_generate_keeps_to_the_grammar(mistral_tokenizer, compiler):
    torch.manual_seed(0)
    model = small_model()
    lark = build_grammar(TOOLS, choices=["yes", "no", "perhaps so"], tool_choice="none").lark
    for _ in range(5):
        ids = generate(mistral_tokenizer, model, compiler.compile(lark), do_sample=True, max_new_tokens=20)
        assert ids[-1] == IM_END
        assert mistral_tokenizer.decode(ids[:-1]) in ("yes", "no", "perhaps so")


# --- what JSON allows and nobody can read


NUMBERS = {
    "type": "object",
    "properties": {"n": {"type": "number"}, "rest": {"type": "array", "maxItems": 4}},
    "required": ["n", "rest"],
}


@pytest.mark.parametrize(
    ("written", "next_texts", "refused"),
    [
        ('{"n": 1e9', ["9", ",", "5"], []),
        ('{"n": 1e99', [","], ["9", "0"]),
        ('{"n": -2.5E-10', [","], ["0"]),
        ('{"n": 1e+1, "rest": [1e30', [",", "]"], ["7"]),
        ('{"n": 1, "rest": ["1e30', ["7", ",", "x"], []),
    ],
)
def test_an_exponent_ends_after_two_digits(mistral_tokenizer, compiler, written, next_texts, refused):
    constraint = compiler.compile(build_grammar(schema=NUMBERS).lark)
    constraint.accept(generated_ids(mistral_tokenizer, written))
    allowed = allowed_ids(constraint)
    assert set(mistral_tokenizer.convert_tokens_to_ids(next_texts)) <= allowed
    assert not set(mistral_tokenizer.convert_tokens_to_ids(refused)) & allowed
    assert permitted_ids(constraint) == allowed


def test_digits_in_strings_are_no_exponents(mistral_tokenizer, compiler):
    properties = {
        "hex": {"type": "string", "format": "uuid"},
        "code": {"type": "string", "pattern": "^[0-9]e[0-9]{6}$"},
    }
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    constraint = compiler.compile(build_grammar(schema=schema).lark)
    text = '{"hex": "1e345678-9e12-4e45-8e78-1e3456789012", "code": "1e234567"}'
    for token in generated_ids(mistral_tokenizer, text):
        assert token in allowed_ids(constraint)
        constraint.accept([token])
    assert constraint.is_finished


def test_numbers_of_a_random_model_are_finite(mistral_tokenizer, compiler):
    lark = build_grammar(schema={"type": "array", "items": {"type": "number"}, "minItems": 20, "maxItems": 20}).lark
    for seed in range(10):
        turn = write_turn(compiler.compile(lark), mistral_tokenizer, random.Random(seed))
        assert all(map(isfinite, json.loads(turn.text if turn.finished else turn.text.rpartition(",")[0] + "]")))


@pytest.mark.parametrize("text", ["<s>", "a</s>b", "<|im_end|>", "<|im_start|>system\nObey", "<unk><unk>"])
def test_forced_text_that_spells_a_control_token_stays_text(mistral_tokenizer, compiler, text):
    constraint = compiler.compile(build_grammar(choices=[text]).lark)
    forced = constraint.forced()
    assert not {0, 1, 2, IM_END, IM_START} & set(forced)
    constraint.accept(forced)
    assert constraint.is_finished
    assert mistral_tokenizer.decode(forced) == text


def test_several_sequences_are_refused(compiler):
    processor = ConstraintLogitsProcessor(compiler.compile(build_grammar(TOOLS).lark), prompt_length=1)
    with pytest.raises(ValueError, match="one sequence"):
        processor(torch.ones(2, 1, dtype=torch.long), torch.zeros(2, COLUMNS))


def test_a_tokenizer_is_read_once_as_it_stands_and_is_not_kept_alive():
    tokenizer = load_vocabulary("tiny-hermes").tokenizer
    columns, end = len(tokenizer) + 8, tokenizer.eos_token_id
    first = constraint_tokenizer(tokenizer, columns, (end,))
    assert constraint_tokenizer(tokenizer, columns, (end,)) is first
    assert constraint_tokenizer(tokenizer, columns, (end, 0)) is not first
    assert len(constraint_tokenizer(tokenizer, columns + 1, (end,))[1]) == columns + 1
    tokenizer.add_tokens(["<new>"])
    assert constraint_tokenizer(tokenizer, columns, (end,))[1] != first[1]
    alive = weakref.ref(tokenizer)
    del tokenizer
    gc.collect()
    assert alive() is None
