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
from hermes_runtime.messages import ToolChoice, ToolSpec
from hermes_runtime.parser import parse_completion
from tests.grammar_oracle import accepts, allows, matches

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
DAYS = {"type": "object", "properties": {"days": {"type": "integer", "minimum": 1}}, "required": ["days"]}
WEATHER, FORECAST = ToolSpec("weather", "", CITY), ToolSpec("forecast", "", DAYS)
TOOLS = [WEATHER, FORECAST]
WEATHER_CALL = '<tool_call>\n{"arguments": {"city": "Bonn"}, "name": "weather"}\n</tool_call>'
FORECAST_CALL = '<tool_call>\n{"arguments": {"days": 3}, "name": "forecast"}\n</tool_call>'
NAME_FIRST_CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bonn"}}\n</tool_call>'


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


@pytest.mark.parametrize("dialect", ["card", "json_args_first", "name_first", "scratch_pad"])
def test_the_dialect_fixes_the_key_order(dialect):
    arguments_first = dialect in ("card", "json_args_first")
    assert accepts(WEATHER_CALL, TOOLS, dialect=dialect) is arguments_first
    assert accepts(NAME_FIRST_CALL, TOOLS, dialect=dialect) is not arguments_first


@pytest.mark.parametrize("tools", [TOOLS, []])
def test_without_calls_the_tag_cannot_be_written(tools):
    for text, accepted in [("", True), ("Any text <tool> call", True), ("<tool_call>", False), (WEATHER_CALL, False)]:
        assert accepts(text, tools, tool_choice="none") is accepted


GAPS = st.text(" \t", max_size=3)
OPENINGS = st.builds(
    "<{}{}{}{}".format,
    GAPS,
    st.sampled_from(["tool_call", "Tool_Call", "TOOL_CALLS", "tool_call\u017f", "tool-call", "tool_callss"]),
    st.one_of(GAPS, st.text(" \n\r\x1c\u3000", max_size=5)),
    st.sampled_from([">", "{", "[", "", "x"]),
)


@settings(max_examples=150, deadline=None)
@given(opening=OPENINGS)
def test_what_the_parser_takes_for_an_opening_tag_cannot_be_written_as_text(opening):
    text = f"I write {opening} and more"
    read = parse_completion(text, TOOLS)
    opens = bool(read.tool_calls or read.invalid_tool_calls)
    assert accepts(text, TOOLS, tool_choice="none") is not opens
    assert accepts(text, TOOLS) is not opens
    # A variant of the tag opens a call under the same rules as the tag itself.
    called = accepts(f"I write {opening}{WEATHER_CALL.removeprefix('<tool_call>')}", TOOLS)
    assert called or not (opens and opening.endswith(">"))


def test_required_is_calls_alone():
    assert accepts(WEATHER_CALL, TOOLS, tool_choice="any")
    assert accepts(f"{FORECAST_CALL}\n{WEATHER_CALL}", TOOLS, tool_choice="required")
    for text in ("", "Hello", f" {WEATHER_CALL}", f"{WEATHER_CALL}\n"):
        assert not accepts(text, TOOLS, tool_choice="required")


def test_a_scratch_pad_may_precede_required_calls_and_holds_no_tag():
    def accepted(text: str) -> bool:
        return accepts(text, TOOLS, tool_choice="required", dialect="scratch_pad")

    assert accepted(NAME_FIRST_CALL)
    assert accepted(f"<scratch_pad>\nGoal: know {{}} </scratch>\n</scratch_pad>\n{NAME_FIRST_CALL}")
    assert not accepted("<scratch_pad>\nGoal: know\n</scratch_pad>")
    assert not accepted(f"<scratch_pad>{NAME_FIRST_CALL}</scratch_pad>\n{NAME_FIRST_CALL}")
    assert not accepted(f"<scratch_pad></scratch_pad> or\n</scratch_pad>\n{NAME_FIRST_CALL}")


def test_named_tools_are_the_only_ones():
    assert accepts(WEATHER_CALL, TOOLS, tool_choice="weather")
    assert not accepts(FORECAST_CALL, TOOLS, tool_choice="weather")
    allowed = ToolChoice("auto", ("forecast",))
    assert accepts("Hi", TOOLS, tool_choice=allowed)
    assert accepts(FORECAST_CALL, TOOLS, tool_choice=allowed)
    assert not accepts(WEATHER_CALL, TOOLS, tool_choice=allowed)


def test_the_number_of_calls_is_bounded():
    two = f"{WEATHER_CALL}\n{FORECAST_CALL}"
    assert not accepts(two, TOOLS, parallel_tool_calls=False)
    assert accepts(two, TOOLS, max_calls=2)
    assert not accepts(f"{two}\n{WEATHER_CALL}", TOOLS, max_calls=2)
    with pytest.raises(InvalidRequestError, match="max_calls"):
        build_grammar(TOOLS, max_calls=0)


# --- final forms


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
def test_final_forms_alone_and_beside_calls(form, right, wrong):
    assert accepts(right, **form)
    assert not accepts(wrong, **form)
    assert not accepts(f"Here: {right}", **form)
    for text, accepted in [(right, True), (wrong, False), (WEATHER_CALL, True), ("Hello", False)]:
        assert accepts(text, TOOLS, **form) is accepted
    assert not accepts(right, TOOLS, tool_choice="required", **form)
    assert accepts(WEATHER_CALL, TOOLS, tool_choice="required", **form)
    assert accepts(right, TOOLS, tool_choice="none", **form)
    assert not accepts(WEATHER_CALL, TOOLS, tool_choice="none", **form)


def test_every_choice_is_accepted_whole():
    choices = ["New", "New York", "ö", 'a "b" \\ /.*/', "<tool_call>", "x\ny\x7f"]
    assert all(accepts(choice, choices=choices) for choice in choices)


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


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)


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
