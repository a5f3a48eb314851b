"""Messages, tools and schema -> token ids.

Ids are made segment by segment: role markers are placed as ids, everything else is encoded with every control token
switched off. Text can therefore never open or close a turn, whatever it contains.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from tokenizers import Tokenizer

from hermes_runtime.control_tokens import control_tokens, plain_encoder, without_control_tokens
from hermes_runtime.dialects import Dialect, resolve_dialect, tool_call_block
from hermes_runtime.errors import CheckpointError
from hermes_runtime.literals.escapes import well_formed
from hermes_runtime.literals.scanner import parse_value
from hermes_runtime.messages import (
    Assistant,
    Message,
    MessageLike,
    System,
    ToolChoice,
    ToolChoiceLike,
    ToolLike,
    ToolResult,
    ToolSpec,
    User,
    coerce_tools,
)
from hermes_runtime.prompt.conversation import coerce_messages
from hermes_runtime.prompt.replay import ReplayMap

TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
_PROBE = "user\nA probe, with  spaces."
_SEGMENT_CACHE = 1024


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
    style = resolve_dialect(dialect)
    specs = coerce_tools(tools)
    if ToolChoice.coerce(tool_choice, specs).mode == "none":
        specs = ()
    conversation = coerce_messages(messages)
    encoder = ChatMLEncoder.of(tokenizer)
    ids: list[int] = list(encoder.bos)
    text: list[str] = [encoder.bos_text]
    for role, body, answer in turns(conversation, specs, schema, style):
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
    system = _system_text(leading, tools, schema, dialect)
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
            yield "tool", _responses(results, names, order, dialect), None
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


def _system_text(
    leading: Sequence[Message], tools: Sequence[ToolSpec], schema: Mapping[str, Any] | None, dialect: Dialect
) -> str:
    # The fixed, long part goes first: agents that share tools but not instructions then share the longest prefix.
    parts = [dialect.tools_prompt(tools)] if tools else []
    if schema is not None:
        parts.append(dialect.schema_prompt(schema))
    parts += [message.text for message in leading if isinstance(message, System) and message.text]
    return "\n\n".join(parts)


def _assistant_text(message: Assistant, dialect: Dialect) -> str:
    blocks = [message.text] if message.text else []
    blocks += [dialect.call(call) for call in message.calls]
    blocks += [tool_call_block(call.arguments) for call in message.invalid_calls]
    return "\n".join(blocks)


def _responses(
    results: Sequence[ToolResult], names: Mapping[str, str], order: Mapping[str, int], dialect: Dialect
) -> str:
    # The format has no ids: the order of the calls is all that ties a result to its call.
    in_call_order = sorted(results, key=lambda result: order.get(result.call_id, len(order)))
    blocks = (dialect.response(result.name or names.get(result.call_id), _shown(result)) for result in in_call_order)
    return "".join(f"{block}\n" for block in blocks)


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


class ChatMLEncoder:
    """Encodes ChatML turns with one tokenizer; the only place where text becomes ids."""

    _instances: ClassVar[WeakKeyDictionary[Any, ChatMLEncoder]] = WeakKeyDictionary()

    def __init__(self, tokenizer: Any) -> None:
        self._start, self._end = (_marker_id(tokenizer, marker) for marker in (TURN_START, TURN_END))
        self._backend: Tokenizer = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._control = control_tokens(tokenizer)
        self._literal = _literal_encoder(self._backend, self._control)
        self._adds_space = self._literal.encode(" a", add_special_tokens=False).tokens[1:] == ["▁a"]
        self.bos = () if tokenizer.bos_token_id is None else (int(tokenizer.bos_token_id),)
        self.bos_text: str = tokenizer.bos_token or ""
        self._between = tuple(self._encode(TURN_END + "\n" + TURN_START)[1:-1])
        self._body = lru_cache(maxsize=_SEGMENT_CACHE)(self._encode_body)
        self.answer_header = (self._start, *self._encode(TURN_START + "assistant\n")[1:])

    @classmethod
    def of(cls, tokenizer: Any) -> ChatMLEncoder:
        """Return the encoder of a tokenizer, made once.

        Raises:
            CheckpointError: The tokenizer lacks a ChatML marker or has no `tokenizers` backend.
        """
        encoder = cls._instances.get(tokenizer)
        if encoder is None:
            encoder = cls._instances[tokenizer] = cls(tokenizer)
        return encoder

    def turn(self, text: str) -> tuple[int, ...]:
        """Return the ids of one closed turn and the line break after it."""
        return (self._start, *self._body(text), self._end, *self._between)

    def rest_of_turn(self, generated: Sequence[int]) -> tuple[int, ...]:
        """Return what follows the header of a turn that the model wrote itself, closed if it was cut."""
        closing = () if generated and generated[-1] == self._end else (self._end,)
        return (*generated, *closing, *self._between)

    def piece(self, text: str) -> tuple[int, ...]:
        """Return the ids that a piece of a longer text has there; all pieces together have no fewer than the text.

        Some tokenizers put a space before every text. Before a word that brings its own it would be a second.
        """
        alone = text[1:] if self._adds_space and text.startswith(" ") and not text.isspace() else text
        return tuple(_ids(self._literal, well_formed(alone)))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, control tokens included."""
        return self._backend.decode(list(ids), skip_special_tokens=False)

    def _encode(self, text: str) -> list[int]:
        return _ids(self._backend, text)

    def _encode_body(self, text: str) -> tuple[int, ...]:
        if self._spells_control_token(text):
            return tuple(_ids(self._literal, text))
        # Between its markers, because some tokenizers treat the start of a text and the middle of one differently.
        return tuple(self._encode(TURN_START + text + TURN_END)[1:-1])

    def _spells_control_token(self, text: str) -> bool:
        return any(token in text for token in self._control)


