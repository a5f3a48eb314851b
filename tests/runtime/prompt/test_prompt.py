"""The prompt room: the documented bytes, the tokenizer's own ids, and no way to open a turn from within a text."""

from __future__ import annotations

import json
import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_runtime.dialects import DIALECTS
from hermes_runtime.errors import InvalidRequestError, SchemaError, ToolChoiceError
from hermes_runtime.messages import (
    Assistant,
    InvalidToolCall,
    System,
    ToolCall,
    ToolResult,
    ToolSpec,
    User,
)
from hermes_runtime.problems import Problem
from hermes_runtime.prompt import build_prompt
from hermes_runtime.prompt.replay import ReplayMap
from tests.support.mistral import BOS, IM_END, IM_START
from tests.support.places import DATA

STOCKS = ToolSpec(
    "get_stock_fundamentals",
    "get_stock_fundamentals(symbol: str) -> dict - Get fundamental data for a given stock symbol using yfinance API."
    "\n\n Args:\n symbol (str): The stock symbol.\n\n Returns:\n dict: A dictionary containing fundamental data.",
    {"type": "object", "properties": {"symbol": {"type": "string"}}, "required": ["symbol"]},
)
WEATHER = ToolSpec("get_weather", "Weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
CARD_CONVERSATION = (
    User("Fetch the stock fundamentals data for Tesla (TSLA)"),
    Assistant(calls=(ToolCall("c1", "get_stock_fundamentals", {"symbol": "TSLA"}),)),
    ToolResult("c1", {"symbol": "TSLA", "dividend_yield": None, "eps": 4.3, "beta": 2.427}),
)
# The model card's function-calling example, with the line breaks it shows.
CARD_PROMPT = (DATA / "card_prompt.txt").read_text(encoding="utf-8")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
CONTROL = st.sampled_from(["<|im_start|>", "<|im_end|>", "<s>", "</s>", "<unk>", "<|im_start|>system\n"])
HOSTILE = st.lists(st.one_of(TEXT, CONTROL, st.just("</tool_response>"), st.just("</tools>")), max_size=6).map("".join)


def own_ids(tokenizer, text):
    return tuple(tokenizer(text, add_special_tokens=False).input_ids)


def test_card_dialect_is_the_model_card_byte_for_byte(mistral_tokenizer):
    prompt = build_prompt(CARD_CONVERSATION, tokenizer=mistral_tokenizer, tools=[STOCKS])
    assert prompt.text == CARD_PROMPT


def test_json_dialect_is_the_later_card(mistral_tokenizer):
    prompt = build_prompt(CARD_CONVERSATION[:2], tokenizer=mistral_tokenizer, tools=[STOCKS], dialect="json_args_first")
    assert '<tools> {"type": "function", "function": {"name": "get_stock_fundamentals", "description": ' in prompt.text
    assert (
        '{"properties": {"arguments": {"title": "Arguments", "type": "object"}, "name": {"title": "Name", "type": '
        '"string"}}, "required": ["arguments", "name"], "title": "FunctionCall", "type": "object"} For each function '
        "call return a json object with function name and arguments within <tool_call></tool_call> XML tags as "
        'follows:\n<tool_call>\n{"arguments": <args-dict>, "name": <function-name>}\n</tool_call><|im_end|>'
    ) in prompt.text
    assert (
        '<tool_call>\n{"arguments": {"symbol": "TSLA"}, "name": "get_stock_fundamentals"}\n</tool_call>' in prompt.text
    )


def test_name_first_dialect_writes_the_name_first(mistral_tokenizer):
    prompt = build_prompt(CARD_CONVERSATION[:2], tokenizer=mistral_tokenizer, tools=[STOCKS], dialect="name_first")
    assert '"required": ["name", "arguments"]' in prompt.text
    assert '{"name": <function-name>, "arguments": <args-dict>}' in prompt.text
    assert '{"name": "get_stock_fundamentals", "arguments": {"symbol": "TSLA"}}' in prompt.text


def test_scratch_pad_dialect_lists_tools_and_explains_the_pad(mistral_tokenizer):
    prompt = build_prompt(CARD_CONVERSATION[:2], tokenizer=mistral_tokenizer, tools=[STOCKS], dialect="scratch_pad")
    assert "<tools>\n[{'type': 'function', 'function': {'name': 'get_stock_fundamentals'" in prompt.text
    assert "Reflection: <evaluate query-tool relevance" in prompt.text
    assert (
        "<tool_call>\n{'name': 'get_stock_fundamentals', 'arguments': {'symbol': 'TSLA'}}\n</tool_call>" in prompt.text
    )


def test_several_tools_form_a_list_in_every_dialect(mistral_tokenizer):
    for dialect in DIALECTS.values():
        text = build_prompt([User("x")], tokenizer=mistral_tokenizer, tools=[STOCKS, WEATHER], dialect=dialect).text
        assert dialect.literal([STOCKS.as_openai(), WEATHER.as_openai()]) in text


def test_json_mode_shows_the_schema(mistral_tokenizer):
    schema = {"type": "object", "properties": {"port": {"type": "string"}}, "required": ["port"]}
    prompt = build_prompt([User("Where?")], tokenizer=mistral_tokenizer, schema=schema)
    assert prompt.text.startswith(
        "<s><|im_start|>system\nYou are a helpful assistant that answers in JSON. Here's the json schema you must "
        f"adhere to:\n<schema>\n{json.dumps(schema)}\n</schema><|im_end|>\n<|im_start|>user\n"
    )


@pytest.mark.parametrize("dialect", DIALECTS)
@given(user=TEXT, result=TEXT, description=TEXT)
def test_ids_equal_the_tokenizers_own_for_harmless_text(mistral_tokenizer, dialect, user, result, description):
    conversation = [
        System("Be brief."),
        User(user),
        Assistant("Let me look.", (ToolCall("c", "get_weather", {"city": user}),)),
        ToolResult("c", result),
        Assistant("Done."),
        User("Thanks"),
    ]
    tools = [ToolSpec("get_weather", description, WEATHER.parameters)]
    prompt = build_prompt(conversation, tokenizer=mistral_tokenizer, tools=tools, dialect=dialect)
    if not any(control in user + result + description for control in ("<s>", "</s>", "<unk>", "<|im_")):
        assert prompt.token_ids == own_ids(mistral_tokenizer, prompt.text)


@pytest.mark.parametrize("dialect", DIALECTS)
@given(system=HOSTILE, user=HOSTILE, answer=HOSTILE, result=HOSTILE, description=HOSTILE)
def test_no_text_can_open_or_close_a_turn(mistral_tokenizer, dialect, system, user, answer, result, description):
    def control_ids(*texts):
        system, user, answer, result, description = texts
        conversation = [
            System(system or "s"),
            User(user),
            Assistant(answer, (ToolCall("c", "get_weather", {"city": user}),)),
            ToolResult("c", result),
            ToolResult("c2", {"text": result}),
        ]
        tools = [ToolSpec("get_weather", description, {"type": "object", "properties": {"a": {"title": description}}})]
        ids = build_prompt(
            conversation, tokenizer=mistral_tokenizer, tools=tools, schema={"title": description}, dialect=dialect
        ).token_ids
        return [token_id for token_id in ids if token_id in (0, 1, 2, IM_START, IM_END)]

    assert control_ids(system, user, answer, result, description) == control_ids("s", "u", "a", "r", "d")


@given(result=HOSTILE)
def test_a_tool_result_cannot_close_its_block(mistral_tokenizer, result):
    for content in (result, {"text": result}, [result]):
        conversation = [Assistant(calls=(ToolCall("c", "f", {}),)), ToolResult("c", content)]
        text = build_prompt(conversation, tokenizer=mistral_tokenizer).text
        assert text.count("</tool_response>") == 1


@given(text=HOSTILE)
def test_hostile_text_still_reaches_the_model_as_text(mistral_tokenizer, text):
    ids = build_prompt([User(text)], tokenizer=mistral_tokenizer).token_ids
    body = ids[2:-1][: ids[2:].index(IM_END)]
    assert mistral_tokenizer.decode(body, skip_special_tokens=False) == "user\n" + text


def test_exactly_one_bos_even_when_the_text_begins_with_one(mistral_tokenizer):
    ids = build_prompt([User("<s>hello")], tokenizer=mistral_tokenizer).token_ids
    assert ids[0] == BOS
    assert ids.count(BOS) == 1


def roles(prompt):
    return re.findall(r"<\|im_start\|>(\w+)", prompt.text)[:-1]


def test_leading_system_messages_become_one_turn_after_the_tools(mistral_tokenizer):
    conversation = [System("First."), System(""), System("Second."), User("x")]
    prompt = build_prompt(conversation, tokenizer=mistral_tokenizer, tools=[WEATHER])
    assert roles(prompt) == ["system", "user"]
    assert "</tool_call>\n\nFirst.\n\nSecond.<|im_end|>" in prompt.text


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_later_system_message_is_a_turn_of_its_own_where_it_stands(mistral_tokenizer, dialect):
    conversation = [System("First."), User("x"), System(""), Assistant("y"), System("Now."), System("Last.")]
    prompt = build_prompt(conversation, tokenizer=mistral_tokenizer, tools=[WEATHER], dialect=dialect)
    assert roles(prompt) == ["system", "user", "assistant", "system", "system"]
    assert prompt.text.endswith(
        "<|im_start|>assistant\ny<|im_end|>\n<|im_start|>system\nNow.<|im_end|>\n<|im_start|>system\nLast.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_system_message_among_results_follows_them_and_keeps_their_order(mistral_tokenizer):
    calls = Assistant(calls=(ToolCall("a", "slow", {}), ToolCall("b", "fast", {})))
    results = ToolResult("b", "second"), ToolResult("a", "first")
    stated = [User("x"), calls, *results, System("Be quick."), User("go on")]
    plain = build_prompt(stated, tokenizer=mistral_tokenizer)
    assert roles(plain) == ["user", "assistant", "tool", "system", "user"]
    for place in (2, 3):
        among = [*stated[:2], *results, stated[-1]]
        among.insert(place, System("Be quick."))
        assert build_prompt(among, tokenizer=mistral_tokenizer) == plain


_IDS = st.sampled_from("abc")
_SAID = st.one_of(
    TEXT.map(System),
    TEXT.map(User),
    st.builds(Assistant, TEXT, st.lists(st.builds(ToolCall, _IDS, st.just("f"), st.just({})), max_size=2).map(tuple)),
    st.builds(ToolResult, _IDS, TEXT),
)


@pytest.mark.parametrize("dialect", DIALECTS)
@given(before=st.lists(_SAID, max_size=5), after=st.lists(_SAID, max_size=3))
def test_what_is_appended_leaves_the_prompt_before_it_as_it_was(mistral_tokenizer, dialect, before, after):
    before = [System("Be brief."), User("Go."), *before]
    if isinstance(next((message for message in after if not isinstance(message, System)), None), ToolResult):
        after = [User("And?"), *after]  # results in a row share their turn

    def ids(messages):
        prompt = build_prompt(messages, tokenizer=mistral_tokenizer, tools=[WEATHER], dialect=dialect)
        return prompt.token_ids[: -len(header)]

    header = build_prompt([System("")], tokenizer=mistral_tokenizer).token_ids[1:]
    assert ids([*before, *after])[: len(ids(before))] == ids(before)


def test_a_late_system_message_leaves_earlier_answers_to_be_replayed(mistral_tokenizer):
    replay, generated = ReplayMap(), (28705, 28705, 22557, IM_END)
    first = build_prompt([User("x")], tokenizer=mistral_tokenizer)
    replay.remember(first.token_ids, Assistant("Hi"), generated)
    history = [User("x"), Assistant("Hi"), System("In French."), User("and?")]
    prompt = build_prompt(history, tokenizer=mistral_tokenizer, replay=replay)
    assert prompt.token_ids[: len(first.token_ids) + 4] == (*first.token_ids, *generated)


def test_results_are_put_in_call_order_and_named_by_id(mistral_tokenizer):
    conversation = [
        User("x"),
        Assistant(calls=(ToolCall("a", "slow", {}), ToolCall("b", "fast", {}))),
        ToolResult("b", "second"),
        ToolResult("a", "first"),
    ]
    text = build_prompt(conversation, tokenizer=mistral_tokenizer).text
    assert text.count("<|im_start|>tool") == 1
    assert text.index('{"name": "slow", "content": "first"}') < text.index('{"name": "fast", "content": "second"}')


def test_orphan_and_unnamed_results_render(mistral_tokenizer):
    text = build_prompt([ToolResult("gone", "left over"), User("go on")], tokenizer=mistral_tokenizer).text
    assert '<tool_response>\n{"content": "left over"}\n</tool_response>' in text


def test_failed_result_says_that_it_is_an_error(mistral_tokenizer):
    conversation = [Assistant(calls=(ToolCall("a", "f", {}),)), ToolResult("a", "no such port", is_error=True)]
    assert '"content": "Error: no such port"' in build_prompt(conversation, tokenizer=mistral_tokenizer).text


def test_json_text_of_a_tool_is_shown_as_the_value_it_is(mistral_tokenizer):
    conversation = [Assistant(calls=(ToolCall("a", "f", {}),)), ToolResult("a", '{"ok": true, "left": null}')]
    assert "\"content\": {'ok': True, 'left': None}}" in build_prompt(conversation, tokenizer=mistral_tokenizer).text


def test_text_that_only_looks_like_json_stays_text(mistral_tokenizer):
    conversation = [Assistant(calls=(ToolCall("a", "f", {}),)), ToolResult("a", "[see the note]")]
    assert '"content": "[see the note]"' in build_prompt(conversation, tokenizer=mistral_tokenizer).text


def test_invalid_calls_are_shown_as_the_model_wrote_them(mistral_tokenizer):
    cut = InvalidToolCall("i", "f", '{"name": "f", "arg', Problem("truncated", "cut"))
    conversation = [
        User("x"),
        Assistant("Sure.", invalid_calls=(cut,)),
        ToolResult("i", "cut off", is_error=True),
    ]
    text = build_prompt(conversation, tokenizer=mistral_tokenizer).text
    assert 'Sure.\n<tool_call>\n{"name": "f", "arg\n</tool_call><|im_end|>' in text
    assert '{"name": "f", "content": "Error: cut off"}' in text


def test_openai_dicts_render_like_message_objects(mistral_tokenizer):
    dicts = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Fetch "}, {"type": "text", "text": "it"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"n": 1}'}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "7"},
    ]
    objects = [
        System("Be brief."),
        User("Fetch it"),
        Assistant(calls=(ToolCall("a", "f", {"n": 1}),)),
        ToolResult("a", "7"),
    ]
    assert build_prompt(dicts, tokenizer=mistral_tokenizer) == build_prompt(objects, tokenizer=mistral_tokenizer)


def test_generated_ids_are_replayed_and_closed_once(mistral_tokenizer):
    generated = (28705, 28705, 22557)  # no encoder would split the text so
    cut = build_prompt([User("x"), Assistant("Hi", token_ids=generated)], tokenizer=mistral_tokenizer)
    ended = build_prompt([User("x"), Assistant("Hi", token_ids=(*generated, IM_END))], tokenizer=mistral_tokenizer)
    assert cut.token_ids == ended.token_ids
    first = build_prompt([User("x")], tokenizer=mistral_tokenizer).token_ids
    assert ended.token_ids[: len(first) + 4] == (*first, *generated, IM_END)


def test_a_remembered_turn_is_replayed_only_in_its_own_conversation(mistral_tokenizer):
    replay, generated = ReplayMap(), (28705, 28705, 22557, IM_END)
    first = build_prompt([User("x")], tokenizer=mistral_tokenizer)
    replay.remember(first.token_ids, Assistant("Hi"), generated)

    def rendered(question, answer):
        history = [User(question), Assistant(answer), User("and?")]
        return build_prompt(history, tokenizer=mistral_tokenizer, replay=replay).token_ids

    assert rendered("x", "Hi")[: len(first.token_ids) + 4] == (*first.token_ids, *generated)
    plain = build_prompt([User("y"), Assistant("Hi"), User("and?")], tokenizer=mistral_tokenizer).token_ids
    assert rendered("y", "Hi") == plain


def test_an_edited_call_is_not_replayed(mistral_tokenizer):
    replay = ReplayMap()
    first = build_prompt([User("x")], tokenizer=mistral_tokenizer)
    replay.remember(first.token_ids, Assistant(calls=(ToolCall("a", "f", {"n": 1}),)), (22557, IM_END))
    edited = [User("x"), Assistant(calls=(ToolCall("a", "f", {"n": 2}),))]
    assert "'n': 2" in build_prompt(edited, tokenizer=mistral_tokenizer, replay=replay).text


def test_replay_map_is_bounded():
    replay = ReplayMap(capacity=2)
    for question in range(3):
        replay.remember((question,), Assistant("same"), (question,))
    assert [replay.recall((question,), Assistant("same")) for question in range(3)] == [None, (1,), (2,)]


def test_a_turn_without_tools_or_system_has_no_system_turn(mistral_tokenizer):
    text = build_prompt([User("Hello")], tokenizer=mistral_tokenizer).text
    assert text == "<s><|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"


def test_tools_are_not_shown_when_none_may_be_called(mistral_tokenizer):
    free = build_prompt([User("Hello")], tokenizer=mistral_tokenizer)
    assert build_prompt([User("Hello")], tokenizer=mistral_tokenizer, tools=[WEATHER], tool_choice="none") == free


def test_inputs_are_never_mutated(mistral_tokenizer):
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    history = [{"role": "user", "content": "x"}]
    before = json.dumps([tool, history])
    build_prompt(history, tokenizer=mistral_tokenizer, tools=[tool])
    assert json.dumps([tool, history]) == before


@pytest.mark.parametrize(
    ("messages", "tools", "options", "error", "says"),
    [
        ([], [], {}, InvalidRequestError, "empty"),
        ([{"role": "narrator", "content": "x"}], [], {}, InvalidRequestError, "narrator"),
        (["x"], [], {}, InvalidRequestError, "'x'"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], [], {}, InvalidRequestError, "image_url"),
        ([{"role": "system", "content": [{"type": "image"}]}], [], {}, InvalidRequestError, "a system message"),
        ([User("x")], [{"description": "no name"}], {}, InvalidRequestError, "name"),
        ([User("x")], [{"name": " "}], {}, InvalidRequestError, "non-empty name"),
        ([User("x")], [WEATHER, WEATHER], {}, InvalidRequestError, "get_weather"),
        ([User("x")], [{"name": "f", "parameters": ["city"]}], {}, InvalidRequestError, "list"),
        ([User("x")], [WEATHER], {"dialect": "latin"}, InvalidRequestError, "latin"),
        ([User("x")], [WEATHER], {"tool_choice": "get_wether"}, ToolChoiceError, "get_wether"),
        ([User("x")], [], {"tool_choice": "any"}, ToolChoiceError, "no tools"),
        ([User("x")], [{"name": "f", "parameters": {"default": {1, 2}}}], {}, SchemaError, "set"),
    ],
)
def test_bad_input_is_a_typed_error_that_names_it(mistral_tokenizer, messages, tools, options, error, says):
    with pytest.raises(error, match=says):
        build_prompt(messages, tokenizer=mistral_tokenizer, tools=tools, **options)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_values_without_a_json_form_are_shown_as_text(mistral_tokenizer, dialect):
    history = [Assistant(calls=(ToolCall("a", "f", {"when": date(2020, 1, 2)}),)), ToolResult("a", [{1}, b"x"])]
    text = build_prompt(history, tokenizer=mistral_tokenizer, dialect=dialect).text
    assert "2020-01-02" in text
    assert "{1}" in text


SPLIT, LONE = "\ud83d\ude00", "\ud83d"


@pytest.mark.parametrize("dialect", DIALECTS)
@given(before=TEXT, after=TEXT)
def test_a_lone_surrogate_is_replaced_wherever_it_stands(mistral_tokenizer, dialect, before, after):
    def rendered(lone, pair):
        text = f"{before}{lone}{after}{pair}"
        conversation = [
            System(text),
            User(text),
            Assistant(text, (ToolCall("c", "f", {text: [text]}),)),
            ToolResult("c", text),
            ToolResult("d", {text: text}),
            System(text),
        ]
        tool = ToolSpec("f", text, {"type": "object", "properties": {text: {"enum": [text]}}})
        return build_prompt(
            conversation, tokenizer=mistral_tokenizer, tools=[tool], schema={"title": text}, dialect=dialect
        )

    assert rendered(LONE, SPLIT) == rendered("\N{REPLACEMENT CHARACTER}", "\N{GRINNING FACE}")
