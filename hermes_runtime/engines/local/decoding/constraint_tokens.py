"""A checkpoint's tokenizer as the grammar engine sees it: the bytes of every id, and how forced text is written.

llguidance reads a tokenizer itself, but takes every added token of the form `<...>` for a control token, so that no
call could be written where `<tool_call>` is one; and where a grammar forces text that spells a control token, it
forces the control token. Here a tag is the text that it spells, and text is never a control token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from llguidance import LLTokenizer, TokenizerWrapper
from llguidance.hf import from_tokenizer

from hermes_runtime.control_tokens import control_tokens, plain_encoder, without_control_tokens, without_prefix

_Made = tuple[LLTokenizer, list[bytes]]
_MADE: WeakKeyDictionary[Any, dict[tuple[Any, ...], _Made]] = WeakKeyDictionary()


def constraint_tokenizer(tokenizer: Any, vocab_columns: int, end_ids: Sequence[int]) -> _Made:
    """Return what grammars are compiled for, and the bytes of every id; made once for each tokenizer as it stands.

    Args:
        tokenizer: A fast `transformers` tokenizer.
        vocab_columns: Width of a logits row; columns without a token count as control tokens.
        end_ids: Ids that end a turn.

    Raises:
        ValueError: The tokenizer is not a fast one, or its bytes cannot be told.
    """
    made, key = _MADE.setdefault(tokenizer, {}), (len(tokenizer), vocab_columns, *end_ids)
    if key not in made:
        tokens = _Tokens(tokenizer, vocab_columns, end_ids)
        made[key] = LLTokenizer(TokenizerWrapper(tokens), eos_token=list(end_ids)), tokens.tokens
    return made[key]


class _Tokens:
    """What `llguidance.TokenizerWrapper` asks for.

    Attributes:
        tokens: The bytes of every id.
        special_token_ids: Ids that text never becomes.
        eos_token_id: The first of the ids that end a turn.
        bos_token_id: Not used.
    """

    bos_token_id = None

    def __init__(self, tokenizer: Any, vocab_columns: int, end_ids: Sequence[int]) -> None:
        own = from_tokenizer(tokenizer, n_vocab=vocab_columns, eos_token=list(end_ids), slices=[])
        control = control_tokens(tokenizer)
        added = tokenizer.backend_tokenizer.get_added_tokens_decoder()
        text = {index: token.content.encode() for index, token in added.items() if token.content not in control}
        text = {index: spelled for index, spelled in text.items() if index not in end_ids}
        self.eos_token_id = end_ids[0]
        self.tokens = [text.get(index) or own.decode_bytes([index]) for index in range(vocab_columns)]
        marked = {index for index in range(vocab_columns) if own.is_special_token(index)}
        named = {tokenizer.convert_tokens_to_ids(name) for name in control}
        self.special_token_ids = sorted((marked | named).difference(text))
        spec = without_control_tokens(tokenizer.backend_tokenizer, control)
        self._encoder = plain_encoder(without_prefix(spec, "normalizer", "pre_tokenizer"))
        self._own = own

    def __call__(self, text: bytes | str) -> list[int]:
        """Return the ids of a piece in the middle of a text."""
        spelled = text.decode() if isinstance(text, bytes) else text
        ids: list[int] = self._encoder.encode(spelled, add_special_tokens=False).ids
        # A normalizer may change what it encodes; a grammar takes its text to the letter.
        is_exact = b"".join(self.tokens[index] for index in ids) == spelled.encode()
        return ids if is_exact else self._own.greedy_tokenize(spelled)
