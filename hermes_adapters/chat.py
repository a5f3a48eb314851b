"""A chat in the terminal: one `Turn` after the other, and the tools that it calls. No framework takes part."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from rich.console import Console

from hermes_adapters.tools import LocalTool
from hermes_adapters.transcript import Transcript
from hermes_runtime.engines.base import Engine
from hermes_runtime.errors import HermesError
from hermes_runtime.messages import Assistant, Message, ToolCall, ToolResult, User
from hermes_runtime.parser import InvalidToolCallEvent, ReasoningDelta, TextDelta, ToolCallEvent
from hermes_runtime.turn import Turn, TurnRequest, TurnResult

HELP = "/reset forgets the conversation, /quit ends it; Ctrl-C stops an answer."
_MOST_ROUNDS = 8
_CUT = {"cancelled": "Stopped.", "length": "The answer reached its length limit."}


@dataclass(frozen=True, slots=True)
class Reply:
    """How an answer ended.

    Attributes:
        messages: What the conversation gains; empty where nothing is worth keeping.
        failed: Whether an error ended it.
    """

    messages: tuple[Message, ...] = ()
    failed: bool = False


class Chat:
    """A conversation with a model.

    Args:
        engine: What generates.
        tools: What the model may call.
        options: Everything of a turn but its messages and tools; its messages are the system prompt.
        console: Where to write.
    """

    def __init__(
        self, engine: Engine, *, tools: Sequence[LocalTool] = (), options: TurnRequest, console: Console
    ) -> None:
        self._engine = engine
        self._tools = {tool.spec.name: tool for tool in tools}
        self._options = replace(options, tools=tuple(tool.spec for tool in tools))
        self._console = console
        self._transcript = Transcript(console)
        self._messages: tuple[Message, ...] = ()

    def run(self) -> bool:
        """Read questions until the input ends or `/quit`; return whether every one was answered without an error."""
        if sys.stdin.isatty():
            with suppress(ImportError):
                import readline  # noqa: F401, PLC0415 - gives `input` line editing and a history, where it exists
        all_answered = True
        while (question := self._read()) is not None:
            if question == "/quit":
                break
            if question == "/reset":
                self._messages = ()
                self._transcript.note("The conversation starts anew.")
            elif question.startswith("/"):
                self._transcript.note(HELP)
            elif question:
                reply = self._reply(question)
                self._messages += reply.messages
                all_answered = all_answered and not reply.failed
        return all_answered

    def _read(self) -> str | None:
        """Return the next line; None at the end of the input."""
        if not sys.stdin.isatty():
            line = sys.stdin.readline()
            if line.strip():
                self._transcript.question(line.strip())
            return line.strip() if line else None
        try:
            return input("you     ").strip()
        except EOFError:
            self._console.print()
            return None
        except KeyboardInterrupt:
            self._console.print()
            self._transcript.note("/quit or Ctrl-D ends the chat.")
            return ""

    def _reply(self, question: str) -> Reply:
        """Let the model answer, running the tools it calls until it calls no more."""
        gained: tuple[Message, ...] = (User(question),)
        try:
            for _ in range(_MOST_ROUNDS):
                result = self._turn(gained)
                if result.finish_reason in _CUT:
                    # Half a thought may be taken up again; a call that never ran would only confuse.
                    self._transcript.note(_CUT[result.finish_reason])
                    return Reply((*gained, Assistant(result.content)) if result.content else ())
                gained += (Assistant(result.content, result.tool_calls, result.invalid_tool_calls),)
                if not result.tool_calls and not result.invalid_tool_calls:
                    return Reply(gained)
                gained += tuple(self._results(result))
        except KeyboardInterrupt:
            self._transcript.note("Stopped.")
            return Reply()
        except HermesError as error:
            self._transcript.note(f"{type(error).__name__}: {error}", "red")
            return Reply(failed=True)
        self._transcript.note(f"Stopped after {_MOST_ROUNDS} rounds of tool calls.", "yellow")
        return Reply(gained)

    def _turn(self, gained: tuple[Message, ...]) -> TurnResult:
        turn = Turn(self._engine, replace(self._options, messages=(*self._options.messages, *self._messages, *gained)))
        with _on_interrupt(turn):
            for event in turn:
                if isinstance(event, TextDelta):
                    self._transcript.said(event.text)
                elif isinstance(event, ReasoningDelta):
                    self._transcript.thought(event.text)
                elif isinstance(event, ToolCallEvent):
                    self._transcript.call(event.call.name, event.call.arguments, event.call.problems)
                elif isinstance(event, InvalidToolCallEvent):
                    self._transcript.invalid_call(event.call.arguments, event.call.error)
        self._transcript.end_of_text()
        return turn.result

    def _results(self, result: TurnResult) -> Iterator[ToolResult]:
        for call in result.tool_calls:
            answer = self._run(call)
            self._transcript.result(answer.content, is_error=answer.is_error)
            yield answer
        for invalid in result.invalid_tool_calls:
            yield ToolResult(invalid.id, f"Error: {invalid.error}", invalid.name, is_error=True)

    def _run(self, call: ToolCall) -> ToolResult:
        tool = self._tools.get(call.name)
        if tool is None:
            return ToolResult(call.id, f"Error: there is no tool {call.name!r}", call.name, is_error=True)
        return tool.run(call)


@contextmanager
def _on_interrupt(turn: Turn) -> Iterator[None]:
    """While the model answers, Ctrl-C ends the answer within a token instead of raising from wherever Python is."""
    previous = signal.signal(signal.SIGINT, lambda *_: turn.cancel())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
