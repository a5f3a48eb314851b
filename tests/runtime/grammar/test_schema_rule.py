"""JSON Schemas in a grammar: as frameworks write them, as they are broken, and as the engine cannot take them."""

from __future__ import annotations

import json
import time
import warnings
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from llguidance import LLMatcher

from hermes_runtime.errors import SchemaError
from hermes_runtime.grammar import build_grammar
from hermes_runtime.messages import ToolSpec
from tests.support.grammar_oracle import TOKENIZER, allows, matches
from tests.support.schema_rows import EMITTED, ORACLE_SCHEMAS, ORACLE_VALUES

WEATHER = ToolSpec("weather", "", {"properties": {"city": {"type": "string"}}})

# --- schemas as frameworks write them


@pytest.mark.parametrize("source", EMITTED)
def test_schemas_of_python_types(source):
    grammar = build_grammar(schema=EMITTED[source], tool_choice="none")
    assert grammar.relaxed == ()
    leaf = {"name": "oak"}
    first = {"leaf": leaf} if source == "dataclass" else {}
    rest = {} if source == "dataclass" else {"leaf": leaf}
    nullable = {} if source == "pydantic v1" else {"title": None}
    for value in ({"leaf": leaf}, first | nullable | {"default": 4} | rest, first | rest | {"kids": [{"leaf": leaf}]}):
        complete = value
        if source == "pydantic v2, for output":
            leaf_out, rest_out = {"name": "oak", "color": "blue"}, {"pair": [1, "x"], "kids": [], "kind": "tree"}
            complete = {"title": None, "default": 4, "leaf": leaf_out} | rest_out
        assert matches(grammar.lark, json.dumps(complete)), complete
        Draft202012Validator(
            json.loads(json.dumps(EMITTED[source]).replace('"items": [', '"prefixItems": ['))
        ).validate(complete)
    for wrong in ({}, {"leaf": {}}, {"leaf": leaf, "title": 3}, {"leaf": leaf, "invented": 1}, {"leaf": {"name": 1}}):
        assert not matches(grammar.lark, json.dumps(wrong)), wrong


def test_parameters_that_may_be_null_are_an_object():
    schema = {"type": ["object", "null"], "properties": {"a": {"type": "integer"}}}
    assert allows(schema, {"a": 1})
    assert not allows(schema, None)


def test_a_tagged_union_is_enforced_exactly():
    square = {"type": "object", "properties": {"kind": {"const": "square"}, "side": {}}, "required": ["kind", "side"]}
    disc = {"type": "object", "properties": {"kind": {"enum": ["disc"]}, "radius": {}}, "required": ["kind", "radius"]}
    branches = [{"$ref": "#/$defs/square"}, {"$ref": "#/$defs/disc"}, {"type": "null"}]
    schema = {"properties": {"shape": {"oneOf": branches}}, "$defs": {"square": square, "disc": disc}}
    assert build_grammar([ToolSpec("f", "", schema)]).relaxed == ()
    assert allows(schema, {"shape": {"kind": "disc", "radius": 1}})
    assert allows(schema, {"shape": None})
    assert not allows(schema, {"shape": {"kind": "disc", "side": 1}})
    overlapping = {"properties": {"n": {"oneOf": [{"type": "integer"}, {"type": "number", "maximum": 3}]}}}
    assert "oneOf" in build_grammar([ToolSpec("f", "", overlapping)]).relaxed[0]


def test_properties_named_like_keywords_survive():
    names = ["title", "description", "default", "examples", "nullable", "$comment", "x-guidance", "properties", "items"]
    schema = {"type": "object", "properties": {name: {"type": "integer"} for name in names}, "required": names}
    assert allows(schema, dict.fromkeys(names, 1))
    assert not allows(schema, dict.fromkeys(names[1:], 1))
    assert allows({"properties": {"a": {"enum": [{"title": "T", "default": 1}]}}}, {"a": {"title": "T", "default": 1}})


@pytest.mark.parametrize("schema", ORACLE_SCHEMAS, ids=lambda schema: json.dumps(schema)[:60])
def test_a_value_is_accepted_exactly_where_jsonschema_accepts_it(schema):
    root = {"type": "object", "properties": {"v": schema}, "required": ["v"]}
    if isinstance(schema, dict) and "$defs" in schema:
        root["$defs"] = schema["$defs"]
    validator = Draft202012Validator(root, format_checker=Draft202012Validator.FORMAT_CHECKER)
    lark = build_grammar(schema=root).lark
    for value in ORACLE_VALUES:
        expected = validator.is_valid({"v": value})
        if schema == ORACLE_SCHEMAS[18] and isinstance(value, dict):
            expected = expected and value.keys() <= {"a", "k"}
        assert matches(lark, json.dumps({"v": value}, ensure_ascii=False)) is expected, value


