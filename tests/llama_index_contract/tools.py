"""Rules of tool calls."""

from __future__ import annotations

import asyncio
from typing import Any, Generic, Literal, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from llama_index.core.llms import ChatMessage
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.program import FunctionCallingProgram
from llama_index.core.program.function_program import get_function_tool
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel, Field

from tests.llama_index_contract import replies
from tests.llama_index_contract.base import Subject
from tests.llama_index_contract.harness import (
    TOOL_CHAT,
    TOOL_STREAMS,
    TOOLS,
    Add,
    add,
    blocks_of,
    calls_of,
    examples,
    recorded,
    text_of,
)
from tests.llama_index_contract.replies import Call, Reply

Item = TypeVar("Item")
QUESTIONS = st.sampled_from(["Hello", "What is 19 plus 23?", "Tell me a joke."])


class Box(BaseModel, Generic[Item]):
    """A box."""

    item: Item


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=8)
    age: int = Field(ge=0, le=120)


class Paint(BaseModel):
    """What it takes to paint a wall."""

    color: Literal["red", "green"]
    coats: int = Field(ge=1, le=9)
    labels: list[Literal["new", "old"]] = Field(max_length=2)


def paint(**arguments: Any) -> str:
    """Paint a wall."""
    return str(arguments)


def _runnable(llm, response):
    return llm.get_tool_calls_from_response(response, error_on_no_tool_call=False)


