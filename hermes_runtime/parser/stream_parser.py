"""Reads a completion: text in, in pieces of any size; text, reasoning and tool calls out.

The parser is a state machine. What it yields does not depend on how the text was cut, and its cost is linear:

- Plain text leaves in the `feed` that brought it, except for the few characters that may begin markup, and for line
  ends, which belong to a call that follows them.
- A call leaves when it is complete, because the trained form writes the tool's name last. Where the name is certain
  before, its arguments leave while they arrive.
- Text is read twice only where a supposed call or supposed reasoning turns out to be plain text, or where the closing
  tag of a broken call lies inside what looked like a string; `TextWindow` bounds how much of it.
- A tag that is spoken of stays text. Text that follows it waits until it is clear that no call and no reasoning do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.messages import InvalidToolCall, Outcome, ToolCall, ToolLike, ToolSpec, coerce_tools
from hermes_runtime.parser import markup
from hermes_runtime.parser.call_block import CallBlock
from hermes_runtime.parser.calls import check_tools, invalid_call
from hermes_runtime.parser.events import (
    Event,
    EventWriter,
    InvalidToolCallEvent,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallEvent,
)
from hermes_runtime.parser.reasoning import ReasoningBlock
from hermes_runtime.parser.text_window import TextWindow
from hermes_runtime.parser.unwrapped_call import UnwrappedCall
from hermes_runtime.problems import Problem

# A loop of calls, not an answer; reading on would cost the caller more than the model.
_MAX_CALLS_IN_ANSWER = 1000


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole completion.

    Attributes:
        content: The text around the calls, without any markup.
        tool_calls: The well-formed calls, in order.
        invalid_tool_calls: The calls that must never run, in order.
        reasoning: What stood in <think> or <scratch_pad>.
    """

    content: str
    tool_calls: tuple[ToolCall, ...]
    invalid_tool_calls: tuple[InvalidToolCall, ...]
    reasoning: str


def parse_completion(text: str, tools: Sequence[ToolLike] = (), finish_reason: str | None = "stop") -> Completion:
    """Read a whole completion; the same as feeding it to a `StreamParser`, in any pieces.

    Args:
        text: What the model wrote.
        tools: The tools that were bound: calls are checked against them, and where no <tool_call> tag stands around a
            call, only their names make it one. Without any, what stands in <tool_call> tags is a call nevertheless.
        finish_reason: Why the text ends; after `length` or `cancelled` a call without its closing tag is truncated,
            and half a tag is dropped. After any other it is text.

    Raises:
        InvalidRequestError: A tool is unusable. No text ever raises.
    """
    parser = StreamParser(tools)
    events = parser.feed(text) + parser.close(finish_reason)
    return Completion(
        content="".join(event.text for event in events if isinstance(event, TextDelta)),
        tool_calls=tuple(event.call for event in events if isinstance(event, ToolCallEvent)),
        invalid_tool_calls=tuple(event.call for event in events if isinstance(event, InvalidToolCallEvent)),
        reasoning="".join(event.text for event in events if isinstance(event, ReasoningDelta)),
    )