def _ids(encoder: Tokenizer, text: str) -> list[int]:
    # As a batch, because `encode` holds the interpreter's lock, and with it every event loop, as long as a text takes.
    return list(encoder.encode_batch_fast([text], add_special_tokens=False)[0].ids)


def _marker_id(tokenizer: Any, marker: str) -> int:
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise CheckpointError(
            f"{type(tokenizer).__name__} has no tokenizers backend; the checkpoint needs a tokenizer.json"
        )
    token_id = tokenizer.backend_tokenizer.token_to_id(marker)
    if token_id is None:
        raise CheckpointError(f"the tokenizer has no {marker} token; only ChatML checkpoints can be prompted")
    return int(token_id)


def _literal_encoder(backend: Tokenizer, control: frozenset[str]) -> Tokenizer:
    """Return a copy that reads control tokens in a text as plain text, and a text alone as it would inside a turn."""
    spec = without_control_tokens(backend, control)
    inside = backend.encode(TURN_START + _PROBE + TURN_END, add_special_tokens=False).ids[1:-1]
    for variant in (spec, _without_first_word_prefix(spec), _without_prefix(spec)):
        literal = plain_encoder(variant)
        if literal.encode(_PROBE, add_special_tokens=False).ids == inside:
            return literal
    raise CheckpointError(
        "the tokenizer encodes a text inside a turn unlike any text alone; it cannot be prompted safely"
    )


def _without_first_word_prefix(spec: dict[str, Any]) -> dict[str, Any]:
    """SentencePiece tokenizers past their legacy form put a space before the first word of a text only."""
    pre_tokenizer = spec.get("pre_tokenizer") or {}
    return {**spec, "pre_tokenizer": {**pre_tokenizer, "prepend_scheme": "never"} if pre_tokenizer else None}


def _without_prefix(spec: dict[str, Any]) -> dict[str, Any]:
    """Where markers are matched after normalization, the legacy prefix space too stands before the first word only."""
    normalizer = spec.get("normalizer") or {}
    kept = [part for part in normalizer.get("normalizers", ()) if part["type"] != "Prepend"]
    return {**spec, "normalizer": {"type": "Sequence", "normalizers": kept} if normalizer else None}
