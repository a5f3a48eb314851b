"""Grammar text -> the state that masks one completion's logits.

A `Constraint` lives as long as its completion: `mask` a row, sample, `accept` what was sampled, and so on until
`is_finished`; then only the end-of-turn id is left. Drafted ids are taken back with `rollback`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, __version__
from transformers import LogitsProcessor

from hermes_runtime.engines.local.decoding.constraint_tokens import constraint_tokenizer
from hermes_runtime.engines.local.decoding.exponents import ExponentBound
from hermes_runtime.errors import EngineError, InvalidRequestError

# Completions of one grammar share its lexer, which remembers every state it has met at one to two kilobytes each
# (llguidance, LLParserLimits). It is built anew now and then, so that it cannot grow without bound.
_COMPLETIONS_PER_LEXER = 256

# The defaults refuse one object of more than 500 optional properties.
_LIMITS = LLParserLimits(max_items_in_row=20_000, step_max_items=200_000)

# Since 1.8 a JSON string may hold \uXXXX escapes of printable characters; earlier versions, and servers that run them,
# refuse the option. Without it a model that begins such an escape is forced into a control character.
_LAYOUT = '"x-guidance": {'
_ESCAPES = '"json_allow_general_unicode_escapes": true, '
_KNOWS_ESCAPES = tuple(int(part) for part in __version__.split(".")[:2]) >= (1, 8)


class ConstraintCompiler:
    """Compiles grammars for one tokenizer and keeps the most recently used ones. Safe to use from several threads.

    Args:
        tokenizer: The checkpoint's tokenizer; it must be a fast one.
        vocab_columns: Width of a logits row, padding columns included; columns without a token are masked always.
        end_ids: Ids that end a turn; by default the tokenizer's own end-of-sequence id.
        capacity: How many compiled grammars are kept.

    Raises:
        InvalidRequestError: The tokenizer is not a fast one, or has more tokens than a row has columns.
    """

    def __init__(
        self, tokenizer: Any, vocab_columns: int, *, end_ids: Sequence[int] | None = None, capacity: int = 64
    ) -> None:
        if vocab_columns < len(tokenizer):
            raise InvalidRequestError(f"{vocab_columns} logit columns cannot hold the tokenizer's {len(tokenizer)} ids")
        self.end_ids = (tokenizer.eos_token_id,) if end_ids is None else tuple(end_ids)
        if not self.end_ids or None in self.end_ids:
            raise InvalidRequestError("a constraint needs an end-of-turn id, and this tokenizer names none")
        self.vocab_columns = vocab_columns
        try:
            self._tokenizer, tokens = constraint_tokenizer(tokenizer, vocab_columns, self.end_ids)
        except ValueError as error:
            raise InvalidRequestError(f"this tokenizer cannot be constrained: {error}") from error
        self._exponents = ExponentBound(tokens)
        self._capacity = capacity
        self._kept: OrderedDict[str, tuple[LLMatcher, int]] = OrderedDict()
        self._lock = threading.Lock()

    def compile(self, grammar: str) -> Constraint:
        """Return the start state of a grammar.

        Raises:
            InvalidRequestError: The text is no grammar, or one too large for the engine.
        """
        with self._lock:
            start, uses = self._kept.get(grammar, (None, 0))
        if start is None or uses >= _COMPLETIONS_PER_LEXER:
            start, uses = self._compiled(grammar), 0
        with self._lock:
            self._kept[grammar] = (start, uses + 1)
            self._kept.move_to_end(grammar)
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
            state = start.deep_copy()
        return Constraint(state, self.vocab_columns, self.end_ids, self._exponents)

    def _compiled(self, grammar: str) -> LLMatcher:
        text = grammar.replace(_LAYOUT, _LAYOUT + _ESCAPES) if _KNOWS_ESCAPES else grammar
        matcher = LLMatcher(self._tokenizer, text, log_level=0, limits=_LIMITS)
        if matcher.is_error():
            raise InvalidRequestError(f"the constraint is no usable grammar: {matcher.get_error()}")
        return matcher


class Constraint:
    """Where one completion stands in its grammar. Made by `ConstraintCompiler.compile`; for one thread at a time."""

    __slots__ = ("_accepted", "_bits", "_end_ids", "_ended", "_exponents", "_is_filled", "_matcher", "vocab_columns")

    def __init__(
        self, matcher: LLMatcher, vocab_columns: int, end_ids: tuple[int, ...], exponents: ExponentBound
    ) -> None:
        self._matcher = matcher
        self._end_ids = end_ids
        self._exponents = exponents
        self._accepted: list[int] = []
        # The end is kept here and never given to the matcher, which counts it or not depending on how it came to stop.
        self._ended = False
        self._bits = torch.empty(words_per_row(vocab_columns), dtype=torch.int32)
        self._is_filled = False  # with what may come next here
        self.vocab_columns = vocab_columns

    @property
    def is_finished(self) -> bool:
        """Whether the text is complete, so that nothing but the end of the turn can follow."""
        return self._ended or bool(self._matcher.is_stopped())

    @property
    def may_finish(self) -> bool:
        """Whether the turn may end here."""
        return self.is_finished or bool(self._matcher.is_accepting())

    def mask(self, row: torch.Tensor) -> None:
        """Set every id that must not come next to minus infinity, in place.

        Args:
            row: Logits of one position, shape (vocab_columns,), of any floating type and on any device.

        Raises:
            EngineError: The grammar's parser gave up.
        """
        row.masked_fill_(~unpack(self._next_bits().to(row.device), self.vocab_columns), float("-inf"))

    def permits(self, token: int) -> bool:
        """Whether `mask` would leave this id.

        Raises:
            EngineError: The grammar's parser gave up.
        """
        return bool(int(self._next_bits()[token // 32]) >> token % 32 & 1)

    def fill(self, bits: torch.Tensor) -> None:
        """Write what may come next, one bit an id, lowest bit first, so that a batch is unpacked at once.

        Args:
            bits: Shape (words_per_row(vocab_columns),), int32, contiguous, on the CPU; overwritten.

        Raises:
            EngineError: The grammar's parser gave up.
        """
        if self._ended:
            words = bits.zero_().numpy().view("uint32")
            for token in self._end_ids:
                words[token // 32] |= 1 << token % 32
            return
        self._matcher.unsafe_compute_mask_ptr(bits.data_ptr(), bits.numel() * bits.element_size())
        self._raise_on_error()
        self._exponents.narrow(self._accepted, bits.numpy().view("uint32"))

    def accept(self, ids: Sequence[int]) -> None:
        """Move past ids that were chosen.

        Raises:
            EngineError: An id is not allowed where it stands (those before it are accepted), or the parser gave up.
        """
        self._is_filled = False
        text, end = self._split(ids)
        count = self._matcher.try_consume_tokens(text) if text and not self._ended else 0
        self._accepted += text[:count]
        self._raise_on_error()
        if count == len(text) and end and not self._ended and self.may_finish:
            self._ended = True
            self._accepted += end
            count += 1
        if count < len(ids):
            raise EngineError(
                f"the constraint does not allow token {ids[count]} after {len(self._accepted)} accepted tokens"
            )

    def allowed(self, ids: Sequence[int]) -> int:
        """Return how many of `ids`, from the first on, could be accepted; the state does not change."""
        if self.is_finished:
            return int(not self._ended and bool(ids) and ids[0] in self._end_ids)
        text, end = self._split(ids)
        count = int(self._matcher.validate_tokens([*text, *end])) if text or end else 0
        self._raise_on_error()
        return count

    def forced(self) -> list[int]:
        """Return the ids that must come next, as the tokenizer itself would write them; empty where there is a choice.

        Ids that a longer token could still swallow are held back (llguidance, docs/fast_forward.md).
        """
        if self._ended:
            return []
        if self.is_finished:
            return list(self._end_ids) if len(self._end_ids) == 1 else []
        ids = [int(token) for token in self._matcher.compute_ff_tokens()]
        self._raise_on_error()
        return ids

    def rollback(self, count: int) -> None:
        """Take back the last `count` accepted ids.

        Raises:
            ValueError: Fewer ids were accepted.
            EngineError: The parser gave up.
        """
        if not 0 <= count <= len(self._accepted):
            raise ValueError(f"cannot take back {count} of {len(self._accepted)} accepted tokens")
        if not count:
            return
        self._is_filled = False
        del self._accepted[-count:]
        if self._ended:
            self._ended = False
            count -= 1
        if count:
            self._matcher.rollback(count)
            self._raise_on_error()

    def _next_bits(self) -> torch.Tensor:
        if not self._is_filled:
            self.fill(self._bits)
            self._is_filled = True
        return self._bits

    def _split(self, ids: Sequence[int]) -> tuple[list[int], list[int]]:
        """Split into text and the id that ends it; what follows the end, or has no column, is in neither."""
        text: list[int] = []
        for token in ids:
            if token in self._end_ids:
                return text, [token]
            if not 0 <= token < self.vocab_columns:
                break
            text.append(token)
        return text, []

    def _raise_on_error(self) -> None:
        if self._matcher.is_error():
            raise EngineError(f"the constraint's parser gave up: {self._matcher.get_error().splitlines()[0]}")


class ConstraintLogitsProcessor(LogitsProcessor):
    """Applies a constraint within `model.generate`, to one sequence.

    Args:
        constraint: A fresh state.
        prompt_length: How many of the ids it will see are the prompt; it follows those after them.
    """

    def __init__(self, constraint: Constraint, *, prompt_length: int) -> None:
        self._constraint = constraint
        self._seen = prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Mask the row that follows `input_ids`.

        Args:
            input_ids: Shape (1, prompt and generated length).
            scores: Shape (1, vocab_columns); changed in place.

        Raises:
            ValueError: More than one sequence.
        """
        if input_ids.shape[0] != 1:
            raise ValueError(f"a constraint follows one sequence, got {input_ids.shape[0]}")
        self._constraint.accept(input_ids[0, self._seen :].tolist())
        self._seen = input_ids.shape[1]
        self._constraint.mask(scores[0])
        return scores


def words_per_row(vocab_columns: int) -> int:
    """Return how many int32 words hold one bit for each column."""
    return (vocab_columns + 31) // 32


def unpack(bits: torch.Tensor, vocab_columns: int) -> torch.Tensor:
    """Turn bit masks into boolean masks, True where an id is allowed.

    Args:
        bits: Shape (..., words_per_row(vocab_columns)), int32.
        vocab_columns: Width of the result.

    Returns:
        Shape (..., vocab_columns), bool, on the device of `bits`.
    """
    if bits.device.type == "cpu":
        flags = np.unpackbits(bits.contiguous().numpy().view(np.uint8), axis=-1, count=vocab_columns, bitorder="little")
        return torch.from_numpy(flags.view(np.bool_))
    shifts = torch.arange(32, dtype=torch.int32, device=bits.device)
    return ((bits.unsqueeze(-1) >> shifts) & 1).bool().flatten(-2)[..., :vocab_columns]
