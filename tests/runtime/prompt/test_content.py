"""What blocks say: text is shown, media are refused or become a note, and only what a rule names is left out."""

from __future__ import annotations

import base64
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.prompt import content
from hermes_runtime.prompt.content import result_text, said_beside, text_of

SPEAKERS = ("system", "user", "assistant", "tool")
PNG = base64.b64encode(b"\x89PNG" * 300).decode()
MARKDOWN = base64.b64encode("Grüße".encode()).decode()
NOTE = "omitted: this model reads text only]"


@pytest.fixture(autouse=True)
def _nothing_warned():
    content._warn_of_omission.cache_clear()


@pytest.mark.parametrize("speaker", SPEAKERS)
@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("Hi", "Hi"),
        ({"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}, "Hi"),
        ({"text": "Hi"}, "Hi"),
        ({"type": "input_text", "text": "Hi"}, "Hi"),
        ({"type": "text-plain", "text": "Hi", "mime_type": "text/plain"}, "Hi"),
        ({"type": "text-plain", "base64": MARKDOWN}, "Grüße"),
        ({"type": "refusal", "refusal": "No."}, "No."),
        ({"type": "guard_content", "text": "Hi"}, "Hi"),
        ({"type": "guard_content", "guard_content": {"text": "Hi"}}, "Hi"),
        ({"guardContent": {"text": {"text": "Hi"}}}, "Hi"),
        ({"type": "audio", "id": "a", "transcript": "Hi"}, "Hi"),
        ({"type": "json", "json": {"a": None}}, '{"a": null}'),
        ({"json": {"a": None}}, '{"a": null}'),
        ({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Hi"}}, "Hi"),
        ({"type": "document", "title": "T", "context": "C", "source": {"type": "text", "data": "Hi"}}, "T\nC\nHi"),
        ({"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "Hi"}]}}, "Hi"),
        ({"document": {"format": "txt", "name": "T", "source": {"text": "Hi"}}}, "T\nHi"),
        ({"type": "file", "source_type": "text", "text": "Hi", "mime_type": "text/plain"}, "Hi"),
        ({"type": "file", "base64": MARKDOWN, "mime_type": "text/markdown"}, "Grüße"),
        ({"type": "file", "file": {"filename": "T", "file_data": f"data:text/plain;base64,{MARKDOWN}"}}, "T\nGrüße"),
        (
            {"type": "search_result", "source": "u", "title": "T", "content": [{"type": "text", "text": "Hi"}]},
            "T\nu\nHi",
        ),
        ({"type": "non_standard", "value": {"type": "document", "source": {"type": "text", "data": "Hi"}}}, "Hi"),
        ({"type": "compaction", "content": "So far."}, "So far."),
    ],
)
def test_what_is_text_is_shown_whoever_says_it(block, said, speaker):
    assert text_of([block], speaker) == said


@pytest.mark.parametrize("speaker", SPEAKERS)
@pytest.mark.parametrize("mark", [{"cachePoint": {"type": "default"}}, {"type": "cache_point"}])
def test_cache_marks_say_nothing(mark, speaker):
    assert text_of([{"text": "Hi"}, mark, {"text": " there"}], speaker) == "Hi there"


@pytest.mark.parametrize("speaker", ["system", "user", "assistant"])
@pytest.mark.parametrize(
    "thought",
    [
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "redacted_thinking", "data": PNG},
        {"type": "reasoning", "summary": []},
        {"reasoningContent": {"reasoningText": {"text": "hm"}}},
    ],
)
def test_thoughts_are_not_shown_again(thought, speaker):
    assert text_of([thought, {"text": "Hi"}], speaker) == "Hi"


@pytest.mark.parametrize(
    "block",
    [
        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
        {"toolUse": {"toolUseId": "a", "name": "f", "input": {}}},
        {"type": "server_tool_use", "id": "a", "name": "web_search"},
        {"type": "web_search_tool_result", "content": [{"encrypted_content": PNG}]},
        {"type": "executable_code", "executable_code": "1"},
        {"type": "non_standard", "value": {}},
    ],
)
def test_what_stands_beside_the_text_of_an_answer_is_its_vendors_own(block):
    assert text_of([{"type": "text", "text": "Hi"}, block], "assistant") == "Hi"


@pytest.mark.parametrize("speaker", ["system", "user", "tool"])
@pytest.mark.parametrize("block", [{"type": "resource_link", "uri": "u"}, {"type": "tool_use", "name": "f"}, {"no": 1}])
def test_a_block_of_no_known_kind_is_shown_as_the_json_that_it_is(block, speaker):
    assert json.loads(text_of([block], speaker)) == block
    assert text_of(["Look: ", block, "Well?"], speaker) == f"Look: \n{json.dumps(block)}\nWell?"


MEDIA = [
    ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}, "image", None),
    (
        {"type": "image_url", "image_url": {"url": "https://h/a.png"}},
        "image",
        {"image_url": {"url": "https://h/a.png"}},
    ),
    ({"type": "image", "base64": "AAAA", "mime_type": "image/png"}, "image", None),
    ({"type": "image", "base64": b"\x89PNG", "mime_type": "image/png"}, "image", None),
    ({"type": "image", "url": "https://h/a.png"}, "image", {"url": "https://h/a.png"}),
    ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}, "image", None),
    ({"image": {"format": "png", "source": {"bytes": b"\x89PNG"}}}, "image", None),
    ({"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"}, "audio", None),
    ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, "audio", None),
    ({"type": "video", "url": "https://h/a.mp4"}, "video", {"url": "https://h/a.mp4"}),
    ({"type": "file", "file_id": "f1"}, "file", {"file_id": "f1"}),
    ({"type": "file", "base64": "AAAA", "mime_type": "application/pdf", "name": "a.pdf"}, "file", {"name": "a.pdf"}),
    ({"type": "file", "file": {"filename": "a", "file_data": PNG}}, "file", {"file": {"filename": "a"}}),
    ({"type": "text-plain", "url": "https://h/a.txt"}, "file", {"url": "https://h/a.txt"}),
    (
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PNG}},
        "document",
        None,
    ),
    ({"type": "media", "mime_type": "image/png", "data": PNG}, "file", None),
]


