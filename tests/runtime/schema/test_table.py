"""A keyword is one row: what it says of the grammars and the check is so, and the page says what it says.

Each keyword that judges values has an example, and the grammars and the check are asked.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from hermes_runtime.grammar import build_grammar
from hermes_runtime.grammar.gbnf_schema import MAX_REPEATED
from hermes_runtime.schema.table import ANNOTATION, CHECKED, KEYWORDS, LOST, NEUTRAL, is_unknown
from hermes_runtime.schema.validation import value_problems
from tests.support import grammar_oracle
from tests.support.gbnf_oracle import read
from tests.support.grammar_oracle import dumps
from tests.support.places import DOCS

PAGE = (DOCS / "constraint.md").read_text(encoding="utf-8")
STRING, NUMBER, ARRAY, OBJECT = ({"type": name} for name in ("string", "number", "array", "object"))
# A schema with the keyword, a value of it, and one that breaks the keyword and nothing else.
EXAMPLES = {
    "type": ({"type": "string"}, "a", 1),
    "enum": ({"enum": ["a", 2]}, 2, "b"),
    "const": ({"const": "a"}, "a", "b"),
    "properties": ({"properties": {"a": NUMBER}, **OBJECT}, {"a": 1}, {"a": "1"}),
    "required": ({"required": ["a"], **OBJECT}, {"a": 1}, {"b": 1}),
    "additionalProperties": ({"additionalProperties": NUMBER, **OBJECT}, {"a": 1}, {"a": "1"}),
    "items": ({"items": NUMBER, **ARRAY}, [1], ["1"]),
    "prefixItems": ({"prefixItems": [NUMBER], **ARRAY}, [1, "a"], ["1"]),
    "additionalItems": ({"items": [NUMBER], "additionalItems": False, **ARRAY}, [1], [1, 2]),
    "allOf": ({"allOf": [NUMBER]}, 1, "a"),
    "anyOf": ({"anyOf": [NUMBER, {"type": "null"}]}, None, "a"),
    "$ref": ({"$ref": "#/$defs/number"}, 1, "a"),
    "minLength": ({"minLength": 2, **STRING}, "ab", "a"),
    "maxLength": ({"maxLength": 2, **STRING}, "ab", "abc"),
    "minItems": ({"minItems": 2, **ARRAY}, [1, 2], [1]),
    "maxItems": ({"maxItems": 2, **ARRAY}, [1, 2], [1, 2, 3]),
    "pattern": ({"pattern": "^a+$", **STRING}, "aa", "ab"),
    "format": ({"format": "date", **STRING}, "2024-02-29", "tomorrow"),
    "minimum": ({"minimum": 2, **NUMBER}, 2, 1),
    "maximum": ({"maximum": 2, **NUMBER}, 2, 3),
    "exclusiveMinimum": ({"exclusiveMinimum": 2, **NUMBER}, 3, 2),
    "exclusiveMaximum": ({"exclusiveMaximum": 2, **NUMBER}, 1, 2),
    "multipleOf": ({"multipleOf": 5, "type": "integer"}, 10, 12),
    "uniqueItems": ({"uniqueItems": True, **ARRAY}, [1, 2], [1, 1]),
    "minProperties": ({"minProperties": 1, **OBJECT}, {"a": 1}, {}),
    "maxProperties": ({"maxProperties": 1, **OBJECT}, {"a": 1}, {"a": 1, "b": 2}),
    "patternProperties": ({"patternProperties": {"^a": NUMBER}, **OBJECT}, {"ab": 1}, {"ab": "1"}),
    "propertyNames": ({"propertyNames": {"maxLength": 1}, **OBJECT}, {"a": 1}, {"ab": 1}),
    "contains": ({"contains": NUMBER, **ARRAY}, ["a", 1], ["a"]),
    "minContains": ({"contains": NUMBER, "minContains": 2, **ARRAY}, [1, 2], [1]),
    "maxContains": ({"contains": NUMBER, "maxContains": 1, **ARRAY}, [1], [1, 2]),
    "not": ({"not": NUMBER}, "a", 1),
    "if": ({"if": STRING, "then": {"maxLength": 1}}, "a", "ab"),
    "then": ({"if": STRING, "then": {"maxLength": 1}}, "a", "ab"),
    "else": ({"if": NUMBER, "else": {"maxLength": 1}}, "a", "ab"),
    "dependentRequired": ({"dependentRequired": {"a": ["b"]}, **OBJECT}, {"a": 1, "b": 1}, {"a": 1}),
    "dependentSchemas": ({"dependentSchemas": {"a": {"required": ["b"]}}, **OBJECT}, {"a": 1, "b": 1}, {"a": 1}),
    "dependencies": ({"dependencies": {"a": ["b"]}, **OBJECT}, {"a": 1, "b": 1}, {"a": 1}),
    "unevaluatedItems": ({"unevaluatedItems": False, **ARRAY}, [], [1]),
    "unevaluatedProperties": ({"unevaluatedProperties": False, **OBJECT}, {}, {"a": 1}),
    "oneOf": ({"oneOf": [STRING, {"type": "null"}]}, None, 1),
    "$dynamicRef": ({"$dynamicRef": "#number"}, 1, "a"),
    "$recursiveRef": ({"$recursiveRef": "#"}, {}, 1),
}
DEFINITIONS = {"$defs": {"number": {"type": "number", "$dynamicAnchor": "number"}}}
JUDGING = [name for name, row in KEYWORDS.items() if (row.lark, row.gbnf) != (NEUTRAL, NEUTRAL)]


def asked_of(keyword):
    schema, right, wrong = EXAMPLES[keyword]
    definitions = DEFINITIONS if "Ref" in keyword or keyword == "$ref" else {}
    if keyword == "$ref":
        definitions = {"$defs": {"number": NUMBER}}
    return {"type": "object", "properties": {"v": schema}, "required": ["v"], **definitions}, {"v": right}, {"v": wrong}


def accepts(language, schema, value):
    grammar = build_grammar(schema=schema, tool_choice="none", language=language)
    if language == "lark":
        return grammar_oracle.matches(grammar.lark, dumps(value))
    return read(grammar.text).matches(dumps(value))


def test_every_keyword_that_judges_has_an_example():
    assert [*EXAMPLES] == JUDGING


@pytest.mark.parametrize("keyword", [name for name in JUDGING if name != "$recursiveRef"])
def test_the_example_turns_on_its_keyword(keyword):
    schema, right, wrong = asked_of(keyword)
    draft = Draft7Validator if keyword in ("additionalItems", "dependencies") else Draft202012Validator
    validator = draft(schema, format_checker=draft.FORMAT_CHECKER)
    assert validator.is_valid(right)
    assert not validator.is_valid(wrong)


@pytest.mark.parametrize("language", ["lark", "gbnf"])
@pytest.mark.parametrize("keyword", JUDGING)
def test_a_grammar_keeps_what_the_row_says_and_names_the_rest(keyword, language):
    schema, right, wrong = asked_of(keyword)
    assert accepts(language, schema, right)
    is_kept = getattr(KEYWORDS[keyword], language) != LOST
    assert accepts(language, schema, wrong) is not is_kept
    notes = build_grammar(schema=schema, tool_choice="none", language=language).relaxed
    names = re.compile(rf'(?:"|\.){re.escape(keyword)}(?:"|:|$)')
    told = [note for note in notes if names.search(note)]
    assert bool(told) is not is_kept or keyword == "properties"


@pytest.mark.parametrize("keyword", JUDGING)
def test_the_check_finds_what_the_row_says(keyword):
    schema, right, wrong = asked_of(keyword)
    assert value_problems(right, schema) == ()
    row = KEYWORDS[keyword]
    assert bool(value_problems(wrong, schema)) is (row.checked == CHECKED)
    drafts = {
        "where `$schema` names a draft up to 7": "http://json-schema.org/draft-07/schema#",
        "where `$schema` names draft 2019-09": "https://json-schema.org/draft/2019-09/schema",
    }
    assert row.checked in {CHECKED, "no", *drafts}
    if row.checked in drafts:
        assert value_problems(wrong, {"$schema": drafts[row.checked], **schema})


@pytest.mark.parametrize("keyword", [name for name, row in KEYWORDS.items() if row.kind is ANNOTATION])
def test_annotations_change_nothing(keyword):
    plain = {"type": "object", "properties": {"v": STRING}}
    said = {"type": "object", "properties": {"v": {**STRING, keyword: 1}}, keyword: 1}
    assert build_grammar(schema=said) == build_grammar(schema=plain)


@pytest.mark.parametrize("language", ["lark", "gbnf"])
@pytest.mark.parametrize("keyword", ["typ", "maxLenght", "divisibleBy", "components"])
def test_a_keyword_without_a_row_is_named(keyword, language):
    assert is_unknown(keyword)
    schema = {"type": "object", "properties": {"a": {"items": {keyword: 1}}}, keyword: {}}
    grammar = build_grammar(schema=schema, tool_choice="none", language=language)
    for path in (f".{keyword}", f".properties.a.items.{keyword}"):
        assert f"response schema: not enforced: {path}: no known keyword" in grammar.relaxed


def test_what_is_named_like_an_unknown_keyword_is_none():
    names = ["typ", "x-note"]
    schema = {
        "type": "object",
        "properties": {name: {"enum": [{"typ": 1}, 2], "default": {"typ": 1}, "x-note": 1} for name in names},
        "additionalProperties": False,
        "x-note": 1,
    }
    assert build_grammar(schema=schema).relaxed == ()


def test_what_the_engine_passes_over_is_named_by_the_row(monkeypatch):
    monkeypatch.setitem(KEYWORDS, "maxLength", replace(KEYWORDS["maxLength"], lark=LOST))
    schema = {"type": "object", "properties": {"odd": {"type": "string", "maxLength": 31}}}
    assert "response schema: not enforced: .properties.odd.maxLength" in build_grammar(schema=schema).relaxed


def test_the_page_says_what_the_rows_say():
    table = PAGE.partition("| keyword | Lark | GBNF | checked afterwards |")[2].partition("\n\n")[0]
    told = {}
    for names, *cells in re.findall(r"^\| (`.*?) \| (.*?) \| (.*?) \| (.*?) \|$", table, re.MULTILINE):
        for name in re.findall(r"`(.*?)`", names):
            assert name not in told
            told[name] = tuple(cells)
    assert told == {name: (row.lark, row.gbnf, row.checked) for name, row in KEYWORDS.items()}


def test_repetitions_are_kept_as_far_as_the_row_says():
    limits = {row.gbnf for row in KEYWORDS.values() if re.search(r"\d", row.gbnf)}
    assert limits == {f"kept up to {MAX_REPEATED}"}
