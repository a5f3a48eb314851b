"""Grammars in GBNF: as strict as the Lark but for what they name, and never stricter about calls."""

from __future__ import annotations

import json
import random
import re
import time
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from llguidance import LLMatcher, grammar_from

from hermes_runtime.errors import InvalidRequestError, SchemaError
from hermes_runtime.grammar import build_grammar
from hermes_runtime.grammar.gbnf_schema import MAX_REPEATED
from hermes_runtime.messages import ToolSpec
from hermes_runtime.parser import parse_completion
from tests.support import grammar_oracle
from tests.support.gbnf_oracle import Gbnf, accepts
from tests.support.grammar_oracle import END, TOKENIZER, dumps
from tests.support.hostile_schemas import HOSTILE
from tests.support.schema_rows import EMITTED, ORACLE_SCHEMAS, ORACLE_VALUES, ROWS
from tests.support.strategies import NAMES, OPENINGS
from tests.support.toolsets import problems_of, random_tools, read_calls
from tests.support.turn_grammar import (
    CITY,
    DAYS,
    FORECAST_CALL,
    NAME_FIRST_CALL,
    TOOLS,
    WEATHER_CALL,
    TurnGrammarContract,
)


def gbnf(tools=(), **options):
    return build_grammar(tools, language="gbnf", **options)


# --- which calls a turn may hold


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("", True),
        ("Hello, <b>you</b>.\r\n", True),
        ("1 < 2 << 3 <", True),
        (WEATHER_CALL, True),
        (f"Let me look.\n{WEATHER_CALL}", True),
        (f"a <{WEATHER_CALL}", True),
        (f"a <tool{WEATHER_CALL}", True),
        (f"{WEATHER_CALL}\n{FORECAST_CALL}", True),
        ("I write <tool_call", True),
        ("I write <tool_call_id> and <tools>", True),
        ("I write <tool_call> and no call", False),
        ("I write < tool_call> and no call", False),
        ("I write <tool_call{", False),
        (WEATHER_CALL.replace("<tool_call>", "<tool_calls>"), False),
        (WEATHER_CALL.replace("<tool_call>", "<Tool_Call>"), False),
        (f"{WEATHER_CALL} Done.", False),
        (f"{WEATHER_CALL}{FORECAST_CALL}", False),
        (WEATHER_CALL.replace("weather", "weather2"), False),
        (WEATHER_CALL.replace("city", "days"), False),
        (FORECAST_CALL.replace("3", '"3"'), False),
        (FORECAST_CALL.replace("3", "3.5"), False),
        (FORECAST_CALL.replace("3", "3 "), False),
        (FORECAST_CALL.replace('"days": 3', ""), False),
        (NAME_FIRST_CALL, False),
        (WEATHER_CALL[:-1], False),
    ],
)
def test_auto_is_text_and_then_calls(text, accepted):
    assert accepts(text, TOOLS) is accepted


@settings(max_examples=150, deadline=None)
@given(opening=OPENINGS, before=st.sampled_from(["", "<", "<tool", "< ", "<tool_call<"]))
def test_what_the_parser_takes_for_an_opening_tag_cannot_be_written_as_text(opening, before):
    text = f"I write {before}{opening} and more"
    read = parse_completion(text, TOOLS)
    if read.tool_calls or read.invalid_tool_calls:
        assert not accepts(text, TOOLS)
        assert not accepts(text, TOOLS, tool_choice="none")
        pad = f"<scratch_pad>{text}</scratch_pad>\n{NAME_FIRST_CALL}"
        assert not accepts(pad, TOOLS, tool_choice="required", dialect="scratch_pad")


@given(text=st.text(st.sampled_from("<> \ttTolO_caLs/|é\n"), max_size=20))
@settings(deadline=None)
def test_other_text_can_be_written(text):
    # Less than after `<tool_call` is asked of it, where GBNF is the stricter one.
    if not re.search(r"<[ \t]{0,4}tool_call", text, re.IGNORECASE):
        assert accepts(text, TOOLS)
        assert accepts(f"{text}{WEATHER_CALL}", TOOLS)
        assert accepts(text, TOOLS, tool_choice="none")
    assert not accepts(f"{text}{WEATHER_CALL}", TOOLS, tool_choice="none")


