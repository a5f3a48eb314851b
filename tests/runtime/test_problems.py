"""What is wrong is a value with a closed set of reasons; its text never changes on its way out and back in."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hermes_runtime.answers.json_answer import parse_json
from hermes_runtime.messages import InvalidToolCall
from hermes_runtime.parser import parse_completion
from hermes_runtime.problems import REASONS, Keyword, Problem, joined
from hermes_runtime.prompt.recorded_calls import recorded_call
from hermes_runtime.schema.validation import value_problems

DRAFTS = ("Draft3", "Draft4", "Draft6", "Draft7", "Draft201909", "Draft202012")
KEYWORDS = {keyword for draft in DRAFTS for keyword in getattr(jsonschema, f"{draft}Validator").VALIDATORS}
NO_KEYWORD = "None"  # a schema that is just `false`
OF_VALUES = st.builds(
    Problem,
    st.sampled_from(["unknown_tool", "depth", *map(Keyword, sorted(KEYWORDS))]),
    st.text(),
    st.from_regex(r"\$([.]\w+|\[\d+\])*", fullmatch=True),
)
OF_TEXTS = st.builds(
    Problem,
    st.sampled_from(["malformed", "missing_name", "bad_arguments", "truncated"]),
    st.text().map(lambda detail: f"the {detail}"),
)
PROBLEMS = OF_VALUES | OF_TEXTS | st.text().map(Problem.cut_off)
HALF = {"whole": "stop", "half": "length"}


@given(PROBLEMS)
def test_the_text_is_reason_path_and_detail(problem: Problem) -> None:
    assert str(problem) == ": ".join(filter(None, (problem.reason, problem.path))) + f": {problem.detail}"


@given(PROBLEMS)
def test_a_problem_is_the_same_after_its_way_through_a_history(problem: Problem) -> None:
    assert Problem.read(str(problem)) == problem


@given(st.text() | st.lists(st.sampled_from(["truncated", "foreign", "type", "$.a", ": ", "cut off "])).map("".join))
@example("foreign: $: x")
@example("Function f arguments:\n\n{\n\nare not valid JSON. Received JSONDecodeError")
def test_whatever_a_history_says_keeps_its_text(text: str) -> None:
    assert str(Problem.read(text)) == text


@pytest.mark.parametrize("text", ["", "cut", "truncated", "truncated:", "Error: no value", "required: is a keyword"])
def test_a_text_in_other_words_is_foreign(text: str) -> None:
    problem = Problem.read(text)
    assert (problem.reason, problem.detail) == ("foreign", text)
    assert not problem.leaves_no_value


def test_only_the_length_limit_cuts_off() -> None:
    assert Problem.cut_off("by max_tokens").is_cut_off
    assert Problem.read("truncated: cut off by max_tokens").is_cut_off
    for text in (
        "truncated: the text ends inside the call",
        "malformed: cut off by max_tokens",
        "cut off by max_tokens",
    ):
        assert not Problem.read(text).is_cut_off


def test_several_problems_are_one_text() -> None:
    assert joined(()) == ""
    both = (Problem("malformed", "a"), Problem(Keyword("type"), "b", "$.c"))
    assert joined(both) == "malformed: a; type: $.c: b"


def found(case: dict[str, Any], part: str) -> tuple[list[InvalidToolCall], list[Problem]]:
    """What is wrong with a case's output or, where the length limit cuts it, with its first half."""
    output = case["output"] if part == "whole" else case["output"][: len(case["output"]) // 2]
    completion = parse_completion(output, case["tools"], HALF[part])
    return [*completion.invalid_tool_calls], [problem for call in completion.tool_calls for problem in call.problems]


def test_the_catalogues_problems_have_these_texts(parser_cases, problem_texts):
    for case in parser_cases:
        texts = problem_texts.get(case["id"], {})
        for part in HALF:
            invalid, problems = found(case, part)
            assert [*(call.error for call in invalid), *map(str, problems)] == texts.get(part, []), case["id"]
        if case["mode"] == "json":
            problems = parse_json(case["output"], case["schema"]).problems
            assert [*map(str, problems)] == texts.get("json", []), case["id"]


def test_reasons_are_of_a_closed_set(parser_cases):
    for case in parser_cases:
        for part in HALF:
            invalid, problems = found(case, part)
            assert {call.problem.reason for call in invalid} <= {*REASONS} - {"foreign", "unknown_tool", "depth"}
            assert {problem.reason for problem in problems} <= KEYWORDS | {"unknown_tool"}
    for arguments in ("{", "x", "[1]", 3):
        outcome = recorded_call("a", "f", arguments)
        assert isinstance(outcome, InvalidToolCall)
        assert outcome.problem.reason in REASONS


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"required": ["x"]}, "required"),
        ({"dependentRequired": {"a": ["b"]}}, "dependentRequired"),
        ({"unevaluatedProperties": False}, "unevaluatedProperties"),
        ({"not": {}}, "not"),
        ({"properties": {"a": False}}, NO_KEYWORD),
    ],
)
def test_the_reason_of_a_wrong_value_is_the_keyword_it_breaks(schema: dict[str, Any], reason: str) -> None:
    (problem,) = value_problems({"a": 1}, schema)
    assert problem.reason == reason
    assert reason in KEYWORDS | {NO_KEYWORD}
