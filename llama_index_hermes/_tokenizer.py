"""The tokenizer that LlamaIndex counts and packs text with.

LlamaIndex packs documents into a window with one tokenizer for all models, which unless told otherwise is that of an
OpenAI model. Another vocabulary may make a fifth more tokens of the same text, and what was packed then does not fit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import llama_index.core
from llama_index.core.utils import get_tokenizer, set_global_tokenizer

from hermes_runtime.errors import HermesError
from hermes_runtime.prompt import ChatMLEncoder

_KEPT_WORDS = 1 << 15
_LONGEST_WORD = 32  # characters

_logger = logging.getLogger(__name__)


class ModelTokenizer:
    """Encodes pieces of a text as they are encoded within a prompt of one model.

    Args:
        model: Names the model.
        find: Returns its `transformers` tokenizer; called when the first piece is encoded.
    """

    def __init__(self, model: str, find: Callable[[], Any]) -> None:
        self.model = model
        self._find = find
        self._encode: Callable[[str], tuple[int, ...]] | None = None
        self._encode_word: Callable[[str], tuple[int, ...]]

    def __call__(self, text: str) -> list[int]:
        """Return the ids of a piece of a text.

        Raises:
            ModelNotFoundError: There is no such model, or it cannot be reached.
        """
        if self._encode is None:
            self._encode = ChatMLEncoder.of(self._find()).piece
            self._encode_word = lru_cache(maxsize=_KEPT_WORDS)(self._encode)
        # A splitter asks for the same words over and over.
        return list(self._encode_word(text) if len(text) <= _LONGEST_WORD else self._encode(text))


class _PackingTokenizer(ModelTokenizer):
    """Falls back on LlamaIndex's default: splitting documents must not fail for a model that nobody has asked yet."""

    def __call__(self, text: str) -> list[int]:
        try:
            return super().__call__(text)
        except HermesError as error:
            _logger.warning(
                "LlamaIndex goes on counting tokens as for an OpenAI model, and long texts may not fit: the tokenizer "
                "of %r cannot be read (%s)",
                self.model,
                error,
            )
            llama_index.core.global_tokenizer = None
            return list(get_tokenizer()(text))


def pack_with(model: str, find: Callable[[], Any]) -> None:
    """Let LlamaIndex count with a model's tokenizer from now on, where nobody has chosen one.

    Args:
        model: Names the model.
        find: See `ModelTokenizer`.
    """
    chosen = llama_index.core.global_tokenizer
    if isinstance(chosen, _PackingTokenizer):
        if chosen.model == model:
            return
    elif not _is_default(chosen):
        return
    _logger.info(
        "LlamaIndex packs text by the tokenizer of %r from now on, since none was set; "
        "llama_index.core.set_global_tokenizer sets another",
        model,
    )
    set_global_tokenizer(_PackingTokenizer(model, find))


def _is_default(tokenizer: Any) -> bool:
    """Tell whether a global tokenizer is none, or the one that LlamaIndex itself takes where none was set."""
    if not isinstance(tokenizer, partial):
        return tokenizer is None
    encoding = type(getattr(tokenizer.func, "__self__", None))
    return encoding.__module__.partition(".")[0] == "tiktoken" and tokenizer.keywords == {"allowed_special": "all"}
