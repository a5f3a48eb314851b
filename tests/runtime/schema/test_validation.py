"""What a call breaks is named by the schema's own keywords; unusable schemas are refused before anything runs."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from hermes_runtime.errors import SchemaError
from hermes_runtime.messages import ToolSpec
from hermes_runtime.parser.calls import problems
from hermes_runtime.schema.validation import check_schema, value_problems

FERRY = ToolSpec(
    "book_ferry",
    parameters={
        "type": "object",
        "properties": {
            "route": {"type": "string"},
            "passengers": {"type": "integer", "minimum": 1},
            "cabin": {"enum": ["inside", "deck"]},
            "stops": {"type": "array", "items": {"$ref": "#/$defs/stop"}},
        },
        "required": ["route", "passengers"],
        "additionalProperties": False,
        "$defs": {"stop": {"type": "object", "properties": {"port": {"type": "string"}}, "required": ["port"]}},
    },
)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"route": "A-B", "passengers": 2}, set()),
        ({"route": "A-B", "passengers": 2.0}, set()),
        ({"route": "A-B", "passengers": True}, {("type", "$.passengers")}),
        ({"route": "A-B", "passengers": "2"}, {("type", "$.passengers")}),
        ({"route": "A-B", "passengers": 0}, {("minimum", "$.passengers")}),
        ({"passengers": 2}, {("required", "$")}),
        ({"route": "A-B", "passengers": 2, "cabin": "suite"}, {("enum", "$.cabin")}),
        ({"route": "A-B", "passengers": 2, "seat": 1}, {("additionalProperties", "$")}),
        ({"route": "A-B", "passengers": 2, "stops": [{"port": "C"}, {}]}, {("required", "$.stops[1]")}),
        ({"route": 1}, {("required", "$"), ("type", "$.route")}),
    ],
)
def test_problems_name_the_keyword_and_the_place(arguments: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert {(problem.reason, problem.path) for problem in problems("book_ferry", arguments, [FERRY])} == expected


def test_an_unknown_tool_is_a_problem_only_where_tools_were_given() -> None:
    (problem,) = problems("book_plane", {}, [FERRY])
    assert (problem.reason, problem.path) == ("unknown_tool", "$")
    assert "book_ferry" in problem.detail
    assert problems("book_plane", {}, []) == ()


def test_problems_stay_short() -> None:
    assert all(len(str(problem)) < 400 for problem in problems("book_ferry", {"route": ["x" * 10_000]}, [FERRY]))
    many = problems("book_ferry", {"stops": [{} for _ in range(1000)]}, [FERRY])
    assert len(many) <= 20


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["inside", "A-B"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["route", "passengers", "stops", "port", "x"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["route", "passengers", "cabin", "stops", "x"]), JSON))
def test_problems_agree_with_the_validator(arguments: dict[str, Any]) -> None:
    valid = Draft202012Validator(dict(FERRY.parameters)).is_valid(arguments)
    assert (problems("book_ferry", arguments, [FERRY]) == ()) == valid


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ({"type": "strin"}, "strin"),
        ({"properties": []}, "properties"),
        ({"pattern": "("}, "pattern"),
        ({"patternProperties": {"(": {}}}, "patternProperties"),
        ({"$ref": "#/$defs/nowhere"}, "nowhere"),
        ({"properties": {"a": {"items": {"$ref": "#/$defs/nowhere"}}}}, "nowhere"),
        ({"$ref": "https://example.org/schema.json"}, "not fetched"),
        ({"$defs": {"a": {"$ref": "other.json"}}}, "other.json"),
        ({"$ref": "#"}, "itself"),
        ({"enum": {1, 2}}, "no JSON value"),
        ("object", "str"),
        (None, "NoneType"),
    ],
)
def test_an_unusable_schema_is_refused_with_its_place(schema: Any, complaint: str) -> None:
    with pytest.raises(SchemaError, match=r"^tool 'f': ") as caught:
        check_schema(schema, where="tool 'f'")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        MappingProxyType({"type": "object"}),
        {"$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}}}}, "$ref": "#/$defs/node"},
        {"properties": {"$ref": {"type": "string"}}, "enum": [{"$ref": "data, no reference"}]},
        {"$id": "https://example.org/a", "$defs": {"x": {"$anchor": "here"}}, "properties": {"p": {"$ref": "#here"}}},
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "definitions": {"s": {"type": "string"}},
            "properties": {"p": {"$ref": "#/definitions/s"}},
        },
    ],
)
def test_a_usable_schema_is_accepted(schema: Any) -> None:
    check_schema(schema, where="tool 'f'")


def test_a_value_too_deep_for_a_recursive_schema_is_a_problem_and_no_crash() -> None:
    schema = {"$defs": {"list": {"type": "array", "items": {"$ref": "#/$defs/list"}}}, "$ref": "#/$defs/list"}
    value: list[Any] = []
    for _ in range(190):
        value = [value]
    assert value_problems([[[]]], schema) == ()
    assert all((problem.reason, problem.path) == ("depth", "$") for problem in value_problems(value, schema))


def test_tuples_of_draft_7_need_no_label():
    schema = {
        "type": "object",
        "properties": {"at": {"type": "array", "items": [{"type": "number"}, {"type": "string"}]}},
    }
    check_schema(schema, where="tool 'f'")
    assert value_problems({"at": [1, "x"]}, schema) == ()
    assert [problem.reason for problem in value_problems({"at": ["x", 1]}, schema)] == ["type", "type"]
