"""Reads a call that stands in the text without its <tool_call> tags."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

from hermes_runtime.literals.scanner import LiteralError, LiteralScanner
from hermes_runtime.messages import Outcome, ToolSpec
from hermes_runtime.parser.calls import ENDS_INSIDE, invalid_call, read_arguments, read_known_calls, refuse_other_keys
from hermes_runtime.parser.text_window import TextWindow


class UnwrappedCall:
    """A call without <tool_call> tags: an object that names a known tool, bare, in a fence or in another tag.

    It ends with its object, so no closing tag has to be seen. What turns out to be no call is text.

    Args:
        window: The text, placed where the call's markup begins.
        tools: The tools that were bound.
        literal_at: Index of the object in the window's text.
        tool: The tool's name, where the tag gives it; the object then holds the arguments.
        closers: Names of the tags that close what the call stands in.
        in_fence: The call stands in a fence.

    Attributes:
        outcomes: The calls, once `finished`; None where the text is no call.
        finished: Whether it is known what the text is; the window is then placed after the call, or back at its
            beginning.
        text_until: Position before which no unwrapped call begins, if the text is no call.
    """

    def __init__(
        self,
        window: TextWindow,
        tools: Sequence[ToolSpec],
        literal_at: int,
        tool: str | None = None,
        *,
        closers: Collection[str] = (),
        in_fence: bool = False,
    ) -> None:
        self.closers = frozenset(closers)
        self.in_fence = in_fence
        self.outcomes: list[Outcome] | None = None
        self.finished = False
        self.text_until = 0
        self._window = window
        self._tools = tools
        self._tool = tool
        self._known = frozenset(tool.name for tool in tools)
        self._scanner = LiteralScanner(partial(refuse_other_keys, self._known) if tool is None else None)
        self._begin = window.position
        self._literal_from = window.position_of(literal_at)
        window.record()
        window.at = literal_at

    def advance(self) -> None:
        """Read on as far as the text goes."""
        window = self._window
        try:
            end = self._scanner.feed(window.text, window.at)
        except LiteralError as error:
            window.at = error.offset
            self._conclude(None)
            return
        if end is not None:
            window.at = end
            raw = window.recorded(self._literal_from)
            if self._tool is None:
                calls = read_known_calls(self._scanner.value, raw, self._tools)
                self._conclude(None if calls is None else [*calls])
            else:
                self._conclude([read_arguments(self._tool, self._scanner.value, raw, self._tools)])
            return
        window.at = len(window.text)
        if window.at_end:
            begun = self._scanner.outermost
            name = self._tool or (begun.get("name") if isinstance(begun, dict) else None)
            cut = isinstance(name, str) and name.strip() in self._known
            raw = window.recorded(self._literal_from)
            wreck = invalid_call(ENDS_INSIDE, raw, self._tools, name)
            self._conclude([wreck] if cut else None)

    def _conclude(self, outcomes: list[Outcome] | None) -> None:
        self.finished = True
        self.outcomes = outcomes
        if outcomes is None:
            self.text_until = self._window.position
            self._window.go_back(self._begin)
        else:
            self._window.forget()
