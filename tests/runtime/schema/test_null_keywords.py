"""Null keywords count as absent wherever a schema comes in: in prompt, grammar and validation alike."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_runtime.answers.answer_type import AnswerType
from hermes_runtime.grammar import build_grammar
from hermes_runtime.messages import ToolSpec
from hermes_runtime.parser.calls import problems
from hermes_runtime.prompt import build_prompt
from hermes_runtime.schema.edits import without_null_keywords
from hermes_runtime.schema.keywords import MAX_SCHEMA_DEPTH
from hermes_runtime.turn import Turn, TurnRequest
from tests.support.scripted_engine import ScriptedEngine

NULLS = (
    "title", "description", "required", "enum", "$defs", "definitions", "anyOf", "oneOf", "allOf", "not", "format",
    "pattern", "minLength", "minimum", "items", "prefixItems", "additionalProperties", "patternProperties", "examples",
    "minItems", "$ref", "$schema", "$id",
)  # fmt: skip
PLAIN = {
    "type": "object",
    "properties": {
        "required": {"type": "string"},
        "items": {"type": "array", "items": {"type": "object", "properties": {"enum": {"enum": ["a", None]}}}},
        "default": {"anyOf": [{"type": "integer", "default": None}, {"const": None}]},
    },
    "required": ["required"],
}


def _with_nulls(node):
    """Return a schema with every null keyword that it does not use, at every place of a schema."""
    if not isinstance(node, dict):
        return node
    copy = {**node, **{key: None for key in NULLS if key not in node}}
    if "properties" in node:
        copy["properties"] = {name: _with_nulls(child) for name, child in node["properties"].items()}
    if "items" in node:
        copy["items"] = _with_nulls(node["items"])
    if "anyOf" in node:
        copy["anyOf"] = [_with_nulls(child) for child in node["anyOf"]]
    return copy


def test_null_keywords_are_left_out_and_null_values_kept():
    assert without_null_keywords(_with_nulls(PLAIN)) == PLAIN
    values = {"const": None, "default": None, "enum": [None], "examples": [{"a": None}]}
    assert without_null_keywords(values) == values
    assert without_null_keywords({"properties": None, "type": "object"}) == {"type": "object"}


def test_a_tool_with_nulls_is_the_tool_without_them(mistral_tokenizer):
    tool, noisy = ToolSpec("f", "", PLAIN), {"name": "f", "parameters": _with_nulls(PLAIN)}
    asked = [{"role": "user", "content": "x"}]
    prompts = [build_prompt(asked, tokenizer=mistral_tokenizer, tools=[given]).text for given in (tool, noisy)]
    assert prompts[0] == prompts[1]
    assert build_grammar([tool]) == build_grammar([noisy])
    broken = {"items": [{"enum": "b"}]}
    found = problems("f", broken, [ToolSpec.coerce(noisy)])
    assert found == problems("f", broken, [tool])
    assert len(found) == 2


def test_a_response_schema_with_nulls_is_the_schema_without_them(mistral_tokenizer):
    engine = ScriptedEngine(mistral_tokenizer, ["{}", "{}"])
    for schema in (PLAIN, _with_nulls(PLAIN)):
        list(Turn(engine, TurnRequest([{"role": "user", "content": "x"}], schema=schema)))
    assert engine.requests[0] == engine.requests[1]
    assert AnswerType.of(_with_nulls(PLAIN)).schema == PLAIN


def test_a_schema_too_deep_is_left_to_those_who_refuse_it():
    deep = {}
    for _ in range(100 * MAX_SCHEMA_DEPTH):
        deep = {"items": deep, "title": None}
    assert without_null_keywords(deep) is deep


_WORDS = st.sampled_from([*NULLS, "type", "properties", "const", "default", "x"])
_SCHEMAS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(_WORDS, inner, max_size=5) | st.lists(inner, max_size=3),
    max_leaves=15,
)


@settings(max_examples=50)
@given(_SCHEMAS)
def test_leaving_nulls_out_bears_anything_and_is_done_once(given):
    once = without_null_keywords(given)
    assert without_null_keywords(once) == once
