"""Rules of the eight endpoints and of what a stream is."""

from __future__ import annotations

import inspect
from collections.abc import Generator

import pytest
from hypothesis import example, given
from llama_index.core.base.llms.types import ThinkingBlock
from llama_index.core.llms import ChatMessage

from tests.llama_index_contract import replies
from tests.llama_index_contract.base import Subject
from tests.llama_index_contract.harness import (
    CHAT,
    COMPLETE,
    TOOL_STREAMS,
    TOOLS,
    arguments_grow,
    blocks_of,
    calls_of,
    examples,
    plain,
    text_of,
)
from tests.llama_index_contract.replies import Call, Reply

PROMPT = "What is 19 plus 23?"


class StreamRules(Subject):
    """What a stream yields, and that all endpoints say the same."""

    def test_streams_are_generators(self):
        """`stream_*` returns a generator and `astream_*` a coroutine of an async generator; iterators break events."""
        llm = self.answering(Reply("Hello."))
        for stream in (llm.stream_chat([ChatMessage("Hi")]), llm.stream_complete("Hi")):
            assert isinstance(stream, Generator)
            stream.close()
        for opening in (llm.astream_chat([ChatMessage("Hi")]), llm.astream_complete("Hi")):
            assert inspect.iscoroutine(opening)
            opening.close()

    @pytest.mark.parametrize("endpoint", ["stream_chat", "astream_chat", "stream_complete", "astream_complete"])
    def test_a_stream_is_never_empty(self, endpoint):
        """A stream has at least one response, also where the model says nothing: core reads the last without asking."""
        assert (CHAT | COMPLETE)[endpoint](self.answering(Reply()), "Hi")

    @examples(12)
    @given(replies.PLAIN)
    def test_chat_streams_are_cumulative(self, reply):
        """Each message holds all text so far, each `delta` what is new of it, and nothing is held back or repeated."""
        for endpoint in ("stream_chat", "astream_chat"):
            self._check_cumulative(CHAT[endpoint](self.answering(reply), reply.text or PROMPT), reply)

    @examples(12)
    @given(replies.PLAIN)
    def test_completion_streams_are_cumulative(self, reply):
        """Each completion's `text` holds all text so far, and each `delta` what is new of it."""
        for endpoint in ("stream_complete", "astream_complete"):
            self._check_cumulative(COMPLETE[endpoint](self.answering(reply), reply.text or PROMPT), reply)

    @examples(12)
    @given(replies.ANY)
    def test_streams_with_calls_are_cumulative(self, reply):
        """A `delta` is text for the user: none of a call's syntax shows in it or in `content`, and no text is lost."""
        self.need_tools()
        for call in TOOL_STREAMS.values():
            streamed = call(self.answering(reply), TOOLS, user_msg=PROMPT, allow_parallel_tool_calls=True)
            self._check_cumulative(streamed, reply)

    def _check_cumulative(self, streamed, reply):
        so_far = ""
        for response in streamed:
            so_far += response.delta or ""
            assert text_of(response) == so_far
        if self.scriptable:
            assert so_far == reply.text

    @examples(8)
    @given(replies.WHOLE)
    def test_responses_share_nothing(self, reply):
        """A response never changes once it was yielded, and changing one changes no later one."""
        tools = {"tools": TOOLS, "allow_parallel_tool_calls": True, "user_msg": PROMPT}
        llm = self.answering(reply)
        stream = llm.stream_chat_with_tools(**tools) if self.calls_tools else llm.stream_chat([ChatMessage(PROMPT)])
        kept = [(response, response.message.model_dump_json()) for response in stream]
        assert [response.message.model_dump_json() for response, _ in kept] == [dumped for _, dumped in kept]
        last = kept[-1][1]
        for response, _ in kept[:-1]:
            for block in response.message.blocks:
                if isinstance(getattr(block, "tool_kwargs", None), dict):
                    block.tool_kwargs["changed"] = True
            response.message.blocks.clear()
            response.message.additional_kwargs["changed"] = True
        assert kept[-1][0].message.model_dump_json() == last

    @examples(8)
    @given(replies.WHOLE)
    def test_every_message_is_the_assistants(self, reply):
        """Every message of a stream has the role assistant."""
        for endpoint in CHAT.values():
            for response in endpoint(self.answering(Reply(reply.text)), PROMPT):
                assert response.message.role == "assistant"

    @examples(8)
    @given(replies.PLAIN)
    def test_all_chat_endpoints_say_the_same(self, reply):
        """Sync and async, whole and streamed: the last response is the same, but for ids."""
        last = [call(self.answering(reply), PROMPT)[-1] for call in CHAT.values()]
        assert len({plain(response) for response in last}) == 1
        if self.scriptable:
            assert text_of(last[0]) == reply.text

    @examples(8)
    @given(replies.PLAIN)
    def test_all_completion_endpoints_say_the_same(self, reply):
        """Sync and async, whole and streamed: the last completion is the same."""
        last = [call(self.answering(reply), PROMPT)[-1] for call in COMPLETE.values()]
        assert len({plain(response) for response in last}) == 1
        if self.scriptable:
            assert text_of(last[0]) == reply.text

    @examples(10)
    @example(Reply("", (Call("add", {"a": 1}),) * 2))
    @given(replies.CALLING)
    def test_a_stream_ends_with_the_calls_that_chat_makes(self, reply):
        """The last response of a stream has the very calls of the whole answer: equal ones are kept, all are kept."""
        self.need_tools()
        if not self.scriptable:
            pytest.skip("its model cannot be scripted here")
        expected = [(call.name, call.arguments) for call in reply.calls]
        whole = self.saying(reply)
        response = whole.chat_with_tools(TOOLS, user_msg=PROMPT, allow_parallel_tool_calls=True)
        assert calls_of(whole, response) == expected
        for call in TOOL_STREAMS.values():
            llm = self.saying(reply)
            last = call(llm, TOOLS, user_msg=PROMPT, allow_parallel_tool_calls=True)[-1]
            assert calls_of(llm, last) == expected

    @examples(12)
    @given(replies.ANY)
    def test_arguments_grow(self, reply):
        """Arguments that a stream shows only grow, by call id; a call whose arguments are whole stays as it is."""
        self.need_tools()
        for call in TOOL_STREAMS.values():
            shown = {}
            for response in call(self.answering(reply), TOOLS, user_msg=PROMPT, allow_parallel_tool_calls=True):
                for number, block in enumerate(blocks_of(response)):
                    call_id = block.tool_call_id or number  # whether there are ids is another rule
                    before = shown.get(call_id)
                    assert before is None or arguments_grow(before, block.tool_kwargs)
                    shown[call_id] = block.tool_kwargs

    @examples(12)
    @given(replies.ANY)
    def test_what_a_chunk_offers_to_run_the_end_still_holds(self, reply):
        """`get_tool_calls_from_response` raises on no chunk, and gives only calls that the end has, word for word."""
        self.need_tools()
        for call in TOOL_STREAMS.values():
            llm = self.answering(reply)
            responses = call(llm, TOOLS, user_msg=PROMPT, allow_parallel_tool_calls=True)
            offered = [calls_of(llm, response) for response in responses]
            assert all(earlier == offered[-1][: len(earlier)] for earlier in offered)

    @examples(8)
    @given(replies.PLAIN, replies.TEXTS.filter(bool))
    def test_thinking_is_told_where_agents_look(self, reply, thinking):
        """New reasoning is in the response's `additional_kwargs["thinking_delta"]`; all of it is a `ThinkingBlock`."""
        if not self.thinks:
            pytest.skip("its model does not think")
        said = Reply(reply.text or "So.", thinking=thinking)
        for stream in (
            list(self.saying(said).stream_chat([ChatMessage(PROMPT)])),
            CHAT["astream_chat"](self.saying(said), PROMPT),
        ):
            told = "".join(response.additional_kwargs.get("thinking_delta") or "" for response in stream)
            block = next(block for block in stream[-1].message.blocks if isinstance(block, ThinkingBlock))
            assert told.strip() == thinking == (block.content or "").strip()
            assert "".join(response.delta or "" for response in stream) == said.text