class TestGbnf(TurnGrammarContract):
    accepts = staticmethod(accepts)

    @pytest.mark.parametrize(
        ("form", "right", "wrong"),
        [
            ({"schema": DAYS}, '{"days": 2}', '{"days": "2"}'),
            ({"schema": {"type": "array", "items": {"type": "integer"}}}, "[1, 2]", "[1,2]"),
            ({"schema": {}}, '{"a": [1, {"b": null}]}', "[]"),
            ({"json_object": True}, '{"a": [1, {"b": null}]}', '"text"'),
            ({"choices": ["New", "New York", 'a "b" \\ /.*/']}, "New York", "New Y"),
        ],
    )
    def test_final_forms_alone_and_beside_calls(self, form, right, wrong):
        self.check_final_form(form, right, wrong)


def test_a_regular_expression_is_refused():
    with pytest.raises(InvalidRequestError, match="GBNF, which has no regular expressions"):
        gbnf(regex="a+")
    with pytest.raises(InvalidRequestError, match="GBNF"):  # also where the answer waits for a later turn
        gbnf(TOOLS, tool_choice="required", regex="a+")


def test_a_choice_that_no_server_could_write_is_refused():
    with pytest.raises(InvalidRequestError, match=r"U\+0000"):
        gbnf(choices=["a", "b\0"])


def test_a_grammar_is_not_taken_for_one_of_another_language():
    with pytest.raises(AttributeError, match="gbnf"):
        _ = gbnf(TOOLS).lark


@settings(max_examples=60, deadline=None)
@given(names=st.lists(NAMES, min_size=1, max_size=3, unique=True), dialect=st.sampled_from(["card", "name_first"]))
def test_any_name_can_be_called_and_no_other(names, dialect):
    tools = [ToolSpec(name, "", CITY if index else DAYS) for index, name in enumerate(names)]
    read = Gbnf(gbnf(tools, tool_choice="required", dialect=dialect).text)
    for name, arguments in zip(names, [{"days": 3}, *[{"city": "Bonn"}] * 2], strict=False):
        keys = [("arguments", arguments), ("name", name)][:: 1 if dialect == "card" else -1]
        call = json.dumps(dict(keys), ensure_ascii=False)
        assert read.matches(f"<tool_call>\n{call}\n</tool_call>")
        assert not read.matches(f"<tool_call>\n{json.dumps(dict(keys) | {'name': name + 'x' * 30})}\n</tool_call>")


# --- schemas


def allows(schema: Any, value: Any) -> bool:
    return accepts(dumps({"v": value}), schema=_root(schema))


def _root(schema: Any) -> dict[str, Any]:
    root = {"type": "object", "properties": {"v": schema}, "required": ["v"]}
    return root | {"$defs": schema["$defs"]} if isinstance(schema, dict) and "$defs" in schema else root


MORE_SCHEMAS: list[Any] = [
    {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]},
    {"type": "array", "prefixItems": [{"type": "integer"}], "minItems": 2, "maxItems": 3},
    {"type": "array", "maxItems": 0},
    {"type": "array", "items": False},
    {"type": "string", "minLength": 1, "maxLength": 3},
    {"type": ["integer", "number"]},
    {"enum": ["a", 1, None], "type": ["string", "null"]},
    {"anyOf": [{"type": "string"}, {"type": "array"}], "maxLength": 1, "maxItems": 1},
    {"allOf": [{"type": ["integer", "string"]}, {"type": ["number", "null"]}]},
    {"allOf": [{"const": []}, {"type": "array"}]},
    {"allOf": [{"const": 1}, {"enum": [1, 2]}]},
    {"allOf": [{"enum": ["a", "b"]}, {"enum": ["b", "c"]}]},
    {"allOf": [{"anyOf": [{"type": "string"}, {"type": "null"}]}, {"anyOf": [{"type": "null"}, {"const": 1}]}]},
    {"type": "array", "allOf": [{"items": {"type": "integer"}}, {"prefixItems": [{"const": 1}]}]},
    {"$ref": "#/$defs/n", "$defs": {"n": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}}},
    {"type": "object", "properties": {"a": {}, "k": {"type": "integer"}}, "required": ["k"]},
    {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "string"}},
    {"type": "object", "properties": {"a": False}, "additionalProperties": {"type": "integer"}},
    {"type": "object", "required": ["k"]},
    {"allOf": [{"properties": {"a": {"type": "integer"}}}, {"properties": {"a": {}, "k": {"type": "integer"}}}]},
    {
        "anyOf": [
            {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False},
            {"type": "object", "required": ["k"]},
        ],
    },
]


