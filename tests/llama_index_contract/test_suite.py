"""The suite finds what is wrong: each broken LLM fails the rule that it breaks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic_core import PydanticSerializationError

from hermes_runtime.errors import EngineError
from tests.llama_index_contract.broken import (
    KEPT_STREAMS,
    AnswersOtherwiseWhenAsync,
    AppendsToTheHistory,
    AsksTheServerForItsWindow,
    BlocksTheLoop,
    ChangesMessages,
    ClobbersTheChoice,
    CountsTwice,
    DropsMessages,
    FailsAsIfItHadParsed,
    FillsHoles,
    ForgetsTheSystemPrompt,
    IgnoresOptions,
    KeepsAsciiOnly,
    KeepsSilent,
    KeepsTheOrderOfResults,
    LetsTheModelRun,
    MakesNoEvents,
    NamesAreIds,
    NeedsText,
    NeverForces,
    NeverMissesACall,
    NeverTrims,
    ParsesWhatItCan,
    RemembersOptions,
    ReturnsAnIterator,
    RunsCutCalls,
    SaysThatNoneWasMade,
    SendsSecrets,
    UsesCoresOwnStructuredStream,
    UsesCoresOwnToolStream,
    WritesNamesForTheWire,
    drops_chunks_without_text,
    drops_equal_calls,
    flickers,
    hands_on_its_own_objects,
    has_blocks_only,
    has_the_users_role,
    joins_pieces_by_newlines,
    keeps_cut_calls_in_the_older_form,
    repeats_text,
    shares_its_message,
    shows_syntax,
    streaming,
    swallows_failures,
    tells_no_usage,
    tells_thinking_in_the_message,
    withholds_text,
)
from tests.llama_index_contract.hermes import HermesContract

# What a rule fails with where it is no assertion of its own.
_OTHER_ERRORS: dict[str, type[BaseException]] = {
    "test_a_stream_ends_with_the_calls_that_chat_makes": IndexError,  # there is no response at all
    "test_responses_are_plain_data": PydanticSerializationError,
    "test_a_call_that_was_cut_off_is_not_run": EngineError,  # it ran, and the model was asked what never was written
    "test_every_history_of_agents_is_accepted": TypeError,
    "test_a_tool_is_found_by_its_own_name": KeyError,
    "test_no_call_is_an_error_only_where_asked": pytest.fail.Exception,
    "test_an_unknown_option_is_not_ignored": pytest.fail.Exception,
    "test_what_is_no_such_object_is_an_error": pytest.fail.Exception,
    "test_a_program_whose_call_was_cut_is_an_error": pytest.fail.Exception,
}
SCRIPTED = [
    (streaming(repeats_text), "test_chat_streams_are_cumulative", {}),
    (streaming(withholds_text), "test_chat_streams_are_cumulative", {}),
    (streaming(joins_pieces_by_newlines), "test_chat_streams_are_cumulative", {}),
    (streaming(drops_chunks_without_text), "test_a_stream_is_never_empty", {"endpoint": "stream_chat"}),
    (streaming(drops_chunks_without_text), "test_a_stream_ends_with_the_calls_that_chat_makes", {}),
    (streaming(drops_chunks_without_text), "test_usage_is_told", {"endpoint": "stream_chat"}),
    (streaming(shares_its_message), "test_responses_share_nothing", {}),
    (streaming(shows_syntax), "test_streams_with_calls_are_cumulative", {}),
    (streaming(drops_equal_calls), "test_a_stream_ends_with_the_calls_that_chat_makes", {}),
    (streaming(flickers), "test_arguments_grow", {}),
    (streaming(flickers), "test_what_a_chunk_offers_to_run_the_end_still_holds", {}),
    (streaming(has_the_users_role), "test_every_message_is_the_assistants", {}),
    (streaming(tells_thinking_in_the_message), "test_thinking_is_told_where_agents_look", {}),
    (streaming(tells_no_usage), "test_usage_is_told", {"endpoint": "stream_chat"}),
    (streaming(tells_no_usage), "test_usage_is_in_additional_kwargs", {"endpoint": "astream_chat"}),
    (streaming(tells_no_usage), "test_tokens_are_counted_once", {"endpoint": "stream_chat"}),
    (streaming(hands_on_its_own_objects), "test_responses_are_plain_data", {}),
    (streaming(swallows_failures), "test_a_failure_reaches_the_reader", {"endpoint": "stream_chat"}),
    (ReturnsAnIterator, "test_streams_are_generators", {}),
    (AnswersOtherwiseWhenAsync, "test_all_chat_endpoints_say_the_same", {}),
    (ParsesWhatItCan, "test_what_a_chunk_offers_to_run_the_end_still_holds", {}),
    (streaming(has_blocks_only), "test_calls_are_in_the_older_form_too", {}),
    (streaming(has_blocks_only), "test_a_streamed_program_grows_to_its_object", {"way": "stream_call"}),
    (
        streaming(keeps_cut_calls_in_the_older_form),
        "test_a_call_that_was_cut_off_is_left_in_no_form",
        {"endpoint": "stream_chat_with_tools"},
    ),
    (UsesCoresOwnToolStream, "test_a_streamed_program_grows_to_its_object", {"way": "astream_call"}),
    (UsesCoresOwnToolStream, "test_a_program_whose_call_was_cut_is_an_error", {"way": "stream_call"}),
    (SaysThatNoneWasMade, "test_a_program_whose_call_was_cut_is_an_error", {"way": "call"}),
    (SaysThatNoneWasMade, "test_who_needs_a_call_is_told_that_it_was_cut", {}),
    (KeepsSilent, "test_an_answer_that_was_cut_to_nothing_is_logged", {"endpoint": "chat_with_tools"}),
    (RunsCutCalls, "test_a_call_that_was_cut_off_never_runs", {}),
    (RunsCutCalls, "test_a_call_that_was_cut_off_is_not_run", {"streaming": True}),
    (NeverMissesACall, "test_no_call_is_an_error_only_where_asked", {}),
    (NamesAreIds, "test_ids_never_repeat", {}),
    (NeverTrims, "test_one_call_at_most_where_calls_are_not_parallel", {}),
    (AppendsToTheHistory, "test_a_chat_history_is_never_changed", {}),
    (DropsMessages, "test_a_user_message_of_either_type_is_sent", {}),
    (ChangesMessages, "test_messages_are_never_changed", {}),
    (NeedsText, "test_every_history_of_agents_is_accepted", {}),
    (KeepsTheOrderOfResults, "test_results_find_their_calls_in_any_order", {}),
    (CountsTwice, "test_tokens_are_counted_once", {"endpoint": "chat"}),
    (CountsTwice, "test_one_pair_of_events_per_call", {"endpoint": "chat"}),
    (IgnoresOptions, "test_an_unknown_option_is_not_ignored", {"endpoint": "chat"}),
    (IgnoresOptions, "test_a_call_can_bound_its_length", {"endpoint": "chat"}),
    (IgnoresOptions, "test_logprobs_are_told", {}),
    (FailsAsIfItHadParsed, "test_a_failure_is_no_synthesized_answer", {"place": "compact"}),
    (FailsAsIfItHadParsed, "test_a_failure_is_no_answer_of_a_chat_engine", {"place": "context, chat"}),
    (FailsAsIfItHadParsed, "test_a_failure_is_no_empty_extraction", {"place": "schema paths"}),
    (RemembersOptions, "test_a_call_leaves_the_llm_as_it_was", {"endpoint": "chat"}),
    (KeepsAsciiOnly, "test_the_object_is_what_the_model_wrote", {}),
    (UsesCoresOwnStructuredStream, "test_lists_grow_item_by_item", {"way": "stream_structured_predict"}),
    (FillsHoles, "test_what_is_no_such_object_is_an_error", {"way": "structured_predict", "value": {}}),
]
REAL = [
    (SendsSecrets, "test_events_keep_secrets", {}),
    (AsksTheServerForItsWindow, "test_metadata_needs_no_network", {}),
    (BlocksTheLoop, "test_the_event_loop_runs_while_the_model_does", {"endpoint": "achat"}),
    (ForgetsTheSystemPrompt, "test_the_system_prompt_is_honored", {"way": "structured_predict"}),
    (MakesNoEvents, "test_one_pair_of_events_tells_of_it", {"way": "structured_predict"}),
    (ClobbersTheChoice, "test_tool_choice_none_is_no_choice", {}),
    (NeverForces, "test_a_required_call_is_made", {"endpoint": "chat_with_tools", "question": "Hello"}),
    (NeverForces, "test_a_tool_chosen_by_name_is_called", {"endpoint": "stream_chat_with_tools"}),
    (WritesNamesForTheWire, "test_a_tool_is_found_by_its_own_name", {"name": "my tool"}),
]


def _broken(contract: HermesContract, rule: str, arguments: dict[str, Any]) -> None:
    with pytest.raises((AssertionError, _OTHER_ERRORS.get(rule, AssertionError))):
        getattr(contract, rule)(**arguments)


def _named(cases: list[Any]) -> list[str]:
    return [f"{number}-{rule.removeprefix('test_')}" for number, (_, rule, _) in enumerate(cases)]


@pytest.mark.parametrize(("llm", "rule", "arguments"), SCRIPTED, ids=_named(SCRIPTED))
def test_broken_llm_is_found_out(llm, rule, arguments):
    contract = HermesContract()
    getattr(contract, rule)  # the rule exists, and the same case passes on the sound LLM in test_hermes
    contract.scripted = llm
    _broken(contract, rule, arguments)


@pytest.mark.parametrize(("llm", "rule", "arguments"), REAL, ids=_named(REAL))
def test_broken_llm_is_found_out_on_a_real_model(llm, rule, arguments):
    contract = HermesContract()
    contract.tested = llm
    contract.secrets = ("sk-secret",)
    _broken(contract, rule, arguments)


def test_a_model_that_is_let_run_is_found_out():
    contract = HermesContract()
    contract.scripted = LetsTheModelRun
    contract.has_stopped = lambda llm: llm.scripted.runs[0].channel.is_cancelled
    with pytest.raises(AssertionError):
        contract.test_dropping_a_stream_stops_the_model("stream_chat")
    for running in KEPT_STREAMS:
        running.close()


def test_an_llm_without_a_factory_says_what_is_missing():
    from tests.llama_index_contract import LLMContract

    with pytest.raises(NotImplementedError, match="def llm"):
        LLMContract().test_metadata_needs_no_network()


def test_asyncio_is_free_again_after_a_rule():
    HermesContract().test_closing_an_async_stream_stops_the_model("astream_chat", kept=True)
    assert asyncio.run(asyncio.sleep(0, "free")) == "free"