# --- which objects are closed


def test_objects_that_list_their_properties_are_closed_unless_they_say_otherwise():
    inner = {"type": "object", "properties": {"a": {"type": "integer"}}}
    value = {"in": {"a": 1, "b": 2}}
    assert not allows({"type": "object", "properties": {"in": inner}}, value)
    assert allows({"type": "object", "properties": {"in": {**inner, "additionalProperties": True}}}, value)
    assert allows({"type": "object", "properties": {"in": {"type": "object"}}}, value)
    assert not allows({"type": "object", "properties": {}}, {"a": 1})
    assert allows({"type": "object"}, {"a": 1})
    assert not allows({"$ref": "#/$defs/i", "$defs": {"i": inner}}, {"a": 1, "b": 2})


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"properties": {"a": {}}, "allOf": [{"properties": {"b": {}}, "required": ["b"]}]}, {"a": 1, "b": 1}),
        ({"allOf": [{"$ref": "#/$defs/x"}, {"$ref": "#/$defs/y"}],
          "$defs": {"x": {"type": "object", "properties": {"a": {}}},
                    "y": {"type": "object", "properties": {"b": {}}}}},
         {"a": 1, "b": 1}),
        ({"properties": {"a": {}}, "required": ["b"]}, {"a": 1, "b": 1}),
        ({"properties": {"a": {}}, "minProperties": 2}, {"a": 1, "b": 1}),
        ({"properties": {"kind": {}}, "oneOf": [
            {"properties": {"kind": {"const": "x"}, "x": {}}, "required": ["kind", "x"]},
            {"properties": {"kind": {"const": "y"}, "y": {}}, "required": ["kind", "y"]}]},
         {"kind": "y", "y": 1}),
    ],
)  # fmt: skip
def test_combined_objects_stay_satisfiable(schema, value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert allows(schema, value)


# --- bad schemas


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        ({"type": "string"}, "must describe an object"),
        ({"type": 3}, "must describe an object"),
        ({"type": "object", "properties": 3}, r"\.properties: must be an object"),
        ({"properties": {"a": {"prefixItems": 3}}}, r"\.a\.prefixItems: must be"),
        ({"properties": {"a": 3}}, r"\.properties\.a: a schema is"),
        ({"properties": {"a": {"type": "str"}}}, r"\.properties\.a\.type: must be.*'str'"),
        ({"properties": ["a"]}, "properties"),
        ({"properties": {"a": {"$ref": "https://example.com/s.json"}}}, r"\.properties\.a.*outside"),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}}, r"\.properties\.a.*points to nothing"),
        ({"properties": {"a": {"enum": []}}, "required": ["a"]}, "satisfies|satisfiable|non-empty|short"),
        ({"properties": {"a": False}, "required": ["a"]}, "satisf"),
        ({"properties": {"a": {"type": "integer", "minimum": 5, "maximum": 3}}, "required": ["a"]}, "satisf"),
        ({"properties": {"next": {"$ref": "#"}}, "required": ["next"]}, "requires itself"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "requires itself"),
        ({"properties": {"a": {"default": float("nan"), "enum": [float("nan")]}}}, "not plain JSON"),
        ({"properties": {"a": {"enum": [object()]}}}, "not plain JSON"),
    ],
)
def test_a_broken_schema_is_refused_with_tool_and_path(schema, names):
    with pytest.raises(SchemaError, match=f"(?s)tool 'bad'.*{names}"):
        build_grammar([WEATHER, ToolSpec("bad", "", schema)])


def test_a_branch_without_end_is_left_out():
    schema = {
        "type": "object",
        "properties": {"n": {"$ref": "#/$defs/n"}, "list": {"type": "array", "items": {"$ref": "#/$defs/n"}}},
        "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"]}},
    }
    assert allows(schema, {})
    assert allows(schema, {"list": []})
    assert not matches(build_grammar([ToolSpec("f", "", schema)]).lark, '<tool_call>\n{"arguments": {"n')


def test_what_the_grammar_cannot_enforce_is_named():
    schema = {
        "properties": {
            "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
            "code": {"type": "string", "pattern": "^(?!x)a+$"},
            "big": {"type": "integer", "maximum": 2**63},
            "n": {"type": "integer"},
        }
    }
    notes = "\n".join(build_grammar([ToolSpec("f", "", schema)]).relaxed)
    assert all(word in notes for word in ("tool 'f'", "uniqueItems", ".code.pattern", "look-ahead", ".big"))
    assert allows(schema, {"tags": ["a", "a"], "code": "x", "big": 3})
    assert not allows(schema, {"tags": "a"})
    assert not allows(schema, {"n": "a"})
    assert not allows(schema, {"code": 1})


