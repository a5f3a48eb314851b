"""Which turns a grammar allows: tools, tool choice, dialects, final forms, names and keys."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_runtime.errors import InvalidRequestError, SchemaError, ToolChoiceError
from hermes_runtime.grammar import build_grammar
from hermes_runtime.messages import ToolSpec
from hermes_runtime.parser import parse_completion
from tests.support.grammar_oracle import accepts, allows, matches
from tests.support.strategies import NAMES, OPENINGS
from tests.support.turn_grammar import (
    CITY,
    DAYS,
    FORECAST_CALL,
    NAME_FIRST_CALL,
    TOOLS,
    WEATHER_CALL,
    TurnGrammarContract,
)


def test_building_a_grammar_imports_no_torch():
    code = "import sys, hermes_runtime.grammar; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- which calls a turn may hold


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("", True),
        ("Hello, <b>you</b>.\r\n", True),
        (WEATHER_CALL, True),
        (f"Let me look.\n{WEATHER_CALL}", True),
        (f"{WEATHER_CALL}\n{FORECAST_CALL}", True),
        ("I write <tool_call", True),
        ("I write <tool_call> and no call", False),
        (f"{WEATHER_CALL} Done.", False),
        (f"{WEATHER_CALL}{FORECAST_CALL}", False),
        (WEATHER_CALL.replace("weather", "weather2"), False),
        (WEATHER_CALL.replace("city", "days"), False),
        (FORECAST_CALL.replace("3", '"3"'), False),
        (FORECAST_CALL.replace("3", "0"), False),
        (FORECAST_CALL.replace("3", "3 "), False),
        (NAME_FIRST_CALL, False),
        (WEATHER_CALL[:-1], False),
    ],
)
def test_auto_is_text_and_then_calls(text, accepted):
    assert accepts(text, TOOLS) is accepted


@pytest.mark.parametrize("tools", [TOOLS, []])
def test_without_calls_the_tag_cannot_be_written(tools):
    for text, accepted in [("", True), ("Any text <tool> call", True), ("<tool_call>", False), (WEATHER_CALL, False)]:
        assert accepts(text, tools, tool_choice="none") is accepted


@settings(max_examples=150, deadline=None)
@given(opening=OPENINGS)
def test_what_the_parser_takes_for_an_opening_tag_cannot_be_written_as_text(opening):
    text = f"I write {opening}{{}} and more"  # without an object after it, the parser takes no tag for a call's
    read = parse_completion(text, TOOLS)
    opens = bool(read.tool_calls or read.invalid_tool_calls)
    assert accepts(text, TOOLS, tool_choice="none") is not opens
    assert accepts(text, TOOLS) is not opens
    # A variant of the tag opens a call under the same rules as the tag itself.
    called = accepts(f"I write {opening}{WEATHER_CALL.removeprefix('<tool_call>')}", TOOLS)
    assert called or not (opens and opening.endswith(">"))


def test_a_turn_may_make_a_call():
    with pytest.raises(InvalidRequestError, match="max_calls"):
        build_grammar(TOOLS, max_calls=0)


# --- final forms


class TestLark(TurnGrammarContract):
    accepts = staticmethod(accepts)

    @pytest.mark.parametrize(
        ("form", "right", "wrong"),
        [
            ({"schema": DAYS}, '{"days": 2}', '{"days": 0}'),
            ({"schema": {"type": "array", "items": {"type": "integer"}}}, "[1, 2]", "[1,2]"),
            ({"schema": {}}, '{"a": [1, {"b": null}]}', "[]"),
            ({"json_object": True}, '{"a": [1, {"b": null}]}', '"text"'),
            ({"regex": r"\d{2,3}/[a-z]+|none"}, "123/ab", "1/ab"),
            ({"regex": r"^(yes|no)\.$"}, "yes.", "yes"),
            ({"choices": ["New", "New York", 'a "b" \\ /.*/']}, "New York", "New Y"),
        ],
    )
    def test_final_forms_alone_and_beside_calls(self, form, right, wrong):
        self.check_final_form(form, right, wrong)


@pytest.mark.parametrize(
    ("options", "error", "names"),
    [
        ({"schema": CITY, "regex": "a"}, InvalidRequestError, "schema and regex"),
        ({"choices": []}, InvalidRequestError, "choices"),
        ({"choices": "yes"}, InvalidRequestError, "choices"),
        ({"choices": [""]}, InvalidRequestError, "choices"),
        ({"regex": "(?=a)b"}, SchemaError, "look-around"),
        ({"regex": "("}, SchemaError, r"\("),
        ({"regex": ""}, SchemaError, "empty"),
        ({"regex": "(", "tools": TOOLS, "tool_choice": "required"}, SchemaError, r"\("),
        ({"dialect": "klingon"}, InvalidRequestError, "klingon"),
        ({"tool_choice": "any"}, ToolChoiceError, "no tools"),
        ({"tool_choice": "weather"}, ToolChoiceError, "weather"),
    ],
)
def test_contradictory_or_unusable_options_are_refused(options, error, names):
    with pytest.raises(error, match=names):
        build_grammar(**options)


# --- names and keys


@settings(max_examples=60, deadline=None)
@given(names=st.lists(NAMES, min_size=1, max_size=3, unique=True), dialect=st.sampled_from(["card", "name_first"]))
def test_any_name_can_be_called_and_no_other(names, dialect):
    tools = [ToolSpec(name, "", CITY if index else DAYS) for index, name in enumerate(names)]
    lark = build_grammar(tools, tool_choice="required", dialect=dialect).lark
    for name, arguments in zip(names, [{"days": 3}, *[{"city": "Bonn"}] * 2], strict=False):
        keys = [("arguments", arguments), ("name", name)][:: 1 if dialect == "card" else -1]
        call = json.dumps(dict(keys), ensure_ascii=False)
        assert matches(lark, f"<tool_call>\n{call}\n</tool_call>")
        assert not matches(lark, f"<tool_call>\n{json.dumps(dict(keys) | {'name': name + 'x' * 30})}\n</tool_call>")


@settings(max_examples=40, deadline=None)
@given(
    key=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f"), max_size=12),
    value=st.text(max_size=12),
)
def test_any_key_and_any_string_can_be_written(key, value):
    schema = {"type": "object", "properties": {key: {"type": "string"}}, "required": [key]}
    assert allows(schema, {key: value.encode("utf-8", "ignore").decode()})
    assert not allows(schema, {key: 1})


def test_a_name_that_is_no_text_is_refused():
    with pytest.raises(InvalidRequestError, match="no Unicode"):
        build_grammar([ToolSpec("\ud800", "", CITY)])


def test_a_lone_surrogate_in_a_form_is_replaced():
    def written(text):
        tool = ToolSpec("f", text, {"type": "object", "properties": {text: {"enum": [text]}}})
        forms = [
            {"schema": {"type": "object", "title": text, "const": {text: text}}},
            {"choices": [text]},
            {"regex": text},
        ]
        return [build_grammar([tool]).text, *(build_grammar(**form).text for form in forms)]

    assert written("a\ud83d") == written("a\N{REPLACEMENT CHARACTER}")
