"""Options of hosted models' classes, read without a model: each has a meaning, is harmless, or is refused in words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_runtime.engines.base import GenerationRequest
from hermes_runtime.errors import EngineError, GenerationTimeoutError, InvalidRequestError, ToolChoiceError
from hermes_runtime.messages import ToolChoice, ToolSpec
from hermes_runtime.options.generation import OPTION_NAMES
from hermes_runtime.options.hosted import HOSTED_OPTIONS, Place, names_server, own_options
from hermes_runtime.turn import RawTurn, TurnRequest
from tests.support.hosted_rows import (
    ALWAYS_HARMLESS,
    CALL_NAMES,
    CONSTRUCTOR_NAMES,
    HARMLESS,
    MEANT,
    MEANT_BY_CALLS,
    MEANT_BY_CONSTRUCTORS,
    REFUSED,
    REFUSED_TO_A_SERVER,
    VENDOR_ADDRESSES,
)
from tests.support.places import DOCS
from tests.support.scripted_engine import ScriptedEngine

OF_CALLS = frozenset(
    (
        *("temperature", "top_k", "repetition_penalty", "max_tokens", "stop", "seed", "timeout", "constrained"),
        *("tools", "tool_choice", "parallel_tool_calls", "response_format"),
    )
)
OF_CONSTRUCTOR = frozenset(
    ("model", "base_url", "api_key", "engine", "engine_options", "context_window", *OF_CALLS)
) - {
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
}
CALL = Place.call(OF_CALLS, OF_CONSTRUCTOR)
CONSTRUCTOR = Place.constructor(OF_CONSTRUCTOR, OF_CALLS)


def read(place=CALL, *, is_remote=False, **options):
    return own_options(options, place, is_remote=is_remote)


def test_every_row_of_the_table_is_tested():
    tested = {name for options, _ in (*MEANT, *MEANT_BY_CALLS, *MEANT_BY_CONSTRUCTORS) for name in options}
    tested |= {name for name, *_ in (*HARMLESS, *REFUSED, *REFUSED_TO_A_SERVER)}
    assert set(HOSTED_OPTIONS) - tested == {"model_name", "messages", "input"}


def test_every_option_is_on_the_page_and_the_pages_code_runs():
    page = (DOCS / "hosted_options.md").read_text(encoding="utf-8")
    assert [name for name in HOSTED_OPTIONS if f"`{name}" not in page] == []
    for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        exec(compile(block, "hosted_options.md", "exec", dont_inherit=True), {"__name__": "docs"})


def test_every_refusal_says_what_to_do():
    can_be_refused = [
        option for option in HOSTED_OPTIONS.values() if not (option.means or option.is_harmless(object()))
    ]
    assert can_be_refused
    assert all(len(option.instead) > 15 for option in can_be_refused)


def test_no_name_of_a_hosted_class_is_unknown():
    of_both_adapters = {"model", *OPTION_NAMES, "max_retries"}
    assert {*CONSTRUCTOR_NAMES, *CALL_NAMES} <= {*HOSTED_OPTIONS, *OF_CALLS, *OF_CONSTRUCTOR, *of_both_adapters}


@pytest.mark.parametrize(("hosted", "own"), [*MEANT, *MEANT_BY_CALLS])
def test_a_hosted_option_means_an_own_one(hosted, own):
    meant = read(**hosted)
    if hosted.get("tool_choice"):  # brought into one form by the turn
        tools = [ToolSpec.coerce(tool) for tool in meant["tools"]]
        assert ToolChoice.coerce(meant.pop("tool_choice"), tools) == ToolChoice.coerce(own["tool_choice"], tools)
        own = {name: value for name, value in own.items() if name != "tool_choice"}
    assert {name: value for name, value in meant.items() if name != "constrained"} == own


@pytest.mark.parametrize(("hosted", "own"), MEANT_BY_CONSTRUCTORS)
def test_a_hosted_option_of_a_constructor_means_an_own_one(hosted, own):
    meant = read(CONSTRUCTOR, is_remote=names_server(hosted), **hosted)
    assert {name: value for name, value in meant.items() if value is not None} == own


@pytest.mark.parametrize(("name", "value"), HARMLESS)
@pytest.mark.parametrize("place", [CONSTRUCTOR, CALL], ids=["constructor", "call"])
def test_what_asks_for_nothing_is_dropped(name, value, place):
    if not name.endswith("api_key"):
        assert read(place, **{name: value}) == {}


@pytest.mark.parametrize(("name", "value", "words"), REFUSED)
@pytest.mark.parametrize("place", [CONSTRUCTOR, CALL], ids=["constructor", "call"])
def test_what_cannot_be_honored_is_refused_with_what_to_do(name, value, words, place):
    with pytest.raises(InvalidRequestError, match=rf"(?s)^{name}.* cannot be honored: .*{words}"):
        read(place, **{name: value})


@pytest.mark.parametrize(("name", "value", "words"), REFUSED_TO_A_SERVER)
def test_what_cannot_reach_a_server_is_refused(name, value, words):
    with pytest.raises(InvalidRequestError, match=words):
        read(CONSTRUCTOR, is_remote=True, **{name: value})


@pytest.mark.parametrize("place", [CONSTRUCTOR, CALL], ids=["constructor", "call"])
@pytest.mark.parametrize("is_remote", [False, True])
def test_none_is_absent_under_every_known_name(place, is_remote):
    nothing = dict.fromkeys([*HOSTED_OPTIONS, *OF_CALLS, *OF_CONSTRUCTOR])
    assert read(place, is_remote=is_remote, **nothing) == {}


@pytest.mark.parametrize("value", [None, 1])
def test_an_unknown_name_is_refused_whatever_its_value(value):
    with pytest.raises(InvalidRequestError, match="unknown option 'temprature', did you mean 'temperature'"):
        read(temprature=value)
    with pytest.raises(InvalidRequestError, match="unknown option 'xyz'; a call takes constrained, max_tokens"):
        read(xyz=value)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(InvalidRequestError, match=r"(?s)n=2 .*typical_p=0.5 .*unknown option 'xyz'"):
        read(n=2, user="me", typical_p=0.5, xyz=1)


def test_an_option_of_the_other_place_is_told_where_to_go():
    with pytest.raises(InvalidRequestError, match="num_ctx means context_window, which is set when the model is made"):
        read(num_ctx=2048)
    with pytest.raises(InvalidRequestError, match=r"^context_window is set when the model is made"):
        read(context_window=2048)
    with pytest.raises(InvalidRequestError, match="format means response_format, which is an option of a call"):
        read(CONSTRUCTOR, format="json")


def test_one_option_under_two_names_must_agree():
    assert read(max_tokens=7, max_completion_tokens=7) == {"max_tokens": 7}
    with pytest.raises(InvalidRequestError, match="max_completion_tokens and max_tokens ask for different values"):
        read(max_tokens=5, max_completion_tokens=7)
    with pytest.raises(InvalidRequestError, match="strict and constrained"):
        read(constrained=False, strict=True)


@pytest.mark.parametrize("name", ["stop", "stop_sequences", "tools", "functions"])
@pytest.mark.parametrize("value", [3, {"a": "b"}])
def test_what_is_to_be_a_list_is_one(name, value):
    with pytest.raises(InvalidRequestError, match="must be a list, got"):
        read(**{name: value})


def test_a_bound_can_be_lifted_for_a_call():
    assert read(max_tokens=-1) == {"max_tokens": None}


@pytest.mark.parametrize("url", VENDOR_ADDRESSES)
@pytest.mark.parametrize("name", ["base_url", "openai_api_base", "api_base", "anthropic_api_url"])
def test_no_prompt_is_sent_to_the_vendor_of_the_model_before(name, url):
    with pytest.raises(InvalidRequestError, match="prompts would leave this machine"):
        read(CONSTRUCTOR, is_remote=True, **{name: url})


@pytest.mark.parametrize("url", ["http://localhost:8000/v1", "https://notopenai.com/v1", "http://[::1", 7])
def test_any_other_address_is_left_to_the_engine(url):
    assert read(CONSTRUCTOR, is_remote=True, base_url=url) == {"base_url": url}


def test_secrets_are_not_shown():
    for name in ("aws_secret_access_key", "openai_proxy"):
        with pytest.raises(InvalidRequestError) as raised:
            read(CONSTRUCTOR, is_remote=True, **{name: "s3cret"})
        assert "s3cret" not in str(raised.value)


def test_headers_that_only_a_vendor_reads_need_no_sending():
    assert read(is_remote=True, extra_headers={"anthropic-beta": "prompt-caching"}) == {}
    with pytest.raises(InvalidRequestError, match="extra_headers means engine_options, which is set when"):
        read(is_remote=True, extra_headers={"X-Team": "a"})


values = st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
options = st.dictionaries(
    st.sampled_from(sorted({*HOSTED_OPTIONS, *OF_CALLS, *OF_CONSTRUCTOR, "xyz"})),
    values | st.dictionaries(st.text(max_size=3), values, max_size=2),
    max_size=4,
)


@given(options, st.sampled_from([CONSTRUCTOR, CALL]), st.booleans())
def test_whatever_is_given_becomes_own_options_or_one_typed_error(given_options, place, is_remote):
    try:
        meant = own_options(given_options, place, is_remote=is_remote)
    except InvalidRequestError as error:
        assert any(name in str(error) for name in given_options)  # noqa: PT017
    else:
        assert meant.keys() <= place.takes
        assert own_options(meant, place, is_remote=is_remote) == {k: v for k, v in meant.items() if v is not None}


def test_harmless_names_are_not_refused_by_chance():
    assert {"user", "metadata", "store", "service_tier", "stream_options", "betas"} <= set(ALWAYS_HARMLESS)


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_allowed_tools_restrict_the_calls(mode):
    tools = [ToolSpec(name) for name in ("add", "look", "send")]
    allowed = [{"type": "function", "name": "add"}, {"type": "function", "function": {"name": "look"}}]
    choice = {"type": "allowed_tools", "mode": mode, "tools": allowed}
    assert ToolChoice.coerce(choice, tools) == ToolChoice(mode, ("add", "look"))


@pytest.mark.parametrize(
    "allowed", [{}, {"mode": "auto"}, {"mode": "auto", "tools": []}, {"mode": "any", "tools": [1]}]
)
def test_allowed_tools_without_functions_are_refused(allowed):
    with pytest.raises(ToolChoiceError, match="allowed_tools"):
        ToolChoice.coerce({"type": "allowed_tools", "allowed_tools": allowed}, [ToolSpec("add")])


# Trying again


def retried(tokenizer, failures, max_retries):
    left = iter(failures)

    def reply(prompt):
        if (failure := next(left, None)) is not None:
            raise failure
        return "Hello"

    engine = ScriptedEngine(tokenizer, reply)
    request = TurnRequest([{"role": "user", "content": "Hi"}], max_retries=max_retries)
    return RawTurn(engine, "Hi", request), engine


async def events_of(turn, *, is_async):
    return [event async for event in turn] if is_async else list(turn)


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_failed_engine_is_asked_again(mistral_tokenizer, is_async):
    turn, engine = retried(mistral_tokenizer, [EngineError("a kernel failed")] * 2, max_retries=2)
    events = await events_of(turn, is_async=is_async)
    assert "".join(event.text for event in events) == "Hello"
    assert turn.result.finish_reason == "stop"
    assert len(engine.requests) == 3
    assert all(isinstance(request, GenerationRequest) for request in engine.requests)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("failures", "max_retries", "tries"),
    [
        ([EngineError("a kernel failed")] * 3, 2, 3),
        ([EngineError("a kernel failed")], 0, 1),
        ([GenerationTimeoutError("too long")], 2, 1),
        ([InvalidRequestError("no")], 2, 1),
    ],
)
async def test_tries_end(mistral_tokenizer, failures, max_retries, tries, is_async):
    turn, engine = retried(mistral_tokenizer, failures, max_retries)
    with pytest.raises(type(failures[0])):
        await events_of(turn, is_async=is_async)
    assert len(engine.requests) == tries


def test_a_cancelled_turn_is_not_begun_again(mistral_tokenizer):
    turn, engine = retried(mistral_tokenizer, [EngineError("a kernel failed")], max_retries=2)
    turn.cancel()
    with pytest.raises(EngineError):
        list(turn)
    assert len(engine.requests) == 1