def test_a_property_beyond_the_engine_may_hold_anything():
    strange = {"patternProperties": {"^(?!x)": {"type": "integer"}}, "type": "object"}
    schema = {"properties": {"strange": strange, "n": {"type": "integer"}}}
    assert "'strange' may hold anything" in build_grammar([ToolSpec("f", "", schema)]).relaxed[0]
    assert allows(schema, {"strange": {"a": "b"}, "n": 1})
    assert not allows(schema, {"n": "a"})


def test_a_schema_beyond_the_engine_keeps_the_shape_and_warns_once():
    recursive = {"$defs": {"n": {"properties": {"c": {"$ref": "#/$defs/n", "required": ["c"], "minProperties": 1}}}}}
    schema = {"type": "object", "allOf": [{"$ref": "#/$defs/n", "minProperties": 1}], **recursive}
    with pytest.warns(UserWarning, match="tool 'f'.*shape"):
        assert allows(schema, {"anything": [1]})
    with warnings.catch_warnings(record=True) as caught:
        for _ in range(2):
            build_grammar([ToolSpec("f", "", schema)])
    assert len(caught) <= 1


@pytest.mark.parametrize(
    "tools",
    [
        [ToolSpec("f", "", {"properties": {"a": {"enum": [f"value {i}" for i in range(5000)]}}})],
        [
            ToolSpec(f"f{i}", "", {"properties": {f"p{i}_{k}": {"type": "string"} for k in range(5)}})
            for i in range(200)
        ],
        [ToolSpec("f", "", {"properties": {f"p{k}": {"type": "integer"} for k in range(1000)}})],
        [
            ToolSpec(
                "f",
                "",
                {"properties": {"a": {"type": "string", "pattern": "([a-z]{1,999}){1,999}", "maxLength": 10**6}}},
            )
        ],
    ],
)
def test_large_tool_sets_are_built_in_bounded_time(tools):
    started = time.process_time()
    matcher = LLMatcher(TOKENIZER, build_grammar(tools, tool_choice="required").lark, log_level=0)
    assert not matcher.is_error()
    assert time.process_time() - started < 20


def test_tools_too_many_to_be_told_apart_by_their_arguments_are_named_first():
    tools = [
        ToolSpec(f"f{i}", "", {"properties": {f"p{i}_{k}": {"type": "string"} for k in range(10)}}) for i in range(60)
    ]
    lark = build_grammar(tools, tool_choice="required", dialect="card").lark
    assert matches(lark, '<tool_call>\n{"name": "f7", "arguments": {"p7_2": "x"}}\n</tool_call>')
    few = build_grammar(tools[:20], tool_choice="required", dialect="card").lark
    assert matches(few, '<tool_call>\n{"arguments": {"p7_2": "x"}, "name": "f7"}\n</tool_call>')


def test_boundless_depth_and_size_are_refused():
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(300):
        deep = {"type": "object", "properties": {"a": deep}}
    with pytest.raises(SchemaError, match="nested deeper"):
        build_grammar([ToolSpec("f", "", deep)])
    for _ in range(20_000):
        deep = {"items": deep}
    with pytest.raises(SchemaError, match="tool 'f'"):
        build_grammar([ToolSpec("f", "", deep)])
    wide = {"properties": {f"p{index}": {} for index in range(2001)}}
    with pytest.raises(SchemaError, match="tool 'f': 2001 optional"):
        build_grammar([ToolSpec("f", "", wide)])
    many = {"properties": {"a": {"anyOf": [{"const": index} for index in range(10_000)]}}}
    with pytest.raises(SchemaError, match="subschemas"):
        build_grammar([ToolSpec("f", "", many)])
    values = {"properties": {"a": {"enum": list(range(100_000))}}}
    with pytest.raises(SchemaError, match="as large as"):
        build_grammar([ToolSpec("f", "", values)])
    with pytest.raises(SchemaError, match="fewer tools"):
        build_grammar([ToolSpec(f"f{i}", "", {"properties": {f"p{i}_{k}": {} for k in range(1400)}}) for i in range(2)])
    half = [{"const": index} for index in range(3_000)]
    with pytest.raises(SchemaError, match="fewer tools"):
        build_grammar([ToolSpec(f"f{i}", "", {"properties": {f"a{i}": {"anyOf": half}}}) for i in range(4)])
    huge = {"properties": {"a": {"enum": ["x" * 1000 + str(i) for i in range(2000)]}}}
    with pytest.raises(SchemaError, match="characters"):
        build_grammar([ToolSpec("f", "", huge)])
