"""The literal scanner: JSON, Python literals and mixtures of them; never code, never guesses."""

from __future__ import annotations

import contextlib
import json
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_runtime.literals import MAX_NESTING, LiteralError, LiteralScanner, parse_value, scan_value
from hermes_runtime.literals.scanner import NOTHING
from tests.support.strategies import NEAR_LITERALS, VALUES


def scan_in_pieces(text: str, cuts: list[int]) -> tuple[str, Any]:
    """Feed the text in pieces and return how that ends: the value with its end, or the failure with its place."""
    scanner = LiteralScanner()
    for begin, end in pairwise([0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]):
        try:
            done = scanner.feed(text[begin:end])
        except LiteralError as error:
            return "malformed", (error.detail, begin + error.offset)
        if done is not None:
            return "value", (repr(scanner.value), begin + done)
    try:
        scanner.finish()
    except LiteralError as error:
        return "truncated" if error.truncated else "malformed", error.detail
    return "value", (repr(scanner.value), len(text))


@given(VALUES)
def test_json_and_repr_read_back_as_the_value_they_show(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False), json.dumps(value, indent=1), repr(value)):
        assert parse_value(text) == value


@given(VALUES)
def test_types_survive(value: Any) -> None:
    assert repr(parse_value(repr(value))) == repr(value)


@given(NEAR_LITERALS | st.text())
def test_any_text_gives_a_value_or_a_literal_error(text: str) -> None:
    with contextlib.suppress(LiteralError):
        value, end = scan_value(text)
        assert 0 < end <= len(text)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


@given(NEAR_LITERALS)
def test_what_json_reads_is_read_alike(text: str) -> None:
    try:
        expected = json.loads(text, strict=False)
        json.dumps(expected, allow_nan=False)
        json.dumps(expected, ensure_ascii=False).encode()
    except (ValueError, UnicodeEncodeError):
        return
    assert parse_value(text) == expected


@given(NEAR_LITERALS, st.lists(st.integers(0, 60), max_size=6))
def test_pieces_give_the_same_as_the_whole(text: str, cuts: list[int]) -> None:
    assert scan_in_pieces(text, cuts) == scan_in_pieces(text, [])
    assert scan_in_pieces(text, list(range(len(text)))) == scan_in_pieces(text, [])


@given(VALUES.filter(lambda value: isinstance(value, dict | list | str)), st.data())
def test_every_proper_beginning_is_truncated(value: Any, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([json.dumps(value), repr(value)]))
    with pytest.raises(LiteralError) as caught:
        scan_value(text[: data.draw(st.integers(0, len(text) - 1))])
    assert caught.value.truncated


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"'caf\xe9 \u2603 \U0001f6a2'", "café ☃ 🚢"),
        (r'"\ud83d\udea2"', "🚢"),
        (r'"\ud83d end"', "\N{REPLACEMENT CHARACTER} end"),
        ('"\ud83d"', "\N{REPLACEMENT CHARACTER}"),
        ('"two\nlines\tand a tab"', "two\nlines\tand a tab"),
        (r'"\/"', "/"),
        (r"'\/'", r"\/"),
        (r'"it\'s"', "it's"),
        ("[1, 2.5, -3e2, +4, .5, 6.,]", [1, 2.5, -300.0, 4, 0.5, 6.0]),
        ("{'a': (1, 'b'), 'c': (2), 'd': (), 'e': (3,)}", {"a": [1, "b"], "c": 2, "d": [], "e": [3]}),
        ("[true, True, false, False, null, None]", [True, True, False, False, None, None]),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ("12345678901234567890", 12345678901234567890),
    ],
)
def test_both_spellings_are_read(text: str, value: Any) -> None:
    assert parse_value(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *("NaN", "Infinity", "-inf", "1e999", "nan", "1j", "007", "1_000", "0x1f", "--1", "1" * 5000),
        *("{1: 2}", "{None: 1}", "{'a', 'b'}", "b'x'", "{'a': 1}}", "[1,,2]", "[,]", "{,}", "{'a' 1}", "{'a':}", "(1]"),
        *(
            "__import__('os')",
            "[x for x in y]",
            "1 + 1",
            "'a' 'b'",
            "// note\n1",
            "{a: 1}",
            "“a”",
            "<args>",
            "...",
            "''''",
        ),
    ],
)
def test_what_is_neither_json_nor_a_plain_literal_is_malformed(text: str) -> None:
    with pytest.raises(LiteralError) as caught:
        parse_value(text)
    assert not caught.value.truncated


def test_unknown_escapes_keep_their_backslash() -> None:
    assert parse_value(r'"\d+\. \$5 C:\users\docs"') == r"\d+\. \$5 C:\users\docs"


@pytest.mark.parametrize("text", [r'"C:\data\new"', r"'C:\users\name\table'", r'"\d+\n"'])
def test_a_newline_is_never_read_into_a_string_that_forgot_to_escape(text: str) -> None:
    with pytest.raises(LiteralError, match="ambiguous"):
        parse_value(text)


def test_escaped_backslashes_are_no_ambiguity() -> None:
    assert parse_value(r'"C:\\data\\new\n"') == "C:\\data\\new\n"


def test_nesting_is_bounded() -> None:
    deepest = "[" * MAX_NESTING + "]" * MAX_NESTING
    assert json.dumps(parse_value(deepest)) == deepest
    with pytest.raises(LiteralError, match="nested deeper"):
        parse_value(f"[{deepest}]")


@pytest.mark.parametrize(
    ("start", "period"),
    [
        *(("", "["), ("", "{'a':"), ('"', "x"), ('"', "\\"), ("'", '"'), ("", "1"), ("", " ")),
        *(("[", "1,"), ("[", "'',"), ("{", "'a':0,"), ('["', r"\u00e9")),
    ],
)
def test_cost_is_linear_whatever_the_text(start: str, period: str) -> None:
    text = start + period * (10**6 // len(period))
    begun = time.process_time()
    with pytest.raises(LiteralError):
        scan_value(text)
    scanner = LiteralScanner()
    with contextlib.suppress(LiteralError):
        for char in text[: 10**5]:
            scanner.feed(char)
    # Quadratic cost would be hours.
    assert time.process_time() - begun < 20


def test_a_watch_refuses_a_value_early() -> None:
    scanner = LiteralScanner(lambda key, value: f"no {key}" if key == "b" and value is NOTHING else None)
    with pytest.raises(LiteralError, match="no b") as caught:
        scanner.feed('{"a": {"b": 1}, "b": [')
    assert caught.value.offset == len('{"a": {"b": 1}, "b"')
