"""A conversation as turns of roles and texts, in a dialect."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

from hermes_runtime.dialects import Dialect
from hermes_runtime.literals.escapes import well_formed
from hermes_runtime.literals.scanner import parse_value
from hermes_runtime.messages import (
    Assistant,
    Message,
    System,
    ToolResult,
    ToolSpec,
    User,
)


def turns(
    messages: Sequence[Message], tools: Sequence[ToolSpec], schema: Mapping[str, Any] | None, dialect: Dialect
) -> Iterator[tuple[str, str, Assistant | None]]:
    """Yield (role, text, the message if the model said it) of every turn.

    Messages that are appended leave the turns before them as they are, so that what an engine has computed stays of
    use. Only system messages at the beginning, and results in a row, still grow together with the next.
    """
    for role, text, answer in _turns(messages, tools, schema, dialect):
        yield role, well_formed(text), answer


def _turns(
    messages: Sequence[Message], tools: Sequence[ToolSpec], schema: Mapping[str, Any] | None, dialect: Dialect
) -> Iterator[tuple[str, str, Assistant | None]]:
    leading = tuple(takewhile(lambda message: isinstance(message, System), messages))
    instructed = [message.text for message in leading if isinstance(message, System) and message.text]
    system = dialect.system_text(tools, schema, instructed)
    if system:
        yield "system", system, None
    names: dict[str, str] = {}
    order: dict[str, int] = {}
    results: list[ToolResult] = []
    # Instructions that came between a call and its results follow them: a call is answered by the turn after it.
    instructions: list[System] = []
    for message in (*messages[len(leading) :], None):
        if isinstance(message, ToolResult):
            results.append(message)
            continue
        if isinstance(message, System):
            instructions.append(message)
            continue
        if results:
            yield *_result_turn(results, names, order, dialect), None
        yield from (("system", instruction.text, None) for instruction in instructions if instruction.text)
        results, instructions = [], []
        if isinstance(message, User):
            yield "user", message.text, None
        elif isinstance(message, Assistant):
            made = [(call.id, call.name) for call in message.calls]
            made += [(call.id, call.name or "") for call in message.invalid_calls]
            names.update({call_id: name for call_id, name in made if name})
            order = {call_id: position for position, (call_id, _) in enumerate(made)}
            yield "assistant", _assistant_text(message, dialect), message


def _assistant_text(message: Assistant, dialect: Dialect) -> str:
    blocks = [message.text] if message.text else []
    blocks += [dialect.call(call) for call in message.calls]
    blocks += [dialect.shape.block(call.arguments) for call in message.invalid_calls]
    return "\n".join(blocks)


def _result_turn(
    results: Sequence[ToolResult], names: Mapping[str, str], order: Mapping[str, int], dialect: Dialect
) -> tuple[str, str]:
    # The format has no ids: the order of the calls is all that ties a result to its call.
    in_call_order = sorted(results, key=lambda result: order.get(result.call_id, len(order)))
    return dialect.results([(result.name or names.get(result.call_id), _shown(result)) for result in in_call_order])


def _shown(result: ToolResult) -> Any:
    """Return the content as the model saw it in training: objects and lists as values, other text as text."""
    content = result.content
    if result.is_error:
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, default=str)
        return text if text.lower().startswith("error") else f"Error: {text}"
    if isinstance(content, str) and content.lstrip()[:1] in ("{", "["):
        try:
            value = parse_value(content)
        except ValueError:
            return content
        return value if isinstance(value, dict | list) else content
    return content