class CallReader:
    """Reads an answer in which calls of tools may be: tools that are in form already, with schemas that were checked.

    Args:
        tools: The tools that were bound.
        only_name: The one tool that the text can call, where a grammar makes that certain: its arguments are then
            passed on while they arrive, even if the name is written after them.
    """

    def __init__(self, tools: tuple[ToolSpec, ...], *, only_name: str | None = None) -> None:
        self._tools = tools
        self._only_name = only_name
        self._known = frozenset(tool.name for tool in self._tools)
        self._opening = markup.LENIENT if self._tools else markup.STRICT
        self._window = TextWindow()
        self._writer = EventWriter()
        self._state: Callable[[], bool] = self._answer
        self._cut_off = False
        self._closed = False
        self._block: CallBlock | None = None
        self._block_in_fence = False
        self._reasoning: ReasoningBlock | None = None
        self._reasoning_may_close = True
        self._unwrapped: UnwrappedCall | None = None
        self._unclosed_at = -1
        self._calls_read = 0
        # What closes the markup around the last call, and around the one that is tried.
        self._closers: frozenset[str] = frozenset()
        self._in_fence = False
        self._text_until = 0

    def feed(self, text: str) -> list[Event]:
        """Read on.

        Raises:
            InvalidRequestError: The parser is closed.
        """
        if self._closed:
            raise InvalidRequestError("this parser is closed; a new completion needs a new StreamParser")
        self._window.extend(text)
        return self._advance()

    def close(self, finish_reason: str | None = "stop") -> list[Event]:
        """Say that the text ends here, and why; a second call does nothing."""
        if self._closed:
            return []
        self._closed = self._window.at_end = True
        self._cut_off = finish_reason in ("length", "cancelled")
        return self._advance()

    def _advance(self) -> list[Event]:
        while self._state():
            pass
        if self._closed:
            self._writer.close()
        return self._writer.take()

    # States: each reads what it can and returns whether to go on with the text at hand.

    def _answer(self) -> bool:
        window = self._window
        found = self._opening.search(window.text, window.at)
        self._write(found.start() if found else len(window.text))
        if found is None:
            return False
        char = window.text[window.at]
        if char == "<":
            return self._tag(found)
        return self._fence() if char == "`" else self._object(window.at)

    def _in_block(self) -> bool:
        assert self._block is not None
        block = self._block
        block.advance(cut_off=self._cut_off)
        pieces = block.pieces
        if (new := pieces.take()) and pieces.id and pieces.name:
            self._writer.call_delta(ToolCallDelta(pieces.id, pieces.name, new))
        if not block.finished:
            return False
        self._unclosed_at = self._window.position if block.unclosed else -1
        self._state = self._answer
        if block.text:
            self._write_text(block.text)
        else:
            self._in_fence |= self._block_in_fence
            self._write_calls(block.outcomes)
        return True

    def _in_unwrapped(self) -> bool:
        assert self._unwrapped is not None
        call = self._unwrapped
        call.advance()
        if not call.finished:
            return False
        self._state = self._answer
        if call.outcomes is None:
            self._text_until = call.text_until
            return self._pass(3 if call.in_fence else 1)
        self._in_fence |= call.in_fence
        self._closers |= call.closers
        self._write_calls(call.outcomes)
        return True

    def _in_reasoning(self) -> bool:
        assert self._reasoning is not None
        block = self._reasoning
        block.advance(cut_off=self._cut_off)
        if not block.finished:
            return False
        if block.is_text:
            # Read to the end of the turn in vain: no other tag is closed either.
            self._reasoning_may_close = False
        self._state = self._ended if block.is_cut else self._answer
        return True

    def _after_turn_marker(self) -> bool:
        """Read the role after <|im_start|>: some prompts leave it to the model to open its own turn."""
        window = self._window
        role = markup.ROLE.match(window.text, window.at)
        if role is None and self._may_become(markup.ROLE_BEGINNING, window.at):
            return False
        if role is not None:
            window.at = role.end()
        self._state = self._ended if role is None else self._answer
        return True

    def _ended(self) -> bool:
        """Read nothing more: the turn is over, and what follows is invention."""
        self._window.at = len(self._window.text)
        return False

    # Markup in the answer; each method is placed at its beginning.

    def _tag(self, found: re.Match[str]) -> bool:
        window = self._window
        tag = markup.TAG.match(window.text, window.at)
        if tag is None:
            start = window.take_false_start(found.end(), cut_off=self._cut_off)
            self._writer.text(start)
            if self._cut_off and not start:
                self._writer.markup()
            return bool(start)
        if markup.is_alias(tag):
            return self._alias(tag)
        if markup.opens_call(tag):
            return self._open_block(tag)
        if markup.opens_reasoning(tag):
            return self._open_reasoning(tag)
        return self._other_tag(tag)

    def _other_tag(self, tag: re.Match[str]) -> bool:
        """Read a tag that ends something: a block that is not open, or the turn."""
        window = self._window
        if (tag["close"] or tag["response"]) and not self._writer.at_line_start:
            if markup.PROSE.match(window.text, tag.end()):
                return self._pass(len(tag.group()))
            if self._may_become(markup.PROSE_BEGINNING, tag.end()):
                return False
        window.at = tag.end()
        if tag["pad"]:
            self._writer.padding(tag.group())
            return True
        if markup.begins_turn(tag) and self._writer.silent:
            self._state = self._after_turn_marker
        elif tag["marker"] or (tag["response"] and not tag["close"]):
            self._state = self._ended
        self._writer.markup()
        return True

    def _open_block(self, tag: re.Match[str], *, in_fence: bool = False) -> bool:
        window = self._window
        after_unclosed = window.position_of(tag.start()) == self._unclosed_at
        opening = window.text[window.at : tag.end()]
        window.at = tag.end()
        self._block = CallBlock(
            window, self._tools, opening=opening, after_unclosed=after_unclosed, only_name=self._only_name
        )
        self._block_in_fence = in_fence
        self._state = self._in_block
        return True

    def _open_reasoning(self, tag: re.Match[str]) -> bool:
        # Within a line of prose the tag is likely to be spoken of; on a line of its own it is reasoning that streams.
        is_certain = self._writer.at_line_start
        if not (is_certain or self._reasoning_may_close):
            return self._pass(len(tag.group()))
        self._reasoning = ReasoningBlock(self._window, self._writer, tag, is_certain=is_certain)
        self._state = self._in_reasoning
        return True

    def _alias(self, tag: re.Match[str], *, in_fence: bool = False) -> bool:
        """Read a tag that opens a call only around a known tool's name."""
        window = self._window
        if tag["close"]:
            if tag["alias"] not in self._closers:
                return self._pass()
            self._closers -= {tag["alias"]}
            window.at = tag.end()
            self._writer.markup()
            return True
        tool = tag["tool"] or tag["quoted_tool"]
        closers = {tag["alias"] or "function"}
        body = markup.ALIAS_BODY.match(window.text, tag.end())
        waiting = self._may_become(markup.ALIAS_BODY_BEGINNING, tag.end())
        if tag["alias"] == "function" and body is None:
            body = markup.SPELLED_OUT.match(window.text, tag.end())
            waiting |= self._may_become(markup.SPELLED_OUT_BEGINNING, tag.end())
            if body is not None:
                tool = body["tool"]
                closers.add("arguments")
        usable = (tool is None or tool in self._known) and tag["alias"] != "arguments"
        if usable and body is None and waiting:
            return False
        if not usable or body is None:
            return self._pass()
        if tool is None:
            return self._object(body.end(), closers, in_fence=in_fence)
        return self._try_unwrapped(body.end(), tool, closers, in_fence=in_fence)

    def _fence(self) -> bool:
        window = self._window
        if self._in_fence and window.text.startswith("```", window.at):
            self._in_fence = False
            window.at += 3
            self._writer.markup()
            return True
        fence = markup.FENCE.match(window.text, window.at)
        if fence is None:
            waiting = self._may_become(markup.FENCE_BEGINNING, window.at)
            return not waiting and self._pass(3 if window.text.startswith("```", window.at) else 1)
        if window.text[fence.end()] != "<":
            return self._object(fence.end(), in_fence=True)
        tag = markup.TAG.match(window.text, fence.end())
        if markup.is_alias(tag):
            return self._alias(tag, in_fence=True)
        if markup.opens_call(tag):
            return self._open_block(tag, in_fence=True)
        waiting = tag is None and self._may_become(self._opening, fence.end())
        return not waiting and self._pass(3)

    def _object(self, literal: int, closers: Collection[str] = (), *, in_fence: bool = False) -> bool:
        """Read an object that may be a call: on a line of its own, in a fence, or in tags that `closers` close."""
        # Within a line of prose an object is an example; on a line of its own it is a call without its tags.
        apart = in_fence or bool(closers) or self._writer.at_line_start
        if self._known and apart:
            if markup.HEAD.match(self._window.text, literal):
                return self._try_unwrapped(literal, None, closers, in_fence=in_fence)
            if self._may_become(markup.HEAD_BEGINNING, literal):
                return False
        return self._pass(3 if in_fence else 1)

    def _try_unwrapped(
        self, literal: int, tool: str | None = None, closers: Collection[str] = (), *, in_fence: bool = False
    ) -> bool:
        if self._window.position < self._text_until:
            return self._pass(3 if in_fence else 1)
        self._unwrapped = UnwrappedCall(self._window, self._tools, literal, tool, closers=closers, in_fence=in_fence)
        self._state = self._in_unwrapped
        return True

    def _write_calls(self, calls: list[Outcome]) -> None:
        self._writer.outcomes(calls)
        self._writer.markup()
        self._calls_read += len(calls)
        if self._calls_read >= _MAX_CALLS_IN_ANSWER:
            over = f"only the first {_MAX_CALLS_IN_ANSWER} calls of an answer are read, and nothing after them"
            self._writer.outcomes([invalid_call(Problem("malformed", over), "", self._tools)])
            self._state = self._ended

    def _may_become(self, pattern: re.Pattern[str], at: int) -> bool:
        return not self._window.at_end and markup.is_beginning(pattern, self._window.text, at)

    def _write(self, end: int) -> None:
        text = self._window.text[self._window.at : end]
        self._window.at = end
        self._write_text(text)

    def _write_text(self, text: str) -> None:
        if text and not text.isspace():
            self._in_fence, self._closers = False, frozenset()
        self._writer.text(text)

    def _pass(self, length: int = 1) -> bool:
        """Take the characters at hand for text after all."""
        self._write(self._window.at + length)
        return True


class StreamParser(CallReader):
    """Reads a completion that arrives in pieces.

    Args:
        tools: See `parse_completion`.
        only_name: See `CallReader`.

    Raises:
        InvalidRequestError: A tool is unusable.
    """

    def __init__(self, tools: Sequence[ToolLike] = (), *, only_name: str | None = None) -> None:
        specs = coerce_tools(tools)
        check_tools(specs)
        super().__init__(specs, only_name=only_name)
