"""What is wrong with the calls of an answer, as both adapters' messages tell it: the runtime's texts, both ways."""

from __future__ import annotations

import pytest
from langchain_core.load import dumps, loads
from llama_index.core.base.llms.types import ChatMessage

from hermes_runtime.engines.base import Usage
from hermes_runtime.parser import InvalidToolCallEvent, StreamParser, ToolCallEvent
from hermes_runtime.problems import PROBLEMS_KEY
from hermes_runtime.turn import TurnResult
from hermes_runtime.turn.lost_calls import cut_off
from langchain_hermes._chunks import ChunkWriter
from langchain_hermes._messages import to_runtime_messages
from llama_index_hermes._messages import calls_of
from llama_index_hermes._responses import chat_response


class FinishedTurn:
    """A turn over a text that has arrived."""

    def __init__(self, text, tools, finish_reason):
        parser = StreamParser(tools)
        self.events = [*parser.feed(text), *parser.close(finish_reason)]
        if finish_reason == "length":
            self.events = [self._cut_off(event) for event in self.events]
        self.calls = tuple(event.call for event in self.events if isinstance(event, ToolCallEvent))
        self.invalid = tuple(event.call for event in self.events if isinstance(event, InvalidToolCallEvent))
        self.result = TurnResult("", "", self.calls, self.invalid, finish_reason, Usage(1, 1, 0), 0, (), None)

    def __iter__(self):
        return iter(self.events)

    @staticmethod
    def _cut_off(event):
        if not isinstance(event, InvalidToolCallEvent):
            return event
        return InvalidToolCallEvent(cut_off(event.call, 7, "by max_tokens; raise max_tokens"))


def langchain_message(turn):
    """Return the errors of a stored message's invalid calls, its calls' problems by id, and the invalid calls in it."""
    made = ChunkWriter("m", as_blocks=False).result([*turn, turn.result]).generations[0].message
    message = loads(dumps(made), allowed_objects="core")
    told = dict(message.response_metadata.get(PROBLEMS_KEY, {}))
    errors = {call["id"]: call["error"] for call in message.invalid_tool_calls}
    assert errors == {call_id: "; ".join(told.pop(call_id)) for call_id in errors}
    (converted,) = to_runtime_messages([message])
    return errors, told, converted.invalid_calls


def llama_index_message(turn):
    """Return what `langchain_message` returns, of a stored response's message."""
    response = chat_response(turn, "m")
    message = ChatMessage.model_validate_json(response.message.model_dump_json())
    records = message.additional_kwargs.get("invalid_tool_calls", [])
    return (
        {record["id"]: record["error"] for record in records},
        response.raw.get(PROBLEMS_KEY, {}),
        calls_of(message)[1],
    )


@pytest.mark.parametrize("message_of", [langchain_message, llama_index_message])
@pytest.mark.parametrize("finish_reason", ["stop", "length"])
def test_messages_carry_the_texts_of_the_problems_and_histories_the_problems(parser_cases, message_of, finish_reason):
    for case in parser_cases:
        for length in {len(case["output"]), len(case["output"]) // 2, len(case["output"]) * 3 // 4}:
            turn = FinishedTurn(case["output"][:length], case["tools"], finish_reason)
            errors, problems, invalid = message_of(turn)
            assert errors == {call.id: str(call.problem) for call in turn.invalid}
            assert problems == {call.id: [*map(str, call.problems)] for call in turn.calls if call.problems}
            assert [(call.id, call.problem) for call in invalid] == [(call.id, call.problem) for call in turn.invalid]
