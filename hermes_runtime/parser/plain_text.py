"""Reads answers in which no call can be: what looks like markup there is text."""

from __future__ import annotations

import re
from collections.abc import Callable

from hermes_runtime.parser import markup
from hermes_runtime.parser.events import Event, EventWriter, TextDelta
from hermes_runtime.parser.reasoning import ReasoningBlock
from hermes_runtime.parser.text_window import TextWindow

_BLANK = re.compile(r"\s*+")
_REST_OF_LINE = re.compile(r"[^\S\n]{0,16}(?P<end>\n)?")


class VerbatimReader:
    """Reads all text as content, with the interface of a `StreamParser`."""

    def feed(self, text: str) -> list[Event]:
        """Return the text."""
        return [TextDelta(text)]

    def close(self, finish_reason: str | None = "stop") -> list[Event]:
        """Nothing is left to say."""
        return []


class TextReader:
    """Reads the answer of a turn without tools: text, character by character, but for reasoning that it opens with.

    Models that think aloud open their answer with a <think> or <scratch_pad> block. Where the tag stands on a line of
    its own, as they are trained to write it, the reasoning streams. Otherwise the tag may be spoken of, and only its
    closing tag, or a cut before it, makes reasoning of what follows.
    """

    def __init__(self) -> None:
        self._window = TextWindow()
        self._writer = EventWriter()
        self._text: list[str] = []
        self._state: Callable[[], bool] = self._before_answer
        self._reasoning: ReasoningBlock | None = None
        self._cut_off = False

    def feed(self, text: str) -> list[Event]:
        """Read on."""
        self._window.extend(text)
        return self._advance()

    def close(self, finish_reason: str | None = "stop") -> list[Event]:
        """Say that the text ends here, and why."""
        self._window.at_end = True
        self._cut_off = finish_reason in ("length", "cancelled")
        return self._advance()

    def _advance(self) -> list[Event]:
        while self._state():
            pass
        events, text = self._writer.take(), "".join(self._text)
        if text and self._state == self._in_text:
            events.append(TextDelta(text))
            self._text = []
        return events

    # States: each reads what it can and returns whether to go on with the text at hand.

    def _before_answer(self) -> bool:
        window = self._window
        self._take_blanks()
        if window.exhausted and not window.at_end:
            return False
        tag = markup.TAG.match(window.text, window.at)
        if markup.opens_reasoning(tag):
            rest = _REST_OF_LINE.match(window.text, tag.end())
            assert rest is not None
            if rest.end() == len(window.text) and not rest["end"] and not window.at_end:
                return False
            self._reasoning = ReasoningBlock(window, self._writer, tag, is_certain=bool(rest["end"]))
            self._state = self._in_reasoning
        elif not window.at_end and markup.is_beginning(markup.BLOCK, window.text, window.at):
            return False
        else:
            self._state = self._in_text
        return True

    def _in_reasoning(self) -> bool:
        block = self._reasoning
        assert block is not None
        block.advance(cut_off=self._cut_off)
        if not block.finished:
            return False
        if block.is_text:
            self._state = self._in_text
        else:
            self._text = []
            self._state = self._after_reasoning
        return True

    def _after_reasoning(self) -> bool:
        window = self._window
        self._take_blanks()
        self._text = []
        if window.exhausted:
            return False
        self._state = self._in_text
        return True

    def _in_text(self) -> bool:
        self._text.append(self._window.text[self._window.at :])
        self._window.at = len(self._window.text)
        return False

    def _take_blanks(self) -> None:
        match = _BLANK.match(self._window.text, self._window.at)
        assert match is not None
        self._text.append(match.group())
        self._window.at = match.end()
