"""Rules of the messages that an LLM is handed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import TextBlock, ToolCallBlock
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate

from tests.llama_index_contract import replies
from tests.llama_index_contract.base import Subject
from tests.llama_index_contract.harness import CHAT, TOOL_CHAT, TOOLS, examples, recorded, text_of
from tests.llama_index_contract.replies import Reply


def calling(*calls: tuple[str, str, dict], text: str = "") -> ChatMessage:
    """Return an assistant's message that makes calls: ids, names, arguments."""
    blocks = [TextBlock(text=text)] if text else []
    made = [ToolCallBlock(tool_call_id=call_id, tool_name=name, tool_kwargs=given) for call_id, name, given in calls]
    return ChatMessage(role="assistant", blocks=[*blocks, *made])


def result(call_id: str, text: str | None) -> ChatMessage:
    """Return a result as `FunctionAgent` hands it on: without the tool's name."""
    blocks = [] if text is None else [TextBlock(text=text)]
    return ChatMessage(role="tool", blocks=blocks, additional_kwargs={"tool_call_id": call_id})


@st.composite
def _exchange(draw: st.DrawFn) -> list[ChatMessage]:
    """One question and what came of it; results in the order in which they were done."""
    count = draw(st.integers(1, 3))
    names = [draw(st.sampled_from(["add", "look_up", "handoff"])) for _ in range(count)]
    ids = [f"call_{draw(st.integers(0, 10**9))}_{number}" for number in range(count)]
    made = [(call_id, name, draw(replies.ARGUMENTS)) for call_id, name in zip(ids, names, strict=True)]
    done = draw(st.permutations(ids))
    results = [result(call_id, draw(st.none() | replies.TEXTS)) for call_id in done]
    answer = draw(st.sampled_from([[], [ChatMessage("So.", role="assistant")]]))
    return [ChatMessage(draw(replies.TEXTS) or "Go."), calling(*made, text=draw(replies.TEXTS)), *results, *answer]


@st.composite
def histories(draw: st.DrawFn) -> list[ChatMessage]:
    """Whatever agents and memories hand over."""
    messages = [ChatMessage("Be brief.", role="system")] * draw(st.integers(0, 2))
    for exchange in draw(st.lists(_exchange(), min_size=1, max_size=2)):
        messages += exchange
    end = draw(st.sampled_from(["", "user", "system"]))
    return [*messages, *([ChatMessage("And now?", role=end)] if end else [])]


def frozen(messages: list[ChatMessage]) -> list[str]:
    """Return messages as text, to compare them later."""
    return [message.model_dump_json() for message in messages]


class HistoryRules(Subject):
    """What becomes of the messages."""

    @examples(6)
    @given(histories())
    def test_messages_are_never_changed(self, messages):
        """No endpoint changes the caller's messages, or the list that holds them."""
        before = frozen(messages)
        for call in CHAT.values():
            call(self.answering(Reply("Yes.")), messages)
            assert frozen(messages) == before

    @examples(4)
    @given(histories())
    def test_a_chat_history_is_never_changed(self, messages):
        """Endpoints with tools change neither `chat_history`, to which `user_msg` is not appended, nor `user_msg`."""
        self.need_tools()
        before, asked = frozen(messages), ChatMessage("And now?")
        for call in TOOL_CHAT.values():
            call(self.answering(Reply("Yes.")), TOOLS, user_msg=asked, chat_history=messages)
            assert frozen(messages) == before
            assert asked == ChatMessage("And now?")

    @examples(12)
    @given(histories())
    def test_every_history_of_agents_is_accepted(self, messages):
        """Answers come, with and without tools bound, after calls without text, empty results, calls of tools that are
        gone, several system messages, and as the end a result or a system message."""
        assert text_of(CHAT["chat"](self.answering(Reply("Yes.")), messages)[-1]) or not self.scriptable
        if self.calls_tools:
            llm = self.answering(Reply("Yes."))
            assert text_of(llm.chat_with_tools(TOOLS, chat_history=messages)) or not self.scriptable

    def test_a_result_without_its_call_is_accepted(self):
        """A result whose call fell out of the memory is no error."""
        messages = [ChatMessage("Go."), result("call_gone", "42"), ChatMessage("And?")]
        assert text_of(self.answering(Reply("Yes.")).chat(messages))

    @examples(6)
    @given(st.permutations(["c1", "c2", "c3"]))
    def test_results_find_their_calls_in_any_order(self, order):
        """Parallel results come in the order in which they were done: they reach the model by id, or in call order."""
        self.need_tools()
        calls = calling(*((call_id, "look_up", {"city": call_id * 2}) for call_id in ("c1", "c2", "c3")))

        def shown(ids):
            llm = self.saying(Reply("Yes."))
            llm.chat([ChatMessage("Go."), calls, *(result(call_id, f"Result of {call_id}") for call_id in ids)])
            (request,) = self.shown(llm)
            return request

        request = shown(order)
        has_ids = all(request.count(call_id) > shown([]).count(call_id) + 1 for call_id in order)
        assert has_ids or request == shown(["c1", "c2", "c3"])

    def test_arguments_reach_the_model_as_they_were(self):
        """Arguments of earlier calls are sent whole, whether a block holds them as an object or as JSON text."""
        self.need_tools()
        requests = []
        for given_as in ({"city": "Quimper"}, json.dumps({"city": "Quimper"})):
            llm = self.saying(Reply("Yes."))
            llm.chat([ChatMessage("Go."), calling(("c1", "look_up", given_as)), result("c1", "fine")])
            requests += self.shown(llm)
        assert "Quimper" in requests[0]
        assert "Quimper" in requests[1]

    @pytest.mark.parametrize("way", ["predict", "apredict", "stream", "astream"])
    def test_predict_honors_the_system_prompt(self, way):
        """`system_prompt` reaches the model in `predict`, `stream` and their async forms."""
        import asyncio

        llm, prompt = self.llm(system_prompt="Answer like a sailor."), PromptTemplate("Where is {place}?")

        async def astream():
            return [token async for token in await llm.astream(prompt, place="Brest")]

        with recorded() as events:
            if way in ("predict", "stream"):
                "".join(getattr(llm, way)(prompt, place="Brest"))
            else:
                asyncio.run(astream() if way == "astream" else llm.apredict(prompt, place="Brest"))
        assert "Answer like a sailor." in events.messages()
        assert "Brest" in events.messages()
