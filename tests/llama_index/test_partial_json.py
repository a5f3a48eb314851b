"""JSON while it is being written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index_hermes._partial_json import PartialJson

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
ROOTS = st.lists(VALUES, max_size=4) | st.dictionaries(st.text(), VALUES, max_size=4)


def is_part(part, whole):
    """Whether `part` can become `whole` by growing."""
    if type(part) is not type(whole):
        return False
    if isinstance(part, str):
        return whole.startswith(part)
    if isinstance(part, list):
        closed = part[:-1] == whole[: len(part) - 1] if part else True
        return closed and len(part) <= len(whole) and all(map(is_part, part[-1:], whole[len(part) - 1 :]))
    if isinstance(part, dict):
        return list(part) == list(whole)[: len(part)] and all(is_part(part[key], whole[key]) for key in part)
    return part == whole


@settings(deadline=None)
@given(ROOTS, st.booleans(), st.sampled_from([None, 1]), st.integers(1, 9))
def test_value_only_grows_and_ends_whole(value, escaped, indent, step):
    text = json.dumps(value, ensure_ascii=escaped, indent=indent)
    partial, last = PartialJson(), None
    for start in range(0, len(text), step):
        grew = partial.feed(text[start : start + step])
        seen = json.loads(json.dumps(partial.value))
        assert grew == (seen != last)
        assert last is None or is_part(last, seen)
        assert is_part(seen, value)
        last = seen
    assert last == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("Here is it: ", None),
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
        ("{'a': 1}", {}),
    ],
)
def test_what_is_certain(text, value):
    partial = PartialJson()
    for char in text:
        partial.feed(char)
    assert partial.value == value


def test_deep_nesting_does_not_raise():
    partial = PartialJson()
    partial.feed("[" * 100_000)
    assert partial.value is None or isinstance(partial.value, list)