@pytest.mark.parametrize("speaker", ["user", "system"])
@pytest.mark.parametrize("block", [block for block, _, _ in MEDIA])
def test_media_of_a_user_or_the_instructions_are_refused_by_their_type(block, speaker):
    with pytest.raises(InvalidRequestError, match=f"a {speaker} message holds content of type .*reads text only"):
        text_of([{"type": "text", "text": "Look:"}, block], speaker)


@pytest.mark.parametrize("speaker", ["assistant", "tool"])
@pytest.mark.parametrize(("block", "kind", "described"), MEDIA)
def test_media_that_stand_in_a_thread_become_a_note_of_what_is_said_of_them(block, kind, described, speaker):
    said = "" if described is None else f" {json.dumps(described)}"
    assert text_of(["Shot:", block], speaker) == f"Shot:\n[{kind} {NOTE}{said}"


@pytest.mark.parametrize(("block", "kind", "described"), MEDIA)
def test_media_of_a_user_are_the_same_note_where_tokens_are_counted(block, kind, described):
    assert text_of([block], omit_media=True) == text_of([block], "tool")


def test_what_is_omitted_is_said_in_the_log_once_per_kind(caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            result_text([{"type": "image", "base64": "AAAA"}])
        text_of([{"type": "image", "base64": "AAAA"}], omit_media=True)
    assert ["image content" in record.message for record in caplog.records] == [True]


ROWS = [
    {"type": "file", "name": "a.txt", "size": 3},
    {"type": "image", "title": "A cat", "url": "https://h/cat", "width": 3},
    {"type": "document", "source": "wiki", "text": "Oslo is a city.", "score": 0.5},
    {"type": "document", "url": "https://h/oslo", "content": "Oslo is a city."},
    {"type": "search_result", "title": "Oslo", "snippet": "A city", "url": "https://h/oslo"},
    {"type": "text", "name": "b.txt"},
    {"type": "json", "name": "c.json"},
    {"type": "reasoning", "why": "because"},
    {"type": "tool_use", "name": "hammer"},
    {"id": 1},
    7,
]


@pytest.mark.parametrize("row", ROWS)
def test_rows_of_a_tool_that_look_like_blocks_stay_a_list_of_rows(row):
    assert json.loads(result_text([row])) == [row]
    assert json.loads(result_text([row, *ROWS])) == [row, *ROWS]


def test_parts_of_a_result_stay_apart():
    assert result_text(["2", {"type": "text", "text": "3"}, {"type": "json", "json": [4]}, ROWS[0]]) == "\n".join(
        ["2", "3", "[4]", json.dumps(ROWS[0])]
    )


def test_a_result_of_one_value_is_that_value():
    assert result_text([{"type": "json", "json": {"a": 1}}]) == '{"a": 1}'
    assert result_text([]) == result_text(None) == result_text("") == ""
    assert result_text({"a": 1}) == '{"a": 1}'


def test_bytes_in_a_block_of_no_known_kind_do_not_fill_the_prompt():
    block = {"type": "resource", "resource": {"uri": "file:///a.png", "blob": PNG}}
    assert result_text([block]) == f'[data {NOTE} {{"resource": {{"uri": "file:///a.png"}}}}'
    with pytest.raises(InvalidRequestError, match="resource"):
        text_of([block])


def test_answers_say_what_their_other_fields_hold():
    assert said_beside({"refusal": "No."}) == "No."
    assert said_beside({"refusal": None, "audio": {"id": "a", "transcript": "Hello."}}) == "Hello."
    assert said_beside({"audio": None}) == ""


_KINDS = [*content._MEDIA, *content._TEXT_KEYS, "json", "search_result", "non_standard", "thinking", "row"]
_VALUES = st.recursive(
    st.none()
    | st.integers()
    | st.text(max_size=8)
    | st.just(PNG)
    | st.binary(max_size=4)
    | st.just("data:a/b;base64,AA"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["text", "url", "data"]), inner),
    max_leaves=4,
)
_KEYS = ["text", "source", "content", "value", "json", "url", "base64", "data", "title", "image_url", "file", "size"]
_BLOCKS = st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=4).flatmap(
    lambda fields: st.sampled_from(_KINDS).map(lambda kind: {"type": kind, **fields}) | st.just(fields)
)


@given(st.lists(_BLOCKS | _VALUES, max_size=3))
def test_no_result_and_no_earlier_answer_can_end_a_thread(blocks):
    for said in (result_text(blocks), text_of(blocks, "assistant"), text_of(blocks, "user", omit_media=True)):
        assert isinstance(said, str)


@given(st.lists(_BLOCKS | _VALUES, max_size=3), st.sampled_from(["user", "system"]))
def test_a_user_is_understood_or_told_why_not(blocks, speaker):
    try:
        text_of(blocks, speaker)
    except InvalidRequestError as error:
        assert "reads text only" in str(error)  # noqa: PT017 - any of the two outcomes is right
