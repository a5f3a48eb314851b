"""What a completion is read as, in whatever pieces it arrives."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_runtime.answers.json_answer import parse_json
from hermes_runtime.dialects import DIALECTS
from hermes_runtime.errors import InvalidRequestError, SchemaError
from hermes_runtime.messages import Assistant, ToolCall
from hermes_runtime.parser import (
    Completion,
    Event,
    InvalidToolCallEvent,
    ReasoningDelta,
    StreamParser,
    TextDelta,
    ToolCallDelta,
    ToolCallEvent,
    parse_completion,
)
from hermes_runtime.prompt import turns
from tests.support.strategies import CALL, COMPLETIONS, EXPLAINED, OBJECT

TIDE: dict[str, Any] = {
    "name": "get_tide",
    "parameters": {"type": "object", "properties": {"port": {"type": "string"}}, "required": ["port"]},
}
PORTS: dict[str, Any] = {"name": "list_ports"}
NOTE: dict[str, Any] = {
    "name": "save_note",
    "parameters": {"type": "object", "properties": {"body": {"type": "string"}, "path": {"type": "string"}}},
}
TOOLS = [TIDE, PORTS, NOTE]
BREST = ("get_tide", {"port": "Brest"})


def calls(completion: Completion) -> list[tuple[str, dict[str, Any]]]:
    return [(call.name, call.arguments) for call in completion.tool_calls]


def reasons(completion: Completion) -> list[str]:
    return [call.problem.reason for call in completion.invalid_tool_calls]


def summary(events: list[Event]) -> list[tuple[Any, ...]]:
    """Events with adjacent text joined, and adjacent parts of a call; ids left out."""
    merged: list[tuple[Any, ...]] = []
    for event in events:
        if isinstance(event, ToolCallEvent):
            merged.append(("call", event.call.name, repr(event.call.arguments), event.call.problems))
        elif isinstance(event, InvalidToolCallEvent):
            merged.append(("invalid", event.call.name, event.call.arguments, event.call.error))
        elif isinstance(event, ToolCallDelta):
            if merged and merged[-1][0] == event.id:
                merged[-1] = (event.id, event.name, merged[-1][2] + event.arguments)
            else:
                merged.append((event.id, event.name, event.arguments))
        elif merged and merged[-1][0] is type(event):
            merged[-1] = (type(event), merged[-1][1] + event.text)
        else:
            merged.append((type(event), event.text))
    return [
        ("delta", *rest) if isinstance(kind, str) and kind.startswith("call_") else (kind, *rest)
        for kind, *rest in merged
    ]


def stream(pieces: list[str] | str, tools: list[dict[str, Any]], finish_reason: str = "stop") -> list[Event]:
    parser = StreamParser(tools)
    return [event for piece in pieces for event in parser.feed(piece)] + parser.close(finish_reason)


# Streaming.


def test_prose_leaves_in_the_feed_that_brought_it() -> None:
    parser = StreamParser(TOOLS)
    for piece in ["The tide", " is 4 m", ",\nso ", "1 < 2 and ", "{so} [on].", " `x` "]:
        assert parser.feed(piece) == [TextDelta(piece)]


def test_line_ends_wait_for_what_follows_because_they_may_belong_to_a_call() -> None:
    parser = StreamParser(TOOLS)
    assert parser.feed("Let me.\n") == [TextDelta("Let me.")]
    assert parser.feed("\n  ") == []
    assert parser.feed("See") == [TextDelta("\n\n  See")]
    assert parser.feed(".\r\n") == [TextDelta(".")]
    assert [type(event) for event in parser.feed(CALL)] == [ToolCallDelta, ToolCallEvent]
    assert parser.feed("\n") == parser.close() == []


def test_text_that_may_begin_a_tag_waits_until_that_is_decided() -> None:
    parser = StreamParser(TOOLS)
    assert parser.feed("see <too") == [TextDelta("see ")]
    assert parser.feed("l_ca") == []
    assert parser.feed("r>") == [TextDelta("<tool_car>")]


def test_a_call_leaves_when_its_closing_tag_is_complete() -> None:
    parser = StreamParser(TOOLS)
    assert not any(isinstance(event, ToolCallEvent) for event in parser.feed(CALL[:-1]))
    (event,) = parser.feed(">")
    assert isinstance(event, ToolCallEvent)
    assert (event.call.name, event.call.arguments) == BREST
    assert parser.close() == []


def test_a_json_answer_that_is_no_call_is_not_held_back() -> None:
    parser = StreamParser(TOOLS)
    assert parser.feed('{"port"') == [TextDelta('{"port"')]
    parser = StreamParser(TOOLS)
    assert parser.feed('{"name": "Ola"') == [TextDelta('{"name": "Ola"')]


def test_a_closed_parser_refuses_text_and_closes_twice() -> None:
    parser = StreamParser()
    parser.close()
    assert parser.close() == []
    with pytest.raises(InvalidRequestError):
        parser.feed("x")


@settings(max_examples=300)
@given(COMPLETIONS, st.lists(st.integers(0, 300), max_size=5), st.booleans(), st.sampled_from(["stop", "length"]))
def test_pieces_give_the_same_events_as_the_whole(text: str, cuts: list[int], bound: bool, finish_reason: str) -> None:
    tools = TOOLS if bound else []
    whole = summary(stream([text], tools, finish_reason))
    assert summary(stream(text, tools, finish_reason)) == whole
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[begin:end] for begin, end in pairwise(edges)]
    assert summary(stream(pieces, tools, finish_reason)) == whole


@given(st.text() | COMPLETIONS, st.booleans(), st.sampled_from(["length", "cancelled"]))
def test_no_text_raises_and_a_cut_one_never_ends_in_a_tag_or_half_of_one(
    text: str, bound: bool, finish_reason: str
) -> None:
    completion = parse_completion(text, TOOLS if bound else [], finish_reason)
    for half in ("<tool_call", "<tool_call>", "</tool_call", "</tool_call>", "</"):
        assert not text.endswith(half) or completion.content.count(half) < text.count(half)
    ids = [call.id for call in (*completion.tool_calls, *completion.invalid_tool_calls)]
    assert len(set(ids)) == len(ids)


ARGUMENTS = st.dictionaries(
    st.text(),
    st.text() | COMPLETIONS | st.integers() | st.booleans() | st.none() | st.lists(st.text(), max_size=3),
    max_size=4,
)


@given(ARGUMENTS, st.booleans(), st.booleans())
def test_any_arguments_survive_in_both_spellings_and_orders(
    arguments: dict[str, Any], name_first: bool, as_repr: bool
) -> None:
    members = [("arguments", arguments), ("name", "f")]
    call = dict(reversed(members) if name_first else members)
    body = repr(call) if as_repr else json.dumps(call)
    completion = parse_completion(f"Well. <tool_call>\n{body}\n</tool_call> So.")
    # A surrogate cannot be encoded, so it is replaced; hypothesis draws none.
    assert calls(completion) == [("f", arguments)]
    assert completion.content == "Well.  So."


@given(st.from_regex(r"[^<]*[^<\s]", fullmatch=True), ARGUMENTS)
def test_text_before_a_call_and_its_rendering_are_each_others_inverse(text: str, arguments: dict[str, Any]) -> None:
    said = Assistant(text, (ToolCall("c1", "f", arguments),))
    for dialect in DIALECTS.values():
        ((_, written, _),) = turns([said], (), None, dialect)
        completion = parse_completion(written)
        assert (completion.content, calls(completion)) == (text, [("f", arguments)])


@given(ARGUMENTS, st.booleans(), st.data())
def test_truncated_call_is_never_runnable(arguments: dict[str, Any], as_repr: bool, data: st.DataObject) -> None:
    call = {"arguments": arguments, "name": "f"}
    body = f"<tool_call>\n{repr(call) if as_repr else json.dumps(call)}\n</tool_call>"
    length = data.draw(st.integers(len("<tool_call>"), len(body) - 1))
    for finish_reason in ("length", "cancelled"):
        completion = parse_completion(body[:length], (), finish_reason)
        assert completion.content == ""
        assert completion.tool_calls == ()
        assert reasons(completion) == ["truncated"]
    complete = len(body) - len("\n</tool_call>")
    if length < complete:
        assert parse_completion(body[:length]).tool_calls == ()


# Ends.


def test_a_complete_call_without_closing_tag_runs_only_if_the_model_ended_it() -> None:
    text = f"<tool_call>\n{OBJECT}"
    assert calls(parse_completion(text, TOOLS)) == [BREST]
    assert calls(parse_completion(f"{text}<|im_end|>", TOOLS, "length")) == [BREST]
    assert reasons(parse_completion(text, TOOLS, "length")) == ["truncated"]


def test_prose_after_an_unclosed_call_is_kept() -> None:
    completion = parse_completion(f"<tool_call>\n{OBJECT}\nI will report back.", TOOLS)
    assert calls(completion) == [BREST]
    assert completion.content == "I will report back."


def test_an_opening_tag_in_place_of_the_closing_one_is_forgiven() -> None:
    assert calls(parse_completion(f"<tool_call>{OBJECT}<tool_call>", TOOLS)) == [BREST]
    assert reasons(parse_completion(f"<tool_call>{OBJECT}<tool_call>", TOOLS)) == []
    assert calls(parse_completion(f"<tool_call>{OBJECT}<tool_call>{OBJECT}</tool_call>", TOOLS)) == [BREST, BREST]


def test_nothing_is_read_after_the_end_of_the_turn_or_a_self_written_response() -> None:
    for end in ("<|im_end|>", "<tool_response>", "<|im_start|>user\n"):
        completion = parse_completion(f"Yes.{end}\nNo. {CALL}", TOOLS)
        assert (completion.content, completion.tool_calls) == ("Yes.", ())


def test_padding_is_dropped_at_the_end_and_kept_inside_text() -> None:
    assert parse_completion("Done.</s></s>\n").content == "Done."
    assert parse_completion("<s>old</s> new").content == "<s>old</s> new"


# Broken calls.


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("get_tide(port='Brest')", "malformed"),
        ("{'arguments': {'port': __import__('os').getcwd()}, 'name': 'get_tide'}", "malformed"),
        ('{"name": "get_tide", "arguments": {"port": "Brest"}', "malformed"),
        ('{"name": "get_tide", "arguments": {"port": "Brest}}', "malformed"),
        ('{"name": "save_note", "arguments": {"body": "he said "hi" to me"}}', "malformed"),
        (r'{"name": "save_note", "arguments": {"path": "C:\data\new"}}', "malformed"),
        ('{"name": "save_note", "arguments": {"body": ' + "[" * 900 + "]" * 900 + "}}", "malformed"),
        ('{"name": "get_tide"}, "arguments": {"port": "Brest"}}', "malformed"),
        ('"get_tide"', "malformed"),
        ('{"arguments": {"port": "Brest"}}', "missing_name"),
        ('{"name": null, "arguments": {"port": "Brest"}}', "missing_name"),
        ('{"name": "get_tide", "port": "Brest"}', "bad_arguments"),
        ('{"name": "get_tide", "arguments": {}, "port": "Brest"}', "bad_arguments"),
        ('{"name": "get_tide", "arguments": ["Brest"]}', "bad_arguments"),
        ('{"name": "get_tide", "arguments": "Brest"}', "bad_arguments"),
    ],
)
def test_a_broken_call_is_invalid_and_takes_nothing_else_along(body: str, reason: str) -> None:
    completion = parse_completion(f"Look. <tool_call>\n{body}\n</tool_call>\n{CALL} Done.", TOOLS)
    assert reasons(completion) == [reason]
    assert calls(completion) == [BREST]
    assert completion.content.split() == ["Look.", "Done."]
    assert completion.invalid_tool_calls[0].arguments == body.strip()


def test_an_invalid_call_keeps_the_name_that_the_text_still_shows() -> None:
    (call,) = parse_completion('<tool_call>{"name": "get_tide", "arguments": {"por', TOOLS).invalid_tool_calls
    assert call.name == "get_tide"
    (call,) = parse_completion("<tool_call>{'arguments': {'name': 'Ola'}, 'na", TOOLS).invalid_tool_calls
    assert call.name is None


def test_missing_arguments_mean_none_only_where_nothing_else_is_said() -> None:
    assert calls(parse_completion('<tool_call>{"name": "list_ports"}</tool_call>', TOOLS)) == [("list_ports", {})]
    astray = parse_completion('<tool_call>{"name": "list_ports"}, {"port": "Brest"}</tool_call>', TOOLS)
    assert astray.tool_calls == ()
    assert reasons(astray) == ["bad_arguments", "missing_name"]


def test_a_tag_inside_an_argument_of_a_broken_call_starts_no_call() -> None:
    text = f"<tool_call>{{name: 'save_note', 'arguments': {{'body': '{CALL}'}}}}</tool_call>"
    assert parse_completion(text, TOOLS).tool_calls == ()


def test_an_empty_block_is_nothing() -> None:
    for block in ("<tool_call></tool_call>", "<tool_call>\n \n</tool_call>", "```xml\n<tool_call>\n</tool_call>\n```"):
        assert parse_completion(f"Yes.\n{block}", TOOLS) == Completion("Yes.", (), (), "")
        assert parse_completion(f"Yes.\n{block}", TOOLS, "length") == Completion("Yes.", (), (), "")


# Tags that are spoken of.


@pytest.mark.parametrize("tools", [[], TOOLS], ids=["no tools", "tools"])
@pytest.mark.parametrize(
    "text",
    [
        *(EXPLAINED, "Write `<tool_call>`, twice:\n<tool_call> and <tool_call>.\n", "Begin with\n\n<tool_call>"),
        *("The tag:\n```xml\n<tool_call>\nyour JSON\n```\nThat is all.", "```\n<tool_call>\n", "<tool_call>\n``"),
        *("It ends with </tool_call>, not with </tool_calls>.", "Results come in <tool_response> tags, not in prose."),
        *(
            "Think in <think> tags. They are long.\n",
            "Use <scratch_pad>, <think> or <tool_call>.",
            "Close </think> too",
        ),
        *(
            "Close </think> too",
            "half a <tool_call",
            "half a </tool_ca",
            "half a <thin",
            "x <|im_en",
            "  two",
            "\n\ntwo\n",
            " \n",
        ),
    ],
)
def test_a_tag_that_is_spoken_of_is_text_to_the_last_character(text: str, tools: list[dict[str, Any]]) -> None:
    assert parse_completion(text, tools) == Completion(text, (), (), "")
    assert summary(stream(text, tools)) == [(TextDelta, text)]


SPOKEN = st.lists(
    st.sampled_from(
        [
            *(
                "<tool_call>",
                "< tool_call >",
                "<tool_calls>",
                "<Tool_Call>",
                "<tool_",
                "</tool_cal",
                "</thin",
                "<",
                ">",
            ),
            *(
                "</thin",
                "`",
                "```",
                "```xml\n",
                " ",
                "\n",
                "\r\n",
                "\t",
                "word",
                "it. ",
                "'",
                '"',
                "(x=1)",
                "é",
                "}",
                "]",
            ),
        ]
    ),
    max_size=16,
).map("".join)


@settings(max_examples=300)
@given(SPOKEN, st.booleans(), st.lists(st.integers(0, 120), max_size=5))
def test_text_that_no_object_or_closing_tag_follows_is_whole(text: str, bound: bool, cuts: list[int]) -> None:
    tools = TOOLS if bound else []
    assert parse_completion(text, tools) == Completion(text, (), (), "")
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    whole = [(TextDelta, text)] if text else []
    assert summary(stream([text[begin:end] for begin, end in pairwise(edges)], tools)) == whole
    assert text.startswith(parse_completion(text, tools, "length").content)


def test_a_call_after_a_tag_that_is_spoken_of_is_a_call() -> None:
    for said in (EXPLAINED, "Or <think> first.", "See <tool_response> here.", "`<tool_call>` is"):
        completion = parse_completion(f"{said}\n{CALL}", TOOLS)
        assert (completion.content.rstrip(), calls(completion)) == (said, [BREST])
        assert completion.invalid_tool_calls == ()


def test_what_follows_a_tag_that_is_spoken_of_makes_no_call() -> None:
    text = f"<tool_call> is written so:\n{OBJECT}\n```json\n{OBJECT}\n```"
    assert parse_completion(text, TOOLS) == Completion(text, (), (), "")


def test_a_block_that_is_no_object_is_a_broken_call_once_it_closes() -> None:
    completion = parse_completion("So: <tool_call>get_tide()</tool_call> Done.", TOOLS)
    assert (completion.content, reasons(completion)) == ("So:  Done.", ["malformed"])


# Line ends.


def test_line_ends_around_calls_belong_to_the_calls() -> None:
    for before in ("Let me.\n", "Let me.\n\n  ", "Let me.\r\n", "Let me."):
        assert parse_completion(f"{before}{CALL}\n{CALL}\n", TOOLS).content == "Let me."
        assert parse_completion(f"{before}```json\n{OBJECT}\n```\n", TOOLS).content == "Let me."
    assert parse_completion(f"\n\n{CALL}", TOOLS).content == ""


def test_line_ends_between_text_and_text_are_kept_though_a_call_stands_there() -> None:
    assert parse_completion(f"One.\n{CALL}Two.\n", TOOLS).content == "One.\nTwo.\n"


# Calls without their tags.


@pytest.mark.parametrize(
    "text",
    [
        *(OBJECT, f"[{OBJECT}]", f"```json\n{OBJECT}\n```", f"<tool>\n{OBJECT}\n</tool>", f"```xml\n{CALL}\n```"),
        '<function=get_tide>{"port": "Brest"}</function>',
        '<function name="get_tide">\n{"port": "Brest"}\n</function>',
        '<function><name>get_tide</name><arguments>{"port": "Brest"}</arguments></function>',
        f"```json\n<function_call>{OBJECT}</function_call>\n```",
    ],
)
def test_an_unwrapped_call_of_a_known_tool_is_a_call_and_leaves_no_markup(text: str) -> None:
    completion = parse_completion(f"So:\n{text}\nDone.", TOOLS)
    assert calls(completion) == [BREST]
    assert completion.content.split() == ["So:", "Done."]


@pytest.mark.parametrize(
    "text",
    [
        *('{"name": "Ola", "arguments": {"for": 1}}', '{"name": "get_tide"}', '{"name": "get_tide", "port": "Brest"}'),
        *(
            f"Write {OBJECT} to call it.",
            "<json>\n{}\n</json>",
            "```python\nprint(1)\n```",
            "<tools>[1]</tools>",
            "[note]",
        ),
        *("<function=other>{}</function>", "a < b > c", "[Calling tool: get_tide({})]", "&lt;tool_call&gt;"),
    ],
)
def test_what_only_resembles_a_call_is_text(text: str) -> None:
    completion = parse_completion(text, TOOLS)
    assert completion == Completion(content=text, tool_calls=(), invalid_tool_calls=(), reasoning="")


def test_without_tools_only_tags_make_calls() -> None:
    assert parse_completion(OBJECT).content == OBJECT
    (call,) = parse_completion(CALL).tool_calls
    assert call.problems == ()


def test_an_unwrapped_call_that_is_cut_off_is_truncated() -> None:
    assert reasons(parse_completion(OBJECT[:-3], TOOLS, "length")) == ["truncated"]
    assert reasons(parse_completion('<function=get_tide>{"po', TOOLS, "length")) == ["truncated"]


# Reasoning, problems, tools.


@pytest.mark.parametrize("tag", ["think", "scratch_pad"])
def test_reasoning_is_apart_from_the_answer_and_its_drafts_do_not_run(tag: str) -> None:
    text = f"<{tag}>\nPerhaps {CALL}?\n</{tag}>\nFine. {CALL}"
    completion = parse_completion(text, TOOLS)
    assert completion.reasoning == f"Perhaps {CALL}?\n"
    assert completion.content == "Fine. "
    assert calls(completion) == [BREST]


def test_reasoning_within_a_line_of_prose_is_certain_only_when_it_closes() -> None:
    parser = StreamParser(TOOLS)
    assert parser.feed("Well <think>hm") == [TextDelta("Well ")]
    assert parser.feed(" ok</think> yes") == [ReasoningDelta("hm ok"), TextDelta(" yes")]
    assert parse_completion("Well <think>hm ok", TOOLS, "length").reasoning == "hm ok"
    assert parse_completion(f"Well <think>hm {CALL}", TOOLS, "length").tool_calls == ()


def test_reasoning_streams() -> None:
    parser = StreamParser()
    assert parser.feed("<think>Let me") == [ReasoningDelta("Let me")]
    assert parser.feed(" see</thi") == [ReasoningDelta(" see")]
    assert parser.feed("nk>Yes") == [TextDelta("Yes")]


def test_a_call_after_reasoning_that_was_never_closed_runs() -> None:
    completion = parse_completion(f"<scratch_pad>\nGoal: tide\n{CALL}", TOOLS)
    assert (completion.reasoning, calls(completion)) == ("Goal: tide\n", [BREST])


def test_problems_name_what_a_call_breaks() -> None:
    text = '<tool_call>[{"name": "get_tide", "arguments": {}}, {"name": "get_tides", "arguments": {}}]</tool_call>'
    first, second = parse_completion(text, TOOLS).tool_calls
    assert [problem.reason for problem in first.problems] == ["required"]
    assert [problem.reason for problem in second.problems] == ["unknown_tool"]


def test_unusable_tools_are_refused_before_any_text() -> None:
    with pytest.raises(SchemaError, match="get_tide"):
        StreamParser([{"name": "get_tide", "parameters": {"type": "strin"}}])
    with pytest.raises(InvalidRequestError, match="two tools"):
        StreamParser([TIDE, TIDE])


# JSON answers.


@pytest.mark.parametrize(
    "text",
    [
        *(
            '{"a": 1}',
            "{'a': 1}<|im_end|>",
            '```json\n{"a": 1}\n```',
            'Here [1]:\n{"a": 1}\nBye.',
            '<schema>{"a": 1,}</schema>',
        ),
        '<think>{"a": 2}?</think>{"a": 1}</s>\n',
    ],
)
def test_a_json_answer_is_found_in_what_stands_around_it(text: str) -> None:
    answer = parse_json(text, {"type": "object", "required": ["a"]})
    assert (answer.value, answer.problems) == ({"a": 1}, ())


@pytest.mark.parametrize(
    ("text", "reason"), [('{"a": {"b": 1}, "c"', "truncated"), ("No.", "malformed"), ("", "malformed")]
)
def test_an_answer_without_a_whole_value_has_none(text: str, reason: str) -> None:
    answer = parse_json(text)
    assert answer.value is None
    assert [problem.reason for problem in answer.problems] == [reason]


def test_a_json_answer_that_breaks_the_schema_is_returned_with_its_problems() -> None:
    answer = parse_json("[1]", {"type": "object"})
    assert answer.value == [1]
    assert str(answer.problems[0]).startswith("type: $: ")


# Cost.


def test_of_a_block_or_list_the_first_calls_are_read_and_the_rest_is_one_invalid_call() -> None:
    for written in ("\n".join([OBJECT] * 100), f"[{', '.join([OBJECT] * 100)}]"):
        completion = parse_completion(f"Before.\n<tool_call>{written}</tool_call>\n{CALL}", TOOLS)
        assert calls(completion) == [BREST] * 65
        assert [call.error for call in completion.invalid_tool_calls] == [
            "malformed: only the first 64 calls of a block or list are read"
        ]
        assert completion.invalid_tool_calls[0].arguments.count("Brest") >= 36
    whole = parse_completion(f"<tool_call>{' '.join([OBJECT] * 64)}</tool_call>", TOOLS)
    assert (len(whole.tool_calls), whole.invalid_tool_calls) == (64, ())


def test_an_endless_loop_of_calls_ends_the_answer() -> None:
    completion = parse_completion(CALL * 1500 + "Prose.", TOOLS)
    assert (len(completion.tool_calls), reasons(completion), completion.content) == (1000, ["malformed"], "")
    assert len(parse_completion(CALL * 999, TOOLS).tool_calls) == 999


@pytest.mark.parametrize(
    ("start", "period"),
    [
        *(
            ("", "["),
            ("", "<"),
            ("", "<tool_call>"),
            ("<tool_call>", "["),
            ("<tool_call>", "{'a':"),
            ("<tool_call>{", "<"),
        ),
        *(
            ('<tool_call>{"a": "', "x"),
            ('<tool_call>{"a": "', "\\"),
            ("<tool_call>{", "\"'"),
            ("<tool_call>{x '", "} <"),
        ),
        *(("", '<tool_call>{"name": "get_tide", "arguments": {'), ("", CALL), ("", "```json\n{"), ("", '\n[{"name":')),
        *(("<tool_call>", "{} "), ("<tool_call>[", "{},"), ("", "<tool_call>x"), ("", "<function=get_tide>{}")),
        *(("", "<tool>{"), ("<think>", "<tool_call>"), ("", "</s>"), ("", "`"), ("<tool_call>[", "1,"), ("", " ")),
        *(
            ("x", " <think>"),
            ("<tool_call>x", "<think>"),
            ("<tool_call>x", "</tool_cal"),
            ("x", "\n"),
            ("x ", "</think>\n"),
        ),
        ('<tool_call>["', """]</tool_call><tool_call>[' ", "]</tool_call><tool_call>[', ' ", \""""),
    ],
)
def test_cost_is_linear_whatever_the_text(start: str, period: str) -> None:
    text = start + period * (10**6 // len(period))
    begun = time.process_time()
    parse_completion(text, TOOLS)
    stream(text[: 5 * 10**4], TOOLS)
    # Quadratic cost would be hours; on an idle core the slowest takes 2 s.
    assert time.process_time() - begun < 20
