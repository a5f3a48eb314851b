"""Rules of calls that were cut off, and of the older form of calls, which core's streamed programs read."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from llama_index.core.llms import ChatMessage
from llama_index.core.program import FunctionCallingProgram
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel

from tests.llama_index_contract import replies
from tests.llama_index_contract.base import Subject
from tests.llama_index_contract.harness import TOOL_CHAT, TOOLS, blocks_of, calls_of, drain, examples, is_part, warned
from tests.llama_index_contract.replies import Call, Reply

CUT = Reply("", (Call("add", {"a": 19, "b": 23}, broken_off=9),))
CUT_OFF = r"(?i)cut off|truncated|max_tokens|token limit|length"


class Ship(BaseModel):
    """A ship."""

    tons: int
    name: str


SHIP = {"tons": 340, "name": "Ava of Aberystwyth"}


def _program(llm: Any) -> FunctionCallingProgram[Ship]:
    return FunctionCallingProgram.from_defaults(Ship, prompt=PromptTemplate("Tell me of {name}."), llm=llm)


PROGRAMS = {
    "call": lambda llm: [_program(llm)(name="Ava")],
    "acall": lambda llm: [asyncio.run(_program(llm).acall(name="Ava"))],
    "stream_call": lambda llm: list(_program(llm).stream_call(name="Ava")),
    "astream_call": lambda llm: asyncio.run(drain(_program(llm).astream_call(name="Ava"))),
}


def older_calls(message: ChatMessage) -> list[tuple[str, str, str]]:
    """Return id, name and arguments of the calls in the older form, whether they are dicts or a vendor's objects."""
    calls = message.additional_kwargs.get("tool_calls") or []
    plain = [call if isinstance(call, dict) else call.model_dump() for call in calls]
    return [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in plain]


class LostCallRules(Subject):
    """What becomes of a call that was cut off, and where calls are looked for."""

    @pytest.fixture(autouse=True)
    def _needs_tools(self, request):
        if request.function.__qualname__.startswith("LostCallRules."):
            self.need_tools()

    def test_who_needs_a_call_is_told_that_it_was_cut(self):
        """Where the only call was cut off, the error of `get_tool_calls_from_response` says so: the model did make
        one, and another prompt is no remedy."""
        llm = self.saying(CUT)
        response = llm.chat_with_tools(TOOLS, user_msg="19 + 23?")
        with pytest.raises(ValueError, match=CUT_OFF):
            llm.get_tool_calls_from_response(response)

    @pytest.mark.parametrize("endpoint", TOOL_CHAT)
    def test_an_answer_that_was_cut_to_nothing_is_logged(self, endpoint):
        """One warning tells of an answer that has nothing but a cut call: agents end with an empty text there."""
        llm = self.saying(CUT)
        with warned() as warnings:
            TOOL_CHAT[endpoint](llm, TOOLS, user_msg="19 + 23?")
        assert len([text for text in warnings if "cut off" in text or "max_tokens" in text]) == 1

    @pytest.mark.parametrize("way", PROGRAMS)
    def test_a_program_whose_call_was_cut_is_an_error(self, way):
        """`FunctionCallingProgram` raises and says so in all four ways; a stream's last part is no object of it."""
        llm = self.saying(Reply("", (Call("Ship", SHIP, broken_off=30),)))
        with pytest.raises(Exception, match=CUT_OFF):  # each LLM has its own type
            PROGRAMS[way](llm)

    @examples(10)
    @given(replies.WHOLE)
    def test_calls_are_in_the_older_form_too(self, reply):
        """Every response has its calls in `additional_kwargs["tool_calls"]` as well, in step with the blocks."""
        self.need_tools()
        for call in TOOL_CHAT.values():
            llm = self.answering(reply)
            responses = call(llm, TOOLS, user_msg="19 + 23?", allow_parallel_tool_calls=True)
            shown = [(older_calls(response.message), blocks_of(response)) for response in responses]
            for older, blocks in shown:
                assert [made[:2] for made in older] == [(block.tool_call_id, block.tool_name) for block in blocks]
            last = [(name, json.loads(arguments)) for _, name, arguments in older_calls(responses[-1].message)]
            assert last == calls_of(llm, responses[-1])

    @pytest.mark.parametrize("endpoint", TOOL_CHAT)
    def test_a_call_that_was_cut_off_is_left_in_no_form(self, endpoint):
        """The message that goes into the history has the cut call neither as a block nor in the older form."""
        message = TOOL_CHAT[endpoint](self.saying(CUT), TOOLS, user_msg="19 + 23?")[-1].message
        assert (older_calls(message), [block.block_type for block in message.blocks]) in (([], []), ([], ["text"]))

    @pytest.mark.parametrize("way", ["stream_call", "astream_call"])
    def test_a_streamed_program_grows_to_its_object(self, way):
        """`FunctionCallingProgram.stream_call` and `astream_call` give the object as it grows, and last all of it."""
        *partials, last = PROGRAMS[way](self.saying(Reply(value=SHIP)))
        assert last == Ship(**SHIP)
        seen = [partial.model_dump(exclude_none=True) for partial in partials]
        assert all(is_part(earlier, later) for earlier, later in pairwise([*seen, SHIP]))
        assert any({} != partial != SHIP for partial in seen)
