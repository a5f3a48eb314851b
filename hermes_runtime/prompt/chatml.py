"""ChatML turns -> token ids; the only place where text becomes ids."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from tokenizers import Tokenizer

from hermes_runtime.control_tokens import control_tokens, plain_encoder, without_control_tokens, without_prefix
from hermes_runtime.errors import CheckpointError
from hermes_runtime.literals.escapes import well_formed
from hermes_runtime.tags import TURN_END, TURN_START

_PROBE = "user\nA probe, with  spaces."
_SEGMENT_CACHE = 1024


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
    # SentencePiece tokenizers put a space before the first word of a text: those past their legacy form before they cut
    # it into words, legacy ones while they normalize it, which is also where markers may be found.
    for variant in (spec, without_prefix(spec, "pre_tokenizer"), without_prefix(spec, "normalizer")):
        literal = plain_encoder(variant)
        if literal.encode(_PROBE, add_special_tokens=False).ids == inside:
            return literal
    raise CheckpointError(
        "the tokenizer encodes a text inside a turn unlike any text alone; it cannot be prompted safely"
    )
