"""What a model can say, independent of how an LLM's backend puts it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call.

    Attributes:
        name: The tool's.
        arguments: What it is given.
        broken_off: Leaves only so many characters of the arguments' JSON, and ends the reply.
        written: What stands in place of the arguments' JSON, where a model wrote none.
    """

    name: str
    arguments: dict[str, Any]
    broken_off: int | None = None
    written: str | None = None

    @property
    def text(self) -> str:
        """The arguments as they are written."""
        written = json.dumps(self.arguments, ensure_ascii=False) if self.written is None else self.written
        return written[: self.broken_off]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of a model.

    Attributes:
        text: What it says to the user.
        calls: The tool calls after the text; only the last can be broken off, and then the token limit was reached.
        thinking: What it thinks aloud before.
        value: Instead of all these: an object, as JSON text or as the arguments of the only tool, whichever the LLM
            asked its model for.
        endless: The text goes on for ever.
        ends_early: The token limit was reached where the text ends.
    """

    text: str = ""
    calls: tuple[Call, ...] = ()
    thinking: str = ""
    value: dict[str, Any] | None = None
    endless: bool = False
    ends_early: bool = False

    @property
    def is_cut(self) -> bool:
        """Whether the token limit broke it off."""
        return self.ends_early or (bool(self.calls) and self.calls[-1].broken_off is not None)


_WORDS = st.text("abcxyzÀé ß😀中.,:;!?'\"{}[]()\\/-0189", min_size=1, max_size=8).map(str.strip).filter(bool)
TEXTS = st.lists(_WORDS, max_size=5).map(" ".join)
SCALARS = st.none() | st.booleans() | st.integers(-1000, 1000) | st.floats(-10, 10) | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(st.sampled_from(["a", "b", "city", "größe"]), VALUES, max_size=3)
TOOL_NAMES = ("add", "look_up")
CALLS = st.builds(Call, st.sampled_from(TOOL_NAMES), ARGUMENTS)
PLAIN = st.builds(Reply, TEXTS)
WHOLE = st.builds(Reply, TEXTS, st.lists(CALLS, max_size=3).map(tuple))
CALLING = st.builds(Reply, TEXTS, st.lists(CALLS, min_size=1, max_size=3).map(tuple))


@st.composite
def _cut(draw: st.DrawFn) -> Reply:
    before = draw(st.lists(CALLS, max_size=1))
    return Reply(draw(TEXTS), (*before, Call("add", draw(ARGUMENTS), draw(st.integers(0, 12)))))


CUT = _cut()
ANY = WHOLE | CUT
