"""Reads the inside of a <tool_call> block."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from hermes_runtime.literals.scanner import LiteralError, LiteralScanner
from hermes_runtime.messages import Outcome, ToolSpec
from hermes_runtime.parser import markup
from hermes_runtime.parser.argument_pieces import ArgumentPieces
from hermes_runtime.parser.calls import ENDS_INSIDE, MAX_CALLS_IN_BLOCK, TOO_MANY, Written, invalid_call, read_calls
from hermes_runtime.parser.text_window import TextWindow
from hermes_runtime.problems import Problem

# After a call's object these begin a remnant of a member, not prose: {"name": "f"}, "arguments": {...}
_REMNANT = frozenset("\"',:;=/#")
_BLANK = re.compile(r"\s*+")
_BLANK_AND_BRACKETS = re.compile(r"[\s}\])]*+")
_OUTSIDE_STRINGS = re.compile(rf"""(?:[^"'<]++|"[^"\\}}\]]*+"|'[^'\\}}\]]*+'|(?!{markup.BLOCK.pattern})<)*+""")
_INSIDE_STRING = {
    quote: re.compile(rf"(?:[^{quote}\\}}\]]++|\\.|[}}\]](?!\s{{0,8}}(?:<|\Z)))*+", re.DOTALL) for quote in "\"'"
}


