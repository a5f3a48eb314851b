"""Rules of metadata, options, usage and events."""

from __future__ import annotations

import json
import socket
from typing import Self
from unittest.mock import patch

import pytest
from hypothesis import given
from llama_index.core.base.llms.types import ChatResponse, LLMMetadata
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import ChatMessage

from tests.llama_index_contract import replies
from tests.llama_index_contract.base import Subject
from tests.llama_index_contract.harness import ALL, CHAT, COMPLETE, examples, recorded, text_of
from tests.llama_index_contract.replies import Reply

every_endpoint = pytest.mark.parametrize("endpoint", ALL)


class _NoNetwork:
    """Counts and refuses what leaves the process while it is entered."""

    def __init__(self) -> None:
        self.tries = 0
        targets = [(socket.socket, "connect"), (socket, "getaddrinfo")]
        try:
            import httpx
        except ImportError:
            pass
        else:
            targets += [(httpx.Client, "send"), (httpx.AsyncClient, "send")]
        self._patches = [patch.object(owner, name, self._refuse) for owner, name in targets]

    def _refuse(self, *_, **__):
        self.tries += 1
        raise OSError("there is no network")

    def __enter__(self) -> Self:
        for each in self._patches:
            each.start()
        return self

    def __exit__(self, *_) -> None:
        for each in self._patches:
            each.stop()


def _usage(response) -> tuple[int, int]:
    assert response.raw is not None
    usage = dict(response.raw)["usage"]
    usage = usage if isinstance(usage, dict) else usage.model_dump()
    return usage["prompt_tokens"], usage["completion_tokens"]


class AccountingRules(Subject):
    """What an LLM tells of itself and of its calls."""

    def test_metadata_needs_no_network(self):
        """`metadata`, which every call reads, has plain values and does no network I/O, the first time included."""
        with _NoNetwork() as network:
            metadata = self.llm().metadata
        assert isinstance(metadata, LLMMetadata)
        assert metadata.is_chat_model
        assert metadata.context_window > 0
        assert metadata.model_name != "unknown"
        assert network.tries == 0

    def test_events_keep_secrets(self):
        """What events say of the LLM is JSON that names its class and holds no credential."""
        payload = json.dumps(self.llm().to_payload())
        assert self.llm().class_name() in payload
        assert not [secret for secret in self.secrets if secret in payload]

    @every_endpoint
    def test_usage_is_told(self, endpoint):
        """The last response has the exact counts in `raw["usage"]`, where `TokenCountingHandler` looks, streams too."""
        prompt_tokens, completion_tokens = _usage(ALL[endpoint](self.answering(Reply("Yes, it is.")), "Is it?")[-1])
        assert prompt_tokens > 0
        assert completion_tokens > 0

    @every_endpoint
    def test_usage_is_in_additional_kwargs(self, endpoint):
        """The counts are in `additional_kwargs` as well: `raw` of another vendor's form is not read everywhere."""
        last = ALL[endpoint](self.answering(Reply("Yes, it is.")), "Is it?")[-1]
        told = last.additional_kwargs
        assert (told.get("prompt_tokens"), told.get("completion_tokens")) == _usage(last)
        assert told.get("total_tokens") == sum(_usage(last))

    @every_endpoint
    def test_tokens_are_counted_once(self, endpoint):
        """`TokenCountingHandler` counts each call once, with the counts of the response and not by its own estimate."""
        counter = TokenCountingHandler(tokenizer=lambda _: [0] * 1000)
        llm = self.answering(Reply("Yes, it is."))
        llm.callback_manager = CallbackManager([counter])
        last = ALL[endpoint](llm, "Is it?")[-1]
        counted = [(event.prompt_token_count, event.completion_token_count) for event in counter.llm_token_counts]
        assert len(counted) == 1
        assert counted == [_usage(last)]

    @every_endpoint
    def test_one_pair_of_events_per_call(self, endpoint):
        """One start and one end event per call, of the kind of the endpoint that was called, and of no other."""
        kind, other = ("Chat", "Completion") if endpoint in CHAT else ("Completion", "Chat")
        llm = self.answering(Reply("Yes, it is."))
        with recorded() as events:
            responses = ALL[endpoint](llm, "Is it?")
        assert [events.count(f"LLM{kind}{side}Event") for side in ("Start", "End")] == [1, 1]
        assert [events.count(f"LLM{other}{side}Event") for side in ("Start", "End")] == [0, 0]
        if "stream" in endpoint:
            assert events.count(f"LLM{kind}InProgressEvent") == len(responses)

    @examples(6)
    @given(replies.WHOLE)
    def test_responses_are_plain_data(self, reply):
        """Every response of every chat endpoint can be written as JSON, and its message read back the same."""
        for call in CHAT.values():
            for response in call(self.answering(Reply(reply.text)), "Is it?"):
                restored = ChatResponse.model_validate_json(response.model_dump_json())
                assert restored.message == response.message
                json.dumps(response.raw if isinstance(response.raw, dict | None) else response.raw.model_dump())

    @every_endpoint
    def test_a_call_can_bound_its_length(self, endpoint):
        """The options of a call win over the LLM's own: a bound on new tokens is kept by all endpoints."""
        if self.max_tokens is None:
            pytest.skip("a call cannot bound its length")
        long = Reply("one two three four five six seven eight nine ten")
        last = ALL[endpoint](self.answering(long), "Count.", **{self.max_tokens: 2})[-1]
        assert len(text_of(last).split()) <= 2

    @every_endpoint
    def test_an_unknown_option_is_not_ignored(self, endpoint):
        """An option that nobody knows raises: ignored silently, a typo is a wrong answer."""
        with pytest.raises(Exception, match="temprature"):  # each LLM has its own type
            ALL[endpoint](self.answering(Reply("Yes.")), "Is it?", temprature=0)

    @pytest.mark.parametrize("endpoint", [*CHAT, *COMPLETE])
    def test_a_call_leaves_the_llm_as_it_was(self, endpoint):
        """Calls with options change nothing of the LLM that later calls would see."""
        llm = self.answering(Reply("Yes."))
        before = llm.to_dict()
        ALL[endpoint](llm, "Is it?", **({self.max_tokens: 3} if self.max_tokens else {}))
        assert llm.to_dict() == before

    def test_logprobs_are_told(self):
        """Log-probabilities are in `logprobs`, one list per token, where they were asked for."""
        if self.logprobs is None:
            pytest.skip("it offers no log-probabilities")
        response = self.answering(Reply("Yes, it is.")).chat([ChatMessage("Is it?")], **self.logprobs)
        assert response.logprobs
        assert all(choice.logprob <= 0 for token in response.logprobs for choice in token)

    @every_endpoint
    def test_a_prompt_past_the_window_is_an_error(self, endpoint):
        """What does not fit the context window raises on all endpoints; memories undercount, so the LLM guards it."""
        llm = self.llm(context_window=96)
        with pytest.raises(Exception, match=r"."):  # each LLM has its own type
            ALL[endpoint](llm, "word " * 400)