@pytest.mark.parametrize("schema", [*ORACLE_SCHEMAS, *MORE_SCHEMAS], ids=lambda schema: json.dumps(schema)[:60])
def test_what_the_lark_accepts_is_accepted_and_what_is_accepted_beyond_is_named(schema):
    lark, grammar = build_grammar(schema=_root(schema)), gbnf(schema=_root(schema))
    read = Gbnf(grammar.text)
    for value in ORACLE_VALUES:
        text = dumps({"v": value})
        if grammar_oracle.matches(lark.text, text):
            assert read.matches(text), value
        elif read.matches(text):
            assert set(grammar.relaxed) - set(lark.relaxed), value


@pytest.mark.parametrize("source", EMITTED)
def test_schemas_of_python_types(source):
    lark, read = build_grammar(schema=EMITTED[source]), Gbnf(gbnf(schema=EMITTED[source]).text)
    leaf = {"name": "oak"}
    for value in (
        {"leaf": leaf},
        {"title": None, "default": 4, "leaf": leaf},
        {"leaf": leaf, "kids": [{"leaf": leaf, "kids": [{"leaf": leaf}]}]},
        {"leaf": {"name": "oak", "color": "blue"}, "pair": [1, "x"]},
    ):
        assert read.matches(dumps(value)) or not grammar_oracle.matches(lark.text, dumps(value)), value
    for wrong in ({}, {"leaf": {}}, {"leaf": leaf, "title": 3}, {"leaf": leaf, "invented": 1}, {"leaf": {"name": 1}}):
        assert not read.matches(dumps(wrong)), wrong


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_a_typical_call_is_accepted_and_an_invented_key_is_not(row):
    tool = ToolSpec(row["name"], "", row["parameters"])
    for dialect in ("card", "name_first"):
        keys = [("arguments", row["example"]), ("name", tool.name)][:: 1 if dialect == "card" else -1]
        options = {"tool_choice": "required", "dialect": dialect}
        assert accepts(f"<tool_call>\n{dumps(dict(keys))}\n</tool_call>", [tool], **options)
        invented = dict(keys) | {"arguments": {**row["example"], "invented_key": 1}}
        accepted = accepts(f"<tool_call>\n{dumps(invented)}\n</tool_call>", [tool], **options)
        assert accepted is (tool.name == "free_form")


def test_what_is_not_enforced_is_named_and_the_rest_is_kept():
    schema = {
        "properties": {
            "n": {"type": "integer", "minimum": 3},
            "code": {"type": "string", "pattern": "^a+$"},
            "tags": {"type": "array", "items": {"type": "string", "format": "date"}, "uniqueItems": True},
            "long": {"type": "string", "maxLength": MAX_REPEATED + 1},
        },
    }
    notes = gbnf([ToolSpec("f", "", schema)]).relaxed
    for path in (".n.minimum", ".code.pattern", ".tags.uniqueItems", ".tags.items.format", ".long.maxLength"):
        assert any(f"tool 'f': not enforced: .properties{path}" in note for note in notes), path
    assert accepts('{"n": 1, "code": "b", "tags": ["x", "x"]}', schema=schema)
    for wrong in ('{"n": "1"}', '{"code": 1}', '{"tags": "x"}', '{"tags": [1]}', '{"long": null}', '{"x": 1}'):
        assert not accepts(wrong, schema=schema)
    assert gbnf(TOOLS[:1]).relaxed == ()


def test_lengths_are_counted_up_to_a_bound():
    schema = {"type": "string", "minLength": 2, "maxLength": MAX_REPEATED}
    assert [allows(schema, "é" * n) for n in (1, 2, MAX_REPEATED, MAX_REPEATED + 1)] == [False, True, True, False]
    items = {"type": "array", "items": {"type": "null"}, "minItems": 1, "maxItems": MAX_REPEATED}
    assert [allows(items, [None] * n) for n in (0, 1, MAX_REPEATED, MAX_REPEATED + 1)] == [False, True, True, False]


def test_an_exponent_is_bounded_so_that_every_number_is_one():
    assert [accepts(f'{{"v": {n}}}', schema=_root({"type": "number"})) for n in ("-0.5e-10", "1E+5", "1e999")] == [
        True,
        True,
        False,
    ]


