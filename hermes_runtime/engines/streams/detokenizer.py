"""Token ids -> text that can be shown at once: whole characters only, and nothing that may be part of a stop string."""

from __future__ import annotations

from collections.abc import Callable

from hermes_runtime.options.generation import GenerationOptions

_REPLACEMENT = "\ufffd"
# A character has at most four bytes: more undecodable tokens than that are not the beginning of one.
_LONGEST_CHARACTER = 4


class Detokenizer:
    """Decodes a growing sequence of ids; text comes out when its last character is complete.

    Args:
        decode: Ids to text, control tokens included.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._context: list[int] = []  # ids already shown; SentencePiece decodes the first word of a text differently
        self._pending: list[int] = []

    def feed(self, token_id: int) -> str:
        """Take one id, return the text that became certain."""
        self._pending.append(token_id)
        text = self._new_text()
        if text.endswith(_REPLACEMENT) and len(self._pending) < _LONGEST_CHARACTER:
            return ""
        return self._show(text)

    def flush(self) -> str:
        """Return what was held back; bytes that are no character read as U+FFFD."""
        return self._show(self._new_text()) if self._pending else ""

    def _new_text(self) -> str:
        return self._decode(self._context + self._pending)[len(self._decode(self._context)) :]

    def _show(self, text: str) -> str:
        self._context, self._pending = self._pending, []
        return text


class StopScanner:
    """Cuts a stream of text at the first stop string, in time linear in the text and in the number of stop strings.

    Args:
        options: The generation's; its stop strings are looked for, but none that ends within `min_tokens` tokens.
    """

    def __init__(self, options: GenerationOptions) -> None:
        self._stop = options.stop
        self._longest = max(map(len, self._stop), default=0)
        self._held = ""
        self._past = 0  # characters of what is held
        self._passing = options.min_tokens or 0  # tokens whose text stops nothing
        self.is_stopped = False

    def feed(self, text: str) -> str:
        """Take the text of one token, return what can be shown; nothing more once stopped."""
        if self.is_stopped:
            return ""
        if not self._stop:
            return text
        self._held += text
        if self._passing:
            self._passing -= 1
            self._past = len(self._held)
        # One that ends in what is past stops nothing; one that only begins there does.
        found = (self._held.find(stop, max(0, self._past + 1 - len(stop))) for stop in self._stop)
        hits = [at for at in found if at >= 0]
        if hits:
            self.is_stopped = True
            shown, self._held = self._held[: min(hits)], ""
            return shown
        keep = self._length_of_possible_start()
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        self._past = max(0, self._past - len(shown))
        return shown

    def flush(self) -> str:
        """Return what was held back: the stream ended without completing the stop string."""
        shown, self._held = self._held, ""
        return shown

    def _length_of_possible_start(self) -> int:
        for length in range(min(self._longest - 1, len(self._held)), 0, -1):
            tail = self._held[-length:]
            if any(stop.startswith(tail) for stop in self._stop):
                return length
        return 0
