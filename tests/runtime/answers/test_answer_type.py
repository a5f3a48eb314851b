"""What an answer must be: every form of a schema, in its value whole and in its parts."""

from __future__ import annotations

import json
import pickle

import pytest

from hermes_runtime.answers.answer_type import AnswerType, UnreadableAnswerError, response_schema
from hermes_runtime.errors import SchemaError
from hermes_runtime.grammar import build_grammar
from hermes_runtime.literals.scanner import NOTHING
from hermes_runtime.schema.validation import value_problems
from tests.support.grammar_oracle import matches
from tests.support.schema_forms import APPLE, FORMS, NO_SCHEMAS, Apple, Bread, Color, Old, Part, Row

every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


@every_form
def test_an_answer_becomes_the_value_and_what_breaks_the_schema_none(form):
    target = AnswerType.of(form.schema)
    read = target.read(form.text)
    assert read == form.value
    assert type(read) is type(form.value)
    with pytest.raises(UnreadableAnswerError):
        target.read(form.broken)
    with pytest.raises(UnreadableAnswerError):
        target.read(form.text[:-1] if form.text[-1] in '"}]' else "")


@every_form
def test_what_the_grammar_allows_the_value_reader_takes(form):
    target = AnswerType.of(form.schema)
    grammar = build_grammar(schema=target.schema).lark if target.schema else build_grammar(json_object=True).lark
    assert matches(grammar, form.text)
    assert not matches(grammar, form.broken)
    arguments = json.loads(form.text)
    tool = target.tool
    if target.in_arguments(arguments) is not arguments:
        arguments = {"value": arguments}
    assert value_problems(arguments, tool.parameters) == ()
    called = json.dumps({"arguments": arguments, "name": tool.name})
    calls = build_grammar([tool], tool_choice="required", dialect="json_args_first").lark
    assert matches(calls, f"<tool_call>\n{called}\n</tool_call>")
    assert target.value_of(target.in_arguments(arguments)) == form.value


@every_form
def test_a_target_travels_by_pickle(form):
    target = AnswerType.of({**form.schema} if isinstance(form.schema, dict) else form.schema)
    again = pickle.loads(pickle.dumps(target))
    assert (again.schema, again.name) == (target.schema, target.name)
    assert again.read(form.text) == form.value


@pytest.mark.parametrize("given", NO_SCHEMAS.values(), ids=NO_SCHEMAS)
def test_what_is_no_schema_is_refused_with_what_is_one(given):
    with pytest.raises(SchemaError, match=r"is no schema: .*give a pydantic class"):
        AnswerType.of(given)
    with pytest.raises(SchemaError):
        response_schema(given)


def test_plain_text_is_a_format_and_no_schema():
    assert response_schema({"type": "text"}) is None
    with pytest.raises(SchemaError):
        AnswerType.of({"type": "text"})


def test_a_schema_says_what_the_type_says():
    row = AnswerType.of(Row).schema
    assert row["description"] == "A row."
    assert row["properties"]["weight"]["description"] == "In grams."
    assert row["properties"]["kind"]["default"] == "apple"
    assert row["required"] == ["weight"]
    part = AnswerType.of(Part).schema
    assert part["required"] == ["name"]
    assert part["properties"]["parts"]["items"] == {"$ref": "#/$defs/Part"}
    assert AnswerType.of(Apple).schema == Apple.model_json_schema()
    assert AnswerType.of(Old).schema == Old.schema()
    assert AnswerType.of(APPLE).schema == APPLE


def test_a_tool_has_the_name_that_was_given():
    named = {"type": "json_schema", "json_schema": {"name": "Fruit", "schema": APPLE}}
    given = [named, {"name": "Fruit", "parameters": APPLE}, Apple, list[Apple]]
    assert [AnswerType.of(schema).tool.name for schema in given] == ["Fruit", "Fruit", "Apple", "answer"]


def test_lists_grow_item_by_item_and_a_scalar_comes_as_a_whole():
    target = AnswerType.of(list[Apple])
    assert target.part_of([]) == []
    assert target.part_of([{"weight": 3}, {}]) == [Apple(weight=3)]
    assert target.part_of([{}, {}]) is NOTHING
    assert AnswerType.of(Apple | Bread).part_of({"flour": "r"}) == Bread(flour="r")
    assert AnswerType.of(Apple).part_of({}) is NOTHING
    assert AnswerType.of(Color).part_of("red") is NOTHING
    assert AnswerType.of(Row).part_of({"kind": "a"}) == {"kind": "a"}
