"""What the answer of a turn without tools is read as."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_runtime.parser import Event, ReasoningDelta, TextDelta
from hermes_runtime.parser.markup import TAG, opens_reasoning
from hermes_runtime.parser.plain_text import TextReader
from tests.support.strategies import CALL, COMPLETIONS, EXPLAINED

OPENERS = st.sampled_from(["", " ", "\n", "<think>", "<think>\n", "\n<scratch_pad>\n", "<thi", "< think >"])


def read(pieces: list[str] | str, finish_reason: str = "stop") -> tuple[str, str]:
    """Return text and reasoning."""
    reader = TextReader()
    events: list[Event] = [event for piece in pieces for event in reader.feed(piece)] + reader.close(finish_reason)
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    return text, "".join(event.text for event in events if isinstance(event, ReasoningDelta))


@pytest.mark.parametrize(
    "text",
    [
        *(EXPLAINED, CALL, f"  So:\n{CALL}\n\n", "<tool_call>", "</tool_call>\n", "<tool_response>\nx", "a</s>", "\n"),
        *(
            "half a <tool_",
            "<|im_end|> ends it.\n",
            "Use <think> first.",
            "<think> is a tag.",
            "</think>",
            "<thi",
            " \n ",
        ),
    ],
)
def test_without_tools_nothing_is_markup(text: str) -> None:
    assert read([text]) == read(text) == (text, "")


@settings(max_examples=300)
@given(OPENERS, st.text() | COMPLETIONS, st.lists(st.integers(0, 300), max_size=5), st.sampled_from(["stop", "length"]))
def test_every_character_is_kept_in_whatever_pieces_it_arrives(
    opener: str, rest: str, cuts: list[int], finish_reason: str
) -> None:
    text = opener + rest
    whole = read([text], finish_reason)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    assert read([text[begin:end] for begin, end in pairwise(edges)], finish_reason) == whole
    assert read(text, finish_reason) == whole
    if not opens_reasoning(TAG.match(text.lstrip())):
        assert whole == (text, "")
    assert text.endswith(whole[0])


@pytest.mark.parametrize("opening", ["<think>", "\n<think>\n", "<scratch_pad>\n", "<scratch_pad> ", "<THINK>"])
def test_a_closed_block_that_opens_the_answer_is_reasoning(opening: str) -> None:
    text = f"{opening}Use {CALL}?\n</{opening.strip().strip('<>')}>\n\n  Fine <think>, {CALL}"
    answer, reasoning = read(text)
    assert (answer, reasoning) == (f"Fine <think>, {CALL}", f"Use {CALL}?\n")


def test_reasoning_on_lines_of_its_own_streams() -> None:
    reader = TextReader()
    assert reader.feed("<think>") == []
    assert reader.feed("\nLet") == [ReasoningDelta("Let")]
    assert reader.feed(" me</thi") == [ReasoningDelta(" me")]
    assert reader.feed("nk>\n") == []
    assert reader.feed("Yes\n") == [TextDelta("Yes\n")]
    assert reader.feed("<") == [TextDelta("<")]


def test_reasoning_on_the_line_of_its_tag_waits_until_it_closes_or_is_cut() -> None:
    reader = TextReader()
    assert reader.feed("<think>Let me see") == []
    assert reader.feed(".</think>Yes") == [ReasoningDelta("Let me see."), TextDelta("Yes")]
    assert read("<think>Let me see") == ("<think>Let me see", "")
    assert read("<think>Let me see", "length") == ("", "Let me see")


def test_an_answer_that_ends_within_its_reasoning_has_no_text() -> None:
    for finish_reason in ("stop", "length", "cancelled"):
        assert read("<think>\nLet me see", finish_reason) == ("", "Let me see")
