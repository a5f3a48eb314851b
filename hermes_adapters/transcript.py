"""How a conversation looks in the terminal, be it a chat or the demo."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from hermes_runtime.problems import Problem

_LABEL_WIDTH = 8
_LONGEST_RESULT = 600
# All control characters but newline and tab: what a model or a tool writes must not steer the terminal.
_CONTROL_CHARACTERS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])


def printable(text: str) -> str:
    """Return the text without the characters that would steer a terminal."""
    return text.translate(_CONTROL_CHARACTERS)


class Transcript:
    """Writes the turns of a conversation, the model's text as it streams.

    Args:
        console: Where to write.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._streaming: str | None = None

    def question(self, text: str) -> None:
        """Show what the user said."""
        self._line("you", "bold cyan", text, "")

    def call(self, name: str, arguments: Mapping[str, Any], problems: Iterable[Problem] = ()) -> None:
        """Show a call that the model makes, and what it breaks in the tool's schema."""
        said = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in arguments.items())
        self._line("call", "bold yellow", f"{name}({said})", "yellow")
        for problem in problems:
            self._line("", "", str(problem), "red")

    def invalid_call(self, text: str, error: str) -> None:
        """Show a call that cannot be read and never runs."""
        self._line("call", "bold red", text, "red")
        self._line("", "", error, "red")

    def result(self, content: Any, *, is_error: bool = False) -> None:
        """Show what a tool returned."""
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, default=str)
        shortened = text if len(text) <= _LONGEST_RESULT else f"{text[:_LONGEST_RESULT]}… ({len(text)} characters)"
        self._line("result", "bold red" if is_error else "bold magenta", shortened, "red" if is_error else "magenta")

    def said(self, text: str) -> None:
        """Show more of the model's answer."""
        self._stream("hermes", "bold green", text, "")

    def thought(self, text: str) -> None:
        """Show more of what the model thinks aloud."""
        self._stream("thinks", "dim", text, "dim")

    def note(self, text: str, style: str = "dim") -> None:
        """Show a remark that is no part of the conversation."""
        self.end_of_text()
        self._console.print(Text(" " * _LABEL_WIDTH + printable(text), style=style), soft_wrap=True)

    def end_of_text(self) -> None:
        """End the line that streams, if there is one."""
        if self._streaming is not None:
            self._console.print()
            self._streaming = None

    def _stream(self, label: str, label_style: str, text: str, style: str) -> None:
        if self._streaming != label:
            text = text.lstrip("\n")
            if not text:
                return
            self.end_of_text()
            self._console.print(Text(f"{label:<{_LABEL_WIDTH}}", style=label_style), end="")
            self._streaming = label
        indented = printable(text).replace("\n", "\n" + " " * _LABEL_WIDTH)
        self._console.print(Text(indented, style=style), end="", soft_wrap=True)

    def _line(self, label: str, label_style: str, text: str, style: str) -> None:
        self.end_of_text()
        indented = printable(text).replace("\n", "\n" + " " * _LABEL_WIDTH)
        line = Text.assemble((f"{label:<{_LABEL_WIDTH}}", label_style), (indented, style))
        self._console.print(line, soft_wrap=True)
