"""The synthetic conversations: reproducible, answerable from what stands before, and split cleanly."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import jsonschema
import pytest

from hermes_runtime.messages import Assistant, ToolResult, User
from hermes_runtime.parser import parse_completion
from tiny_hermes.conversations import NO_TOOL, call_text, conversations
from tiny_hermes.vocabulary import is_held_out


def sample(count=150, **options):
    return list(itertools.islice(conversations(7, **options), count))


@pytest.fixture(
    scope="module",
    params=[{}, {"drill": 1.0}, {"hard": 1.0}, {"held_out": True}],
    ids=["training", "opaque names", "hard", "held out"],
)
def some(request):
    return sample(**{"held_out": False, **request.param})


def called(conversation):
    """Yield (question, call) of every call, the question being the user's text before it."""
    question = ""
    for message in conversation.messages:
        if isinstance(message, User):
            question = message.text
        elif isinstance(message, Assistant):
            for call in message.calls:
                yield question, call


def test_same_seed_gives_the_same_conversations():
    assert sample(20) == sample(20)


def test_every_call_names_a_given_tool_and_matches_its_schema(some):
    for conversation in some:
        schemas = {tool.name: tool.parameters for tool in conversation.tools}
        for _, call in called(conversation):
            jsonschema.validate(call.arguments, schemas[call.name])


def test_every_argument_can_be_copied_from_the_question(some):
    for conversation in some:
        for question, call in called(conversation):
            for value in call.arguments.values():
                assert isinstance(value, bool) or str(value).lower() in question.lower()


def test_json_answers_match_their_schema(some):
    answers = [
        (conversation.schema, conversation.messages[step.index].text)
        for conversation in some
        for step in conversation.steps
        if step.kind == "json"
    ]
    assert answers
    for schema, text in answers:
        jsonschema.validate(json.loads(text), schema)


def test_both_notations_of_a_call_read_alike(some):
    for conversation in some:
        for _, call in called(conversation):
            for as_json in (False, True):
                (read,) = parse_completion(call_text(call, as_json=as_json)).tool_calls
                assert (read.name, read.arguments) == (call.name, call.arguments)


def test_every_kind_of_turn_occurs_and_tools_go_up_to_four(some):
    kinds = {step.kind for conversation in some for step in conversation.steps}
    assert kinds == {"one_call", "two_calls", "answer", "two_answers", "error", "no_tool", "chat", "copy", "json"}
    assert {len(conversation.tools) for conversation in some} == {0, 1, 2, 3, 4}


def test_every_call_is_answered_in_order_before_the_model_speaks_again(some):
    for conversation in some:
        open_calls: list[str] = []
        for message in conversation.messages:
            if isinstance(message, ToolResult):
                assert open_calls.pop(0) == message.call_id
            elif isinstance(message, Assistant):
                assert not open_calls
                open_calls = [call.id for call in message.calls]


def test_errors_are_passed_on_word_for_word(some):
    for conversation in some:
        for step in conversation.steps:
            if step.kind == "error":
                results = [m for m in conversation.messages[: step.index] if isinstance(m, ToolResult)]
                failed = [
                    m.content for m in results[-2:] if isinstance(m.content, str) and m.content.startswith("Error")
                ]
                assert any(text in conversation.messages[step.index].text for text in failed)


def test_no_tool_turns_decline(some):
    for conversation in some:
        for step in conversation.steps:
            if step.kind == "no_tool":
                assert conversation.messages[step.index] == Assistant(NO_TOOL)


def test_no_long_value_occurs_on_both_sides():
    def values(held_out):
        """Collect the string arguments that no enum offers."""
        found = set()
        for conversation in sample(200, held_out=held_out, everyday=False):
            enums = {
                choice
                for tool in conversation.tools
                for entry in tool.parameters["properties"].values()
                for choice in entry.get("enum", ())
            }
            said = {v for _, call in called(conversation) for v in call.arguments.values() if isinstance(v, str)}
            found |= {value for value in said - enums if len(value) > 2}
        return found

    training, evaluation = values(held_out=False), values(held_out=True)
    assert len(training) > 100 < len(evaluation)
    assert not any(map(is_held_out, training))
    assert all(map(is_held_out, evaluation))


def test_difficulty_zero_is_one_small_tool_most_of_the_time():
    easy = [len(c.tools) for c in sample(difficulty=0.0) if c.tools]
    hard = [len(c.tools) for c in sample(difficulty=1.0) if c.tools]
    assert sum(easy) / len(easy) < 1.5 < sum(hard) / len(hard)


def test_hard_conversations_ask_for_more_arguments_and_for_two_calls_more_often():
    def figures(**options):
        some = sample(600, **options)
        kinds = [step.kind for conversation in some for step in conversation.steps]
        calls = [call for conversation in some for _, call in called(conversation)]
        return kinds.count("two_calls") / kinds.count("one_call"), sum(len(c.arguments) for c in calls) / len(calls)

    (twos, arguments), (more_twos, more_arguments) = figures(), figures(hard=1.0)
    assert more_twos > 1.15 * twos
    assert more_arguments > 1.2 * arguments


def test_making_conversations_needs_no_torch():
    code = "import sys, tiny_hermes.conversations; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
