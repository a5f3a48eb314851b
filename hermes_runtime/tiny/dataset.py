"""Conversations as token ids with loss weights, rendered by the project's own prompt renderer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hermes_runtime.messages import Assistant, Message
from hermes_runtime.prompt import TURN_END, TURN_START, Prompt, build_prompt
from hermes_runtime.tiny.conversations import Conversation


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of a whole conversation; `is_target[i]` says whether the model is to write `ids[i]`."""

    ids: list[int]
    is_target: list[bool]


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
    return Example(ids, is_target)
