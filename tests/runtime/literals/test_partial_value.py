"""What can be read of a value that is still being written, and what makes it unreadable for good."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from langchain_core.utils.json import parse_partial_json

from hermes_runtime.literals.partial_value import PartialValue
from hermes_runtime.literals.scanner import NOTHING

TEXT = st.text(alphabet=st.sampled_from("ab é😀\"'\\\n{}[]():,") | st.characters(exclude_categories=["Cs"]), max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 999) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)
WRITTEN = st.sampled_from([repr, json.dumps, lambda value: json.dumps(value, ensure_ascii=False, indent=1)])


def is_part(part, whole):
    """Whether a value can still become another by growing."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and is_part(part[key], whole[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and len(part) <= len(whole) and all(map(is_part, part, whole))
    if isinstance(part, str):
        return isinstance(whole, str) and whole.startswith(part)
    return type(part) is type(whole) and part == whole


@given(OBJECT, WRITTEN, st.data())
def test_a_value_only_grows_until_it_is_whole(value, write, data):
    text = write(value)
    partial, last = PartialValue(), NOTHING
    at = 0
    while at < len(text):
        end = data.draw(st.integers(at + 1, len(text)))
        partial.feed(text[at:end])
        at = end
        now = partial.value
        assert now is not NOTHING
        assert last is NOTHING or is_part(last, now)
        assert is_part(now, value)
        last = now
    assert partial.is_complete
    assert last == value


@given(OBJECT, WRITTEN, st.integers(0, 200))
def test_pieces_say_what_the_whole_text_says(value, write, cut):
    text = write(value)[:cut]
    whole, pieces = PartialValue(), PartialValue()
    whole.feed(text)
    for char in text:
        pieces.feed(char)
    assert pieces.value == whole.value
    assert pieces.unfinished_mark == whole.unfinished_mark


@given(OBJECT, st.booleans(), st.integers(0, 200), TEXT)
@example({"a": "\U0001f600"}, True, len('{"a": "xud83dx'), "")
def test_no_reader_gets_past_the_mark_of_what_is_unfinished(value, ensure_ascii, cut, rest):
    text = json.dumps(value, ensure_ascii=ensure_ascii)[:cut]
    partial = PartialValue()
    partial.feed(text)
    unfinished = text + partial.unfinished_mark + rest
    assert parse_partial_json(unfinished) is None
    with pytest.raises(json.JSONDecodeError):
        json.loads(unfinished)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", NOTHING),
        ("{", {}),
        ('{"a', {}),
        ('{"a"', {}),
        ('{"a": ', {}),
        ('{"a": "x', {"a": "x"}),
        ('{"a": "x\\', {"a": "x"}),
        ('{"a": "x\\u00', {"a": "x"}),
        ('{"a": "x\\ud83d', {"a": "x"}),
        ('{"a": "x\\ud83d\\ude00', {"a": "x😀"}),
        ('{"a": 1', {}),
        ('{"a": 1,', {"a": 1}),
        ('{"a": tru', {}),
        ("{'a': [True, 'it\\'s", {"a": [True, "it's"]}),
        ('{"a": 1} and more', {"a": 1}),
    ],
)
def test_what_is_certain_of_a_text(text, value):
    partial = PartialValue()
    partial.feed(text)
    assert partial.value == value


def test_a_bracket_that_closes_nothing_ends_the_reading():
    partial = PartialValue()
    partial.feed('{"a": [1]]{')
    assert partial.is_wrong
    assert partial.at == len('{"a": [1]')
    assert re.fullmatch(r"\]+", partial.unfinished_mark)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", NOTHING),
        ("{", {}),
        ('{"na', {}),
        ('{"name"', {}),
        ('{"name": ', {}),
        ('{"name": "', {"name": ""}),
        ('{"name": "A\\', {"name": "A"}),
        ('{"name": "A\\u00e', {"name": "A"}),
        ('{"name": "\\ud83d', {"name": ""}),
        ('{"name": "\\ud83d\\ude00', {"name": "😀"}),
        ('{"age": 12', {}),
        ('{"age": 12,', {"age": 12}),
        ('{"ok": tru', {}),
        ('{"ok": true}', {"ok": True}),
        ('[{"a": 1}, {', [{"a": 1}, {}]),
        ('{"a": "}", "b": "', {"a": "}", "b": ""}),
        ('{"a": 1} and more {"b": 2}', {"a": 1}),
    ],
)
def test_what_is_certain(text, value):
    partial = PartialValue()
    for char in text:
        partial.feed(char)
    assert partial.value == value


def test_deep_nesting_does_not_raise():
    partial = PartialValue()
    partial.feed("[" * 100_000)
    assert partial.value is NOTHING or isinstance(partial.value, list)
