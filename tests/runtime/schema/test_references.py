"""References to definitions that stand under no keyword of JSON Schema, as OpenAPI documents have them."""

from __future__ import annotations

import pytest

from hermes_runtime.errors import SchemaError
from hermes_runtime.grammar import build_grammar
from tests.support.gbnf_oracle import read
from tests.support.grammar_oracle import dumps, matches

PORT = {"type": "object", "properties": {"name": {"type": "string"}, "next": {"$ref": "#/components/schemas/Port"}}}


def grammar(schema, language):
    return build_grammar(schema=schema, tool_choice="none", language=language)


def accepts(schema, value, language):
    made = grammar(schema, language)
    return matches(made.text, dumps(value)) if language == "lark" else read(made.text).matches(dumps(value))


def pointing_to(pointer, **elsewhere):
    return {"type": "object", "properties": {"v": {"$ref": pointer}}, "required": ["v"], **elsewhere}


@pytest.mark.parametrize("language", ["lark", "gbnf"])
@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        (pointing_to("#/components/n", components={"n": {"type": "number"}}), 1, "1"),
        (
            pointing_to("#/components/schemas/Port", components={"schemas": {"Port": PORT}}),
            {"name": "a", "next": {"name": "b"}},
            {"name": "a", "next": {"name": 1}},
        ),
        (pointing_to("#/$defs/space/n", **{"$defs": {"space": {"n": {"type": "number"}}}}), 1, "1"),
        (pointing_to("#/a/n", a={"n": {"type": "string"}}, **{"$defs": {"n": {"type": "number"}}}), "1", 1),
        (pointing_to("#/a/t", a={"t": {"items": [{"type": "number"}], "title": "T"}}), [1], ["1"]),
        (pointing_to("#/a/o~1n", a={"o/n": {"$ref": "#/b"}}, b={"type": "number"}), 1, "1"),
    ],
)
def test_a_definition_may_stand_anywhere(schema, right, wrong, language):
    assert accepts(schema, {"v": right}, language)
    assert not accepts(schema, {"v": wrong}, language)


@pytest.mark.parametrize("language", ["lark", "gbnf"])
def test_what_is_lost_of_such_a_definition_is_named(language):
    schema = pointing_to("#/components/n", components={"n": {"type": "array", "uniqueItems": True, "typ": 1}})
    told = " ".join(grammar(schema, language).relaxed)
    assert "uniqueItems" in told
    assert "typ: no known keyword" in told


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        ({"type": "number?"}, "must be one or several of"),
        ({"properties": 5}, "must be an object of schemas"),
        ({"$ref": "#/a/other"}, "points to nothing"),
        ({"allOf": [{"$ref": "#/a/n"}]}, "no finite JSON value"),
    ],
)
def test_such_a_definition_is_checked_like_any(definition, reason):
    with pytest.raises(SchemaError, match=reason):
        grammar(pointing_to("#/a/n", a={"n": definition}), "lark")