class ToolRules(Subject):
    """Which calls are made, and how they come back."""

    @pytest.fixture(autouse=True)
    def _is_about_tools(self, request):
        if request.function.__qualname__.startswith("ToolRules."):
            self.need_tools()

    def test_it_is_a_function_calling_llm(self):
        """It is a `FunctionCallingLLM` and its metadata says so, else agents fall back to text protocols silently."""
        llm = self.llm()
        assert isinstance(llm, FunctionCallingLLM)
        assert llm.metadata.is_function_calling_model

    @pytest.mark.parametrize("endpoint", TOOL_CHAT)
    @pytest.mark.parametrize("question", ["Hello", "What is 19 plus 23?"])
    def test_a_required_call_is_made(self, endpoint, question):
        """`tool_required=True` makes at least one call, whatever is asked, on all four endpoints."""
        llm = self.llm()
        assert _runnable(llm, TOOL_CHAT[endpoint](llm, TOOLS, user_msg=question, tool_required=True)[-1])

    def test_tool_choice_none_is_no_choice(self):
        """`tool_choice=None`, which `FunctionCallingProgram` always passes, does not undo `tool_required`."""
        llm = self.llm()
        response = llm.chat_with_tools(TOOLS, user_msg="Hello", tool_required=True, tool_choice=None)
        assert _runnable(llm, response)

    @pytest.mark.parametrize("endpoint", TOOL_CHAT)
    def test_a_tool_chosen_by_name_is_called(self, endpoint):
        """`tool_choice="<name>"`, as agents pass `initial_tool_choice`, makes calls of that tool and no other."""
        llm = self.llm()
        for tool in TOOLS:
            name = tool.metadata.name
            responses = TOOL_CHAT[endpoint](llm, TOOLS, user_msg="What is 19 plus 23?", tool_choice=name)
            assert {call.tool_name for call in _runnable(llm, responses[-1])} == {name}

    @pytest.mark.parametrize("endpoint", TOOL_CHAT)
    def test_no_call_is_made_where_none_may_be(self, endpoint):
        """`tool_choice="none"` makes no call."""
        llm = self.llm()
        responses = TOOL_CHAT[endpoint](llm, TOOLS, user_msg="What is 19 plus 23?", tool_choice="none")
        assert _runnable(llm, responses[-1]) == []

    def test_one_call_at_most_where_calls_are_not_parallel(self):
        """`allow_parallel_tool_calls=False` leaves one call of several; `predict_and_call` raises otherwise."""
        two = Reply("", (Call("add", {"a": 1, "b": 2}), Call("add", {"a": 3, "b": 4})))
        for endpoint in ("chat_with_tools", "achat_with_tools"):
            llm = self.answering(two)
            response = TOOL_CHAT[endpoint](llm, TOOLS, user_msg="Twice.", allow_parallel_tool_calls=False)[-1]
            assert len(_runnable(llm, response)) <= 1
        llm = self.answering(two)
        if self.scriptable:
            assert llm.predict_and_call(TOOLS, user_msg="Twice.", allow_parallel_tool_calls=False).response == "3"

    @examples(4)
    @given(QUESTIONS)
    def test_arguments_match_their_schema(self, question):
        """A forced call has arguments that the tool's JSON Schema accepts: agents check nothing before they run it."""
        self.need_tools()
        tool = FunctionTool.from_defaults(paint, fn_schema=Paint)
        llm = self.llm()
        calls = _runnable(llm, llm.chat_with_tools([tool], user_msg=question, tool_required=True))
        assert calls
        schema = tool.metadata.get_parameters_dict()
        assert [list(Draft202012Validator(schema).iter_errors(call.tool_kwargs)) for call in calls] == [[]] * len(calls)

    @examples(6)
    @given(st.lists(replies.CALLING, min_size=2, max_size=3))
    def test_ids_never_repeat(self, said):
        """Every call has an id, and no two of a conversation have the same: results are matched to calls by it."""
        if not self.scriptable:
            pytest.skip("its model cannot be scripted here")
        llm = self.saying(*said)
        ids = []
        for reply in said:
            response = llm.chat_with_tools(TOOLS, user_msg="Go on.", allow_parallel_tool_calls=True)
            made = _runnable(llm, response)
            assert [block.tool_call_id for block in blocks_of(response)] == [call.tool_id for call in made]
            assert len(made) == len(reply.calls)
            ids += [call.tool_id for call in made]
        assert all(isinstance(call_id, str) and call_id for call_id in ids)
        assert len(set(ids)) == len(ids)

    @examples(8)
    @given(replies.CUT)
    def test_a_call_that_was_cut_off_never_runs(self, reply):
        """A call that the token limit broke off is no call on any endpoint: not with what there was, not with `{}`."""
        if not self.scriptable:
            pytest.skip("its model cannot be scripted here")
        expected = [(call.name, call.arguments) for call in reply.calls[:-1]]
        for call in TOOL_CHAT.values():
            llm = self.saying(reply)
            last = call(llm, TOOLS, user_msg="Go.", allow_parallel_tool_calls=True)[-1]
            assert calls_of(llm, last) == expected

    def test_no_call_is_an_error_only_where_asked(self):
        """Without a call, `get_tool_calls_from_response` raises `ValueError`, or returns [] where told not to raise."""
        llm = self.answering(Reply("Hello."))
        response = llm.chat([ChatMessage("Hello")])
        assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
        with pytest.raises(ValueError, match=r"."):
            llm.get_tool_calls_from_response(response)

    @pytest.mark.parametrize("name", ["add", "my tool", "Box[int]"])
    def test_a_tool_is_found_by_its_own_name(self, name):
        """`predict_and_call` finds a tool of any name: a name changed for the wire is changed back."""
        tool = FunctionTool.from_defaults(add, name=name, fn_schema=Add)
        response = self.llm().predict_and_call([tool], user_msg="What is 19 plus 23?", tool_required=True)
        assert int(response.response) == response.sources[0].raw_output

    def test_apredict_and_call(self):
        """`apredict_and_call` does what `predict_and_call` does."""
        llm = self.llm()
        question = {"user_msg": "What is 19 plus 23?", "tool_required": True}
        expected = llm.predict_and_call([TOOLS[0]], **question).response
        assert asyncio.run(llm.apredict_and_call([TOOLS[0]], **question)).response == expected

    @pytest.mark.parametrize("output_cls", [Person, Box[int]], ids=["Person", "Box[int]"])
    def test_function_calling_program(self, output_cls):
        """`FunctionCallingProgram` gives an object, sync and async, also of a generic class."""
        # With no number to copy, a small model may write digits until it is cut off.
        prompt = PromptTemplate("Make a person with name Ada and age {x}, or a box with item {x}")
        program = FunctionCallingProgram.from_defaults(output_cls, prompt=prompt, llm=self.llm())
        assert isinstance(program(x="7"), output_cls)
        assert isinstance(asyncio.run(program.acall(x="7")), output_cls)

    def test_no_tools_is_plain_chat(self):
        """An empty list of tools, which agents without tools pass, is a plain chat."""
        for call in TOOL_CHAT.values():
            llm = self.answering(Reply("Hello."))
            assert text_of(call(llm, [], user_msg="Hello")[-1])

    def test_a_user_message_of_either_type_is_sent(self):
        """`user_msg` as a str and as a `ChatMessage` both reach the model."""
        for message in ("What is in Quimper?", ChatMessage("What is in Quimper?")):
            for call in TOOL_CHAT.values():
                llm = self.answering(Reply("A cathedral."))
                with recorded() as events:
                    call(llm, TOOLS, user_msg=message, chat_history=[ChatMessage("Be brief.", role="system")])
                assert "Quimper" in events.messages()
                assert "Be brief." in events.messages()

    @pytest.mark.parametrize("endpoint", TOOL_STREAMS)
    def test_streamed_calls_match_their_schema(self, endpoint):
        """A forced call that was streamed is one that its tool's schema accepts, as when it was not streamed."""
        tool = get_function_tool(Person)
        llm = self.llm()
        calls = _runnable(llm, TOOL_STREAMS[endpoint](llm, [tool], user_msg="Hello", tool_required=True)[-1])
        assert calls
        assert all(Person.model_validate(call.tool_kwargs) for call in calls)
