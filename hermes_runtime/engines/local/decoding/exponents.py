"""Keeps written numbers finite.

JSON's grammar lets an exponent be of any length, and grammars for schemas follow it: `1e999` fits `{"type": "number"}`,
but no reader gets a number from it. So an exponent ends after two digits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_EXPONENT = re.compile(rb"[0-9][eE][+-]?([0-9]*)\Z")
_TOO_LARGE = re.compile(rb"[0-9][eE][+-]?[0-9]{3}")
_CONTINUES = re.compile(rb"[0-9.]*[eE+-]{0,2}[0-9]")
_IN_EXPONENT = frozenset(b"0123456789eE+-")
# No longer part of a number or of hexadecimal digits, but of almost any string.
_LETTER = b"x"
_AFTER_NUMBER = (b",", b"}", b"]")
_TAIL = 8  # ids that are looked back on; an exponent of two digits has at most five


class ExponentBound:
    """Takes out of a mask what would make an exponent of three digits.

    Args:
        tokens: The bytes of every id.
    """

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self._tokens = tokens
        self._continuing = [(index, token) for index, token in enumerate(tokens) if _CONTINUES.match(token)]
        self._whole = [index for index, token in self._continuing if _TOO_LARGE.search(b"0" + token)]
        single = {token: index for index, token in enumerate(tokens) if token in (_LETTER, *_AFTER_NUMBER)}
        self._letter = single.get(_LETTER)
        self._after_number = [single[token] for token in _AFTER_NUMBER if token in single]

    def narrow(self, ids: Sequence[int], words: npt.NDArray[np.uint32]) -> None:
        """Narrow the mask of what follows `ids`, lowest bit first; something always stays allowed.

        A mask does not say whether it is a number that goes on. Where letters may follow, it is none; where a number
        has an exponent, it may also end. A string of digits that fits both only loses its digits, not its end.
        """
        last = self._tokens[ids[-1]][-1:] if ids else b""
        if not last or last[0] not in _IN_EXPONENT:
            return
        tail = b"".join(self._tokens[index] for index in ids[-_TAIL:])
        begun = _EXPONENT.search(tail)
        if begun is None and not self._whole:
            return
        if self._letter is not None and _has(words, self._letter):
            return
        if begun and begun[1] and not any(_has(words, index) for index in self._after_number):
            return
        tail = begun[0] if begun else tail[-1:]
        for index, token in self._continuing:
            if _has(words, index) and _TOO_LARGE.search(tail + token):
                words[index // 32] &= np.uint32(~(1 << index % 32) & 0xFFFFFFFF)


def _has(words: npt.NDArray[np.uint32], index: int) -> bool:
    return bool(words[index // 32] >> index % 32 & 1)