# --- random tools and turns


def written_under(lark: str, rng: random.Random, most: int = 250) -> str | None:
    """A random text of a Lark grammar, mostly towards its end; None where it does not end in time."""
    matcher = LLMatcher(TOKENIZER, lark, log_level=0)
    text = bytearray()
    while len(text) < most:
        mask = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint32)
        allowed = [byte for byte in range(END + 1) if mask[byte // 32] >> (byte % 32) & 1]
        closing = [byte for byte in allowed if byte in (*b'"}],< >', END)]
        byte = rng.choice(closing if closing and rng.random() < 0.35 else allowed)
        if byte == END:
            return text.decode("utf-8", "ignore")
        matcher.consume_token(byte)
        text.append(byte)
    return None


def test_what_a_random_model_writes_under_either_is_fine_with_the_other_or_the_parser():
    accepted = walked = 0
    for seed in range(40):
        rng = random.Random(seed)
        tools = random_tools(rng)
        options = {
            "tool_choice": rng.choice(["auto", "required", tools[0].name]),
            "dialect": rng.choice(["card", "name_first", "scratch_pad"]),
            "max_calls": rng.randint(1, 3),
        }
        grammar = gbnf(tools, **options)
        read = Gbnf(grammar.text)
        text = written_under(build_grammar(tools, **options).text, rng)
        # The local engine bounds exponents, its grammar does not.
        if text is not None and not re.search(r"\d[eE][+-]?\d{3}", text):
            assert read.matches(text), text
            accepted += 1
        text = read.walk(rng, 2000)
        if text is None:
            continue
        walked += 1
        parsed = parse_completion(text, tools)
        assert not parsed.invalid_tool_calls
        calls, complete = read_calls(text)
        assert complete
        assert [(call["name"], call["arguments"]) for call in calls] == [
            (call.name, call.arguments) for call in parsed.tool_calls
        ]
        assert bool(calls) or options["tool_choice"] == "auto"
        assert len(calls) <= options["max_calls"]
        if not grammar.relaxed:
            assert not problems_of(calls, tools)
    assert accepted > 10
    assert walked > 25


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_works_or_is_refused_in_bounded_time(name):
    tools = HOSTILE[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            build_grammar(tools, tool_choice="required")
        except SchemaError:
            return
        started = time.process_time()
        text = gbnf(tools, tool_choice="required").text
        assert time.process_time() - started < 20
    start = Gbnf(text).start()
    assert start


def test_a_key_may_come_again_only_where_it_is_named():
    schema = {"type": "object", "properties": {"k": {"type": "integer"}}, "additionalProperties": True}
    assert allows(schema, {"k": 1, "other": "x"})
    assert accepts('{"v": {"k": 1, "k": "x"}}', schema=_root(schema))
    assert any("written again" in note for note in gbnf(schema=_root(schema)).relaxed)
    assert Draft202012Validator(schema).is_valid({"k": 1})


def test_llguidance_reads_it_too():
    """A server of SGLang with llguidance is asked in Lark, but its reader is one more that must understand this."""
    for options in ({"tools": TOOLS}, {"tools": TOOLS, "schema": EMITTED["pydantic v2"]}, {"choices": ["a\n", 'b"']}):
        assert not LLMatcher.validate_grammar(grammar_from("ebnf", gbnf(**options).text))


def test_what_some_readers_misread_is_not_written():
    """Between quotes, xgrammar takes an ö for a byte, and reads as many digits as follow an escape."""
    tool = ToolSpec("größe_1", "", {"properties": {"naïve": {"enum": ["名前", "\x7f1"]}, "a": {"type": "number"}}})
    choices = ["ö\x851", "\x01b\x7f1", "b"]
    text = gbnf([tool], choices=choices).text
    quoted = re.findall(r'"((?:[^"\\]|\\.)*)"', re.sub(r"\[(?:[^\]\\]|\\.)*\]", "", text))
    assert any("gr" in piece for piece in quoted)
    assert all(piece.isascii() for piece in quoted)
    assert not any(re.match(r"\\[xuU]", escape) for piece in quoted for escape in re.findall(r"\\.", piece))
    assert all(accepts(choice, [tool], choices=choices) for choice in choices)
