"""Reads what a model thinks aloud: the inside of a <think> or <scratch_pad> block."""

from __future__ import annotations

import re
from collections.abc import Callable

from hermes_runtime.parser import markup
from hermes_runtime.parser.events import EventWriter
from hermes_runtime.parser.text_window import TextWindow


class ReasoningBlock:
    """The inside of a reasoning block, from its opening tag on.

    A call in it is a draft where the reasoning closes, and the real call where it never does, unless the answer was
    cut: nothing shows then that the model was done with thinking.

    Args:
        window: The text, placed at the opening tag.
        writer: What the reasoning is written to, as it arrives.
        tag: The opening tag.
        is_certain: The tag opens reasoning, closed or not. Otherwise it may be just spoken of, and only a closing tag
            or a cut makes reasoning of what follows; nothing of it is passed on before.

    Attributes:
        finished: The block is over; the window is placed after it.
        is_text: The tag opens nothing, once `finished`; the window is placed at the tag again.
        is_cut: The answer was cut inside the block.
    """

    def __init__(self, window: TextWindow, writer: EventWriter, tag: re.Match[str], *, is_certain: bool) -> None:
        self.finished = self.is_text = self.is_cut = False
        self._window = window
        self._writer = writer
        self._is_certain = is_certain
        self._cut_off = False
        self._record_from = window.position
        self._inside_from = window.position_of(tag.end())
        self._state: Callable[[], bool] = self._thinking
        if is_certain:
            writer.markup()
        else:
            window.record()
            self._state = self._recording
        window.at = tag.end()

    def advance(self, *, cut_off: bool) -> None:
        """Read on as far as the text goes; `cut_off` says that it was not the model that ended it."""
        self._cut_off = cut_off
        while not self.finished and self._state():
            pass

    def _thinking(self) -> bool:
        window = self._window
        begin = window.at
        tag, end = window.go_to_tag()
        self._writer.reasoning(window.text[begin : window.at])
        if window.exhausted:
            return False
        if tag is None:
            start = window.take_false_start(end, cut_off=self._cut_off)
            self._writer.reasoning(start)
            return bool(start)
        if markup.closes_reasoning(tag):
            self._close(tag)
        elif tag["marker"]:
            self._leave()
        elif markup.opens_call(tag):
            window.record()
            self._record_from = self._inside_from = window.position
            window.at = tag.end()
            self._state = self._recording
        else:
            window.at = tag.end()
            self._writer.reasoning(tag.group())
        return True

    def _recording(self) -> bool:
        """Read on after a tag whose meaning depends on how the reasoning ends."""
        window = self._window
        tag, _ = window.go_to_tag()
        if markup.closes_reasoning(tag):
            self._write_recorded()
            self._close(tag)
        elif tag and not tag["marker"]:
            window.at = tag.end()
        elif tag or (window.at_end and not self._cut_off):
            window.go_back(self._record_from)
            if self._is_certain:
                self._leave()
            else:
                self.finished = self.is_text = True
        elif window.at_end:
            window.at = len(window.text)
            self._write_recorded()
            self.finished = self.is_cut = True
        else:
            return False
        return True

    def _write_recorded(self) -> None:
        self._writer.markup()
        self._writer.reasoning(self._window.recorded(self._inside_from))
        self._window.forget()

    def _close(self, tag: re.Match[str]) -> None:
        self._window.at = tag.end()
        self._leave()

    def _leave(self) -> None:
        self._writer.end_reasoning()
        self.finished = True