class CallBlock:
    """The inside of a <tool_call> block, from after its opening tag.

    A call is well-formed only where its object is complete and followed by a closing tag, another object, another
    block, prose, or the end that the model itself chose. Where the token limit or a cancellation ended the text before
    any of these, even a complete object counts as cut off: nothing shows that the model was done with the call.

    A tag that neither an object nor a closing tag follows opens nothing: it is spoken of, and text like all around it.

    Args:
        window: The text, placed after the opening tag.
        tools: The tools that were bound.
        opening: The opening tag, with the fence before it if there is one.
        after_unclosed: The opening tag follows a block without a closing tag, so it may have been meant as one.
        only_name: The one tool that can be called, where that is certain.

    Attributes:
        pieces: What is known of the arguments of the block's first call before it is complete.
        outcomes: The calls, once `finished`.
        finished: The block is over; the window is placed after it.
        text: What the block is, opening tag included, where it is no call but text.
        unclosed: The block ended without a closing tag.
    """

    def __init__(
        self,
        window: TextWindow,
        tools: Sequence[ToolSpec],
        *,
        opening: str,
        after_unclosed: bool = False,
        only_name: str | None = None,
    ) -> None:
        self.pieces = self._pieces = ArgumentPieces(only_name)
        self.outcomes: list[Outcome] = []
        self.finished = False
        self.text = ""
        self.unclosed = False
        self._window = window
        self._opening = opening
        self._tools = tools
        self._after_unclosed = after_unclosed
        self._state: Callable[[], bool] = self._before_value
        self._scanner = LiteralScanner(tap=self.pieces)
        self._values: list[tuple[object, int, int, ArgumentPieces]] = []
        self._begin = self._value_from = window.position
        self._failure = ""
        self._failed_at = 0
        self._comma = False
        self._quote = ""
        window.record()

    def advance(self, *, cut_off: bool) -> None:
        """Read on as far as the text goes; `cut_off` says that it was not the model that ended it."""
        while not self.finished and self._state():
            pass
        if self._window.at_end and not self.finished:
            self._end(cut_off=cut_off)

    # States: each reads what it can and returns whether to go on with the text at hand.

    def _before_value(self) -> bool:
        self._skip(_BLANK)
        window = self._window
        if window.exhausted:
            return False
        char = window.text[window.at]
        fence = markup.ALIAS_BODY.match(window.text, window.at)
        tag = markup.TAG.match(window.text, window.at)
        if char in "{[":
            self._begin_value()
        elif fence:
            window.at = fence.end()
        elif markup.opens_call(tag):
            # A second opening tag adds nothing.
            window.at += len(tag.group())
        elif markup.closes_call(tag):
            self._finish(tag.end())
        elif markup.ends_turn(tag):
            self._end(cut_off=False)
        elif markup.is_beginning(markup.ALIAS_BODY_BEGINNING if char == "`" else markup.BLOCK, window.text, window.at):
            return False
        else:
            self._state = self._in_prose
        return True

    def _in_prose(self) -> bool:
        """Look for the closing tag that makes a broken call of what is no object, and otherwise is text."""
        window = self._window
        tag, end = window.go_to_tag()
        if markup.closes_call(tag):
            self._finish(tag.end(), wreck=Problem("malformed", "a call is an object with name and arguments"))
        elif markup.opens_call(tag) or markup.ends_turn(tag):
            self._end(cut_off=False)
        elif tag is None and end == len(window.text):
            return False
        else:
            window.at += 1
        return True

    def _in_value(self) -> bool:
        window = self._window
        try:
            end = self._scanner.feed(window.text, window.at)
        except LiteralError as error:
            window.at = error.offset
            self._fail(error.detail)
            return True
        window.at = len(window.text) if end is None else end
        if end is None:
            return False
        self._values.append((self._scanner.value, self._value_from, window.position, self._pieces))
        self._comma = False
        self._state = self._after_value
        return True

    def _after_value(self) -> bool:
        # Surplus closing brackets are common; they take nothing away from a complete object.
        self._skip(_BLANK if self._comma else _BLANK_AND_BRACKETS)
        window = self._window
        if window.exhausted:
            return False
        char = window.text[window.at]
        if char in "{[" and len(self._values) == MAX_CALLS_IN_BLOCK:
            self._value_from = window.position
            self._fail(TOO_MANY)
        elif char in "{[":
            self._begin_value()
        elif char in ",;" and not self._comma:
            self._comma = True
            window.at += 1
        elif char == "<":
            return self._tag_after_value()
        elif window.text.startswith("```", window.at):
            window.at += 3
        elif char == "`" and self._is_cut(markup.FENCE_BEGINNING):
            return False
        elif self._comma or char in _REMNANT:
            _, self._value_from, _, _ = self._values.pop()
            self._fail("the object is followed by parts of another")
        else:
            self._end(cut_off=False)
        return True

    def _tag_after_value(self) -> bool:
        window = self._window
        tag = markup.TAG.match(window.text, window.at)
        close = markup.ANY_CLOSE.match(window.text, window.at)
        if close and not (tag and tag["pad"]):
            self._finish(close.end())
        elif tag is None and (self._is_cut(markup.ANY_CLOSE_BEGINNING) or self._is_cut(markup.BLOCK)):
            return False
        else:
            self._end(cut_off=False)
        return True

    def _after_failure(self) -> bool:
        window = self._window
        if window.exhausted and not window.at_end:
            return False
        tag = markup.TAG.match(window.text, window.at)
        if tag is None and self._may_become(markup.BLOCK):
            return False
        if markup.ends_turn(tag):
            self._finish(wreck=ENDS_INSIDE)
        elif not self._go_back_to(markup.CLOSE_AFTER_BRACKET, self._value_from):
            self._failed_at = window.position
            self._state = self._in_wreck
        return True

    def _in_wreck(self) -> bool:
        """Look for the end of a call that is no literal: a tag outside what looks like strings."""
        window = self._window
        if self._quote:
            return self._in_string_of_wreck()
        self._skip(_OUTSIDE_STRINGS)
        if window.exhausted:
            return False
        if window.text[window.at] in "\"'":
            self._quote = window.text[window.at]
            window.at += 1
            return True
        tag = markup.TAG.match(window.text, window.at)
        if tag is None and self._may_become(markup.BLOCK):
            return False
        if markup.closes_call(tag):
            self._finish(tag.end(), wreck=Problem("malformed", self._failure))
        elif markup.opens_call(tag) or (tag and tag["marker"]):
            self._finish(wreck=Problem("malformed", self._failure))
        else:
            window.at += 1
        return True

    def _in_string_of_wreck(self) -> bool:
        window = self._window
        self._skip(_INSIDE_STRING[self._quote])
        if window.exhausted:
            return False
        char = window.text[window.at]
        close = markup.CLOSE_AFTER_BRACKET.match(window.text, window.at)
        if close:
            window.at = close.end()
            self._quote = ""
            return True
        if char == "\\" or self._may_become(markup.CLOSE_AFTER_BRACKET_BEGINNING):
            return False
        if char == self._quote:
            self._quote = ""
        window.at += 1
        return True

    # Ends.

    def _end(self, *, cut_off: bool) -> None:
        """The text ends here, or goes on with what is no part of the block."""
        state = self._state
        self.unclosed = True
        if state == self._before_value and cut_off:
            self._finish(len(self._window.text), wreck=Problem("truncated", "the text ends after the opening tag"))
        elif state in (self._before_value, self._in_prose):
            # After a block without a closing tag, the opening tag was meant as one.
            self.text = ("" if self._after_unclosed else self._opening) + self._window.recorded()
            self.unclosed = False
            self._finish()
        elif state == self._in_value:
            if cut_off or not self._go_back_to(markup.CLOSE_AFTER_BRACKET, self._value_from):
                self._finish(wreck=ENDS_INSIDE)
        elif state == self._after_value:
            if cut_off:
                _, self._value_from, _, _ = self._values.pop()
            self._finish(wreck=Problem("truncated", "the text ends before the closing tag") if cut_off else None)
        elif not self._go_back_to(markup.CLOSE, self._failed_at):
            self._finish(wreck=Problem("truncated" if cut_off else "malformed", self._failure))

    def _go_back_to(self, pattern: re.Pattern[str], since: int) -> bool:
        """Take a closing tag in what was read as a string for the block's own, if there is one and time allows."""
        found = pattern.search(self._window.recorded(since))
        if found is None:
            return False
        close = since + (found.end() if pattern is markup.CLOSE_AFTER_BRACKET else found.start())
        if not self._window.may_return(close):
            return False
        self._collect(Problem("malformed", self._failure or "a string is not closed"), until=close)
        self._window.go_back(close)
        self.finished = True
        return True

    def _finish(self, at: int | None = None, wreck: Problem | None = None) -> None:
        self._collect(wreck, until=self._window.position)
        if at is not None:
            self._window.at = at
        self._window.forget()
        self.finished = True

    def _collect(self, wreck: Problem | None, until: int) -> None:
        whole = self._window.recorded()
        written = [
            Written(value, whole[begin - self._begin : end - self._begin].strip(), pieces)
            for value, begin, end, pieces in self._values
        ]
        self.outcomes = read_calls(written, self._tools, broken=wreck is not None)
        if wreck is not None:
            raw = whole[self._value_from - self._begin : until - self._begin].strip()
            self.outcomes.append(
                invalid_call(wreck, raw, self._tools, self._pieces.id and self._pieces.name, self._pieces.id)
            )

    # Helpers.

    def _begin_value(self) -> None:
        if self._values:
            # Only the first call of a block is passed on piece by piece, so that calls keep their order.
            self._pieces = ArgumentPieces(None)
            self._scanner = LiteralScanner()
        self._value_from = self._window.position
        self._state = self._in_value

    def _fail(self, detail: str) -> None:
        self._failure = detail
        self._state = self._after_failure

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._window.text, self._window.at)
        assert match is not None
        self._window.at = match.end()

    def _is_cut(self, pattern: re.Pattern[str]) -> bool:
        """Whether the text at hand ends inside markup; at its very end, what is there of the markup is dropped."""
        window = self._window
        cut = markup.is_beginning(pattern, window.text, window.at)
        if cut and window.at_end:
            window.at = len(window.text)
        return cut

    def _may_become(self, pattern: re.Pattern[str]) -> bool:
        return not self._window.at_end and markup.is_beginning(pattern, self._window.text, self._window.at)
