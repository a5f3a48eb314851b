"""The catalogue of model outputs: what each is read as, in one piece, in its pieces and character by character."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import pytest

from hermes_runtime.answers.json_answer import parse_json
from hermes_runtime.parser import (
    Event,
    InvalidToolCallEvent,
    ReasoningDelta,
    StreamParser,
    TextDelta,
    ToolCallEvent,
    parse_completion,
)
from tests.support.places import DATA

CASES = [json.loads(line) for line in (DATA / "parser_cases.jsonl").read_text(encoding="utf-8").splitlines()]
EACH_CASE = pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
BLOCK_CASES = [case for case in CASES if "<tool_call>" in case["output"]]
JSON_CASES = [case for case in CASES if case["mode"] == "json"]
CHUNKED_CASES = [case for case in CASES if "chunks" in case]
RAW = "<raw text>"


def collapse(text: str) -> str:
    return " ".join(text.split())


def stream(case: dict[str, Any], pieces: Iterable[str]) -> list[Event]:
    parser = StreamParser(case["tools"])
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.close()


def reading(events: list[Event]) -> dict[str, Any]:
    """What the events say, in the catalogue's own terms."""
    calls = [event.call for event in events if isinstance(event, ToolCallEvent)]
    invalid = [event.call for event in events if isinstance(event, InvalidToolCallEvent)]
    return {
        "content": collapse("".join(event.text for event in events if isinstance(event, TextDelta))),
        "tool_calls": [{"name": call.name, "arguments": call.arguments} for call in calls],
        "invalid": [{"reason": call.problem.reason} for call in invalid],
        "reasoning": collapse("".join(event.text for event in events if isinstance(event, ReasoningDelta))),
        "problems": {(index, problem.reason) for index, call in enumerate(calls) for problem in call.problems},
    }


def agrees(found: dict[str, Any], expected: dict[str, Any], case: dict[str, Any]) -> bool:
    content = case["output"] if expected["content"] == RAW else expected["content"]
    return (
        found["content"] == collapse(content)
        and found["tool_calls"] == expected["tool_calls"]
        and found["invalid"] == (expected["invalid"] or [])
        and ("reasoning" not in expected or found["reasoning"] == collapse(expected["reasoning"] or ""))
    )


def accepted_readings(case: dict[str, Any]) -> list[dict[str, Any]]:
    readings = [case["expect"]]
    if case["level"] in ("lenient", "policy"):
        readings += [{**case["expect"], **other} for other in case.get("also_acceptable", [])]
    return readings


def check(case: dict[str, Any], events: list[Event]) -> None:
    found = reading(events)
    assert any(agrees(found, expected, case) for expected in accepted_readings(case)), (found, case["expect"])
    if case["level"] in ("core", "validation") and case["mode"] == "tools":
        named = case["expect"].get("validation", [])
        assert found["problems"] == {(problem["call"], problem["reason"]) for problem in named}


@EACH_CASE
def test_case_in_one_piece(case: dict[str, Any]) -> None:
    check(case, stream(case, [case["output"]]))


@EACH_CASE
def test_case_character_by_character(case: dict[str, Any]) -> None:
    check(case, stream(case, case["output"]))


@pytest.mark.parametrize("case", CHUNKED_CASES, ids=[case["id"] for case in CHUNKED_CASES])
def test_case_in_its_own_pieces(case: dict[str, Any]) -> None:
    assert "".join(case["chunks"]) == case["output"]
    check(case, stream(case, case["chunks"]))


@EACH_CASE
def test_whole_text_and_stream_agree(case: dict[str, Any]) -> None:
    completion = parse_completion(case["output"], case["tools"])
    found = reading(stream(case, [case["output"]]))
    assert collapse(completion.content) == found["content"]
    assert [{"name": call.name, "arguments": call.arguments} for call in completion.tool_calls] == found["tool_calls"]
    assert len(completion.invalid_tool_calls) == len(found["invalid"])


@pytest.mark.parametrize("case", BLOCK_CASES, ids=[case["id"] for case in BLOCK_CASES])
def test_no_beginning_of_a_case_leaks_a_tag_or_makes_up_a_call(case: dict[str, Any]) -> None:
    whole = [call.name for call in parse_completion(case["output"], case["tools"]).tool_calls]
    for length in range(0, len(case["output"]), 1 + len(case["output"]) // 200):
        completion = parse_completion(case["output"][:length], case["tools"], "length")
        assert not re.search(r"<\s*/?\s*tool_\w*\s*>?\s*$", completion.content)
        assert [call.name for call in completion.tool_calls] == whole[: len(completion.tool_calls)]


@pytest.mark.parametrize("case", JSON_CASES, ids=[case["id"] for case in JSON_CASES])
def test_json_mode_case(case: dict[str, Any]) -> None:
    answer = parse_json(case["output"], case["schema"])
    assert answer.value == case["expect"]["parsed_json"]
    expected = {entry["reason"] for entry in case["expect"].get("validation", [])}
    assert {problem.reason for problem in answer.problems} == expected
