"""Conversations as token ids with loss weights, rendered by the project's own prompt renderer."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

from hermes_runtime.messages import Assistant, Message
from hermes_runtime.prompt import Prompt, build_prompt
from hermes_runtime.tags import TURN_END, TURN_START
from tiny_hermes.conversations import Conversation
from tiny_hermes.tokenizer import CALL_START, NAME_STARTS, TOOL_START


@dataclass(frozen=True, slots=True)
class Guide:
    """Where to look from one token of a call.

    Attributes:
        position: That token.
        asked: The tokens of the question that tell which tool is meant: those that no other tool's description has.
            Possibly none.
        tool: The number of the tool that is called.
    """

    position: int
    asked: list[int]
    tool: int


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of a whole conversation.

    Attributes:
        ids: The tokens.
        is_target: Whether the model is to write each of them.
        tools: The tokens that describe each of the tools; empty where there is no choice among several.
        guides: What to look at where a call begins and where its tool is named; empty where `tools` is.
    """

    ids: list[int]
    is_target: list[bool]
    tools: list[range]
    guides: list[Guide]


def with_generated_ids(conversation: Conversation, tokenizer: Any) -> list[Message]:
    """Return the messages with every assistant turn spelled as the model is to write it, end marker included."""
    end = tokenizer.convert_tokens_to_ids(TURN_END)
    messages: list[Message] = []
    for index, message in enumerate(conversation.messages):
        if isinstance(message, Assistant):
            ids = tokenizer.encode(conversation.assistant_text(index), add_special_tokens=False)
            messages.append(replace(message, token_ids=(*ids, end)))
        else:
            messages.append(message)
    return messages


def prompt_of(conversation: Conversation, messages: list[Message], tokenizer: Any) -> Prompt:
    """Render what stands before the next assistant turn."""
    return build_prompt(messages, tokenizer=tokenizer, tools=conversation.tools, schema=conversation.schema)


def make_example(conversation: Conversation, tokenizer: Any) -> Example:
    """Render a whole conversation. It must end with an assistant turn."""
    messages = with_generated_ids(conversation, tokenizer)
    last = messages[-1]
    assert isinstance(last, Assistant)
    assert last.token_ids is not None
    ids = [*prompt_of(conversation, messages[:-1], tokenizer).token_ids, *last.token_ids]
    start, end = (tokenizer.convert_tokens_to_ids(marker) for marker in (TURN_START, TURN_END))
    header = tokenizer.encode("assistant\n", add_special_tokens=False)
    is_target = [False] * len(ids)
    position = 0
    while position < len(ids):
        if ids[position] == start and ids[position + 1 : position + 1 + len(header)] == header:
            position += 1 + len(header)
            while True:
                is_target[position] = True
                if ids[position] == end:
                    break
                position += 1
        position += 1
    if len(conversation.tools) < 2:
        return Example(ids, is_target, [], [])
    return Example(ids, is_target, *_tools_and_guides(conversation, ids, is_target, tokenizer))


def _tools_and_guides(
    conversation: Conversation, ids: list[int], is_target: list[bool], tokenizer: Any
) -> tuple[list[range], list[Guide]]:
    numbers = {tool.name: number for number, tool in enumerate(conversation.tools)}
    call_start, tool_start, end = (tokenizer.convert_tokens_to_ids(text) for text in (CALL_START, TOOL_START, TURN_END))
    name_starts = tokenizer.convert_tokens_to_ids(list(NAME_STARTS))
    borders = [position for position, token in enumerate(ids) if token == tool_start] + [ids.index(end)]
    described = [range(*pair) for pair in itertools.pairwise(borders)]
    words = [{ids[position] for position in place} for place in described]
    calls = iter([numbers[call.name] for m in conversation.messages if isinstance(m, Assistant) for call in m.calls])
    user = [tokenizer.convert_tokens_to_ids(TURN_START), tokenizer.convert_tokens_to_ids("user\n")]
    guides: list[Guide] = []
    question = range(0)
    for position, token in enumerate(ids):
        if ids[position : position + 2] == user:
            question = range(position + 2, ids.index(end, position))
        if not is_target[position]:
            continue
        if token == call_start:
            tool = next(calls)
            telling = words[tool].difference(*words[:tool], *words[tool + 1 :])
            asked = [p for p in question if ids[p] in telling and tokenizer.convert_ids_to_tokens(ids[p]).isalpha()]
            guides += [Guide(position + offset, asked, tool) for offset in range(3)]
        elif token in name_starts:
            guides.append(Guide(position, asked, tool))
    return described, guides
