"""Messages, tools and schema -> token ids.

Ids are made segment by segment: role markers are placed as ids, everything else is encoded with every control token
switched off. Text can therefore never open or close a turn, whatever it contains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hermes_runtime.dialects import Dialect, resolve_dialect
from hermes_runtime.messages import (
    Message,
    MessageLike,
    ToolChoiceLike,
    ToolLike,
    ToolOffer,
    ToolSpec,
)
from hermes_runtime.prompt.chatml import ChatMLEncoder
from hermes_runtime.prompt.conversation import coerce_messages
from hermes_runtime.prompt.replay import ReplayMap
from hermes_runtime.prompt.turns import turns
from hermes_runtime.tags import TURN_END, TURN_START


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt.

    Attributes:
        token_ids: What the model reads, BOS included.
        text: The same for people; where content spells a control token, only the ids tell the two apart.
    """

    token_ids: tuple[int, ...]
    text: str


def build_prompt(
    messages: Sequence[MessageLike],
    *,
    tokenizer: Any,
    tools: Sequence[ToolLike] = (),
    tool_choice: ToolChoiceLike = None,
    schema: Mapping[str, Any] | None = None,
    dialect: str | Dialect = "card",
    replay: ReplayMap | None = None,
) -> Prompt:
    """Render a conversation in a dialect of the Hermes format, up to and including the header of the answer.

    Args:
        messages: Message objects or OpenAI-style dicts; never mutated.
        tokenizer: The checkpoint's `transformers` tokenizer.
        tools: What the model may call. With `tool_choice="none"` they are not shown.
        tool_choice: Checked against the tools; see `ToolChoice.coerce`.
        schema: JSON Schema of the answer (JSON mode); an empty one asks for any JSON.
        dialect: Name in `DIALECTS`, or a `Dialect`.
        replay: Where the ids of turns that the model wrote itself are found.

    Raises:
        InvalidRequestError: An empty conversation, a bad tool or dialect, a user's image or other medium.
        ToolChoiceError: The choice names no given tool.
        CheckpointError: The tokenizer has no ChatML markers.
    """
    offer = ToolOffer.of(tools, tool_choice)
    return render_prompt(
        coerce_messages(messages),
        tokenizer=tokenizer,
        tools=offer.shown,
        schema=schema,
        dialect=resolve_dialect(dialect),
        replay=replay,
    )


def render_prompt(
    conversation: Sequence[Message],
    *,
    tokenizer: Any,
    tools: Sequence[ToolSpec],
    schema: Mapping[str, Any] | None,
    dialect: Dialect,
    replay: ReplayMap | None = None,
) -> Prompt:
    """Render what was brought into form already; see `build_prompt`.

    Args:
        conversation: Not empty.
        tokenizer: The checkpoint's.
        tools: Those that the model is shown.
        schema: JSON Schema of the answer, as in `build_prompt`.
        dialect: How the model is told of both.
        replay: As in `build_prompt`.

    Raises:
        CheckpointError: The tokenizer has no ChatML markers.
    """
    encoder = ChatMLEncoder.of(tokenizer)
    ids: list[int] = list(encoder.bos)
    text: list[str] = [encoder.bos_text]
    for role, body, answer in turns(conversation, tools, schema, dialect):
        generated = None if answer is None else answer.token_ids
        if answer is not None and generated is None and replay is not None:
            generated = replay.recall((*ids, *encoder.answer_header), answer)
        if generated is None:
            ids += encoder.turn(f"{role}\n{body}")
            text.append(f"{TURN_START}{role}\n{body}{TURN_END}\n")
        else:
            ids += encoder.answer_header
            ids += encoder.rest_of_turn(generated)
            text.append(f"{TURN_START}{role}\n{encoder.decode(generated).removesuffix(TURN_END)}{TURN_END}\n")
    ids += encoder.answer_header
    text.append(f"{TURN_START}assistant\n")
    return Prompt(tuple(ids), "".join(text))
