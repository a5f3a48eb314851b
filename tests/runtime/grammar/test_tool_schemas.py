"""Schemas of the kinds that agents, MCP servers and both frameworks' toolkits send, in our own words."""

from __future__ import annotations

import json
import random

import pytest
from jsonschema import Draft202012Validator

from hermes_runtime.engines.local.decoding.constraint import ConstraintCompiler
from hermes_runtime.grammar import build_grammar
from hermes_runtime.messages import ToolSpec
from tests.support.grammar_oracle import dumps, matches
from tests.support.schema_rows import ROWS
from tests.support.small_model import COLUMNS
from tests.support.toolsets import read_calls, write_turn

NOT_ENFORCED = {"schedule": "uniqueItems"}


def validator_of(row):
    # A tuple written as a list under `items` is draft 7; pydantic v1 does not say so.
    text = json.dumps(row["parameters"]).replace('"items": [', '"prefixItems": [')
    return Draft202012Validator(json.loads(text))


@pytest.fixture(scope="module")
def compiler(mistral_tokenizer):
    return ConstraintCompiler(mistral_tokenizer, COLUMNS)


def test_there_are_enough_and_each_has_its_name():
    assert len(ROWS) >= 60
    assert len({row["name"] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_a_typical_call_is_accepted_and_nothing_is_left_to_chance(row):
    tool = ToolSpec(row["name"], "", row["parameters"])
    validator_of(row).validate(row["example"])
    for dialect in ("card", "name_first"):
        grammar = build_grammar([tool], tool_choice="required", dialect=dialect)
        keys = [("arguments", row["example"]), ("name", tool.name)][:: 1 if dialect == "card" else -1]
        assert matches(grammar.lark, f"<tool_call>\n{dumps(dict(keys))}\n</tool_call>")
        invented = dict(keys) | {"arguments": {**row["example"], "invented_key": 1}}
        assert matches(grammar.lark, f"<tool_call>\n{dumps(invented)}\n</tool_call>") is (tool.name == "free_form")
        notes = " ".join(grammar.relaxed)
        assert NOT_ENFORCED.get(tool.name, "") in notes
        assert bool(notes) is (tool.name in NOT_ENFORCED)


def test_a_random_model_calls_each_of_them_validly(mistral_tokenizer, compiler):
    finished = 0
    for seed, row in enumerate(ROWS):
        others = random.Random(seed).sample(ROWS, 3)
        tools = [
            ToolSpec(each["name"], "", each["parameters"]) for each in {r["name"]: r for r in [row, *others]}.values()
        ]
        lark = build_grammar(tools, tool_choice=row["name"], parallel_tool_calls=False).lark
        turn = write_turn(compiler.compile(lark), mistral_tokenizer, random.Random(seed), max_tokens=300)
        if turn.finished:
            finished += 1
            (call,), complete = read_calls(turn.text)
            assert complete
            assert call["name"] == row["name"]
            if row["name"] not in NOT_ENFORCED:
                validator_of(row).validate(call["arguments"])
    assert finished > len(ROWS) * 0.7
