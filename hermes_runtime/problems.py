"""What is wrong with a call or an answer, as a value; texts are made of it where it leaves, and read here alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NewType, Self, get_args

Reason = Literal["malformed", "truncated", "missing_name", "bad_arguments", "unknown_tool", "depth", "foreign"]
"""What is wrong with a text, or with a call as a whole; `foreign` is what other software says, in its own words."""
Keyword = NewType("Keyword", str)
"""The keyword of a JSON Schema that a value breaks."""
REASONS: tuple[Reason, ...] = get_args(Reason)

PROBLEMS_KEY = "tool_call_problems"
"""Where a framework's message or response keeps the problems of its calls: lists of texts, by the calls' ids."""

_CUT_OFF = "cut off "
_WRITTEN = re.compile(r"(\$?\w+): (?:(\$.*?): )?(.*)", re.DOTALL)  # reason, path, detail


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong; its text is `reason: path: detail`, or `reason: detail` where there is no path.

    Attributes:
        reason: One of `REASONS`, or the schema's keyword that is broken.
        detail: What was found, and what was wanted or what helps.
        path: JSON path to the place in a value, from `$` on; empty where no value could be read.
        is_cut_off: The length limit of the answer is what ended the text; the reason is then `truncated`.
    """

    reason: Reason | Keyword
    detail: str
    path: str = ""
    is_cut_off: bool = False

    def __str__(self) -> str:
        reason = "" if self.reason == "foreign" else f"{self.reason}: "
        path = f"{self.path}: " if self.path else ""
        return f"{reason}{path}{self.detail}"

    @classmethod
    def cut_off(cls, how: str) -> Self:
        """Return the problem of a text that the length limit ended; `how` tells after how much, and what helps."""
        return cls("truncated", _CUT_OFF + how, is_cut_off=True)

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the problem that a text of a history tells; `str` gives the same text again, whoever wrote it."""
        written = _WRITTEN.fullmatch(text)
        head, path, detail = written.groups("") if written else ("foreign", "", "")
        reason = next((reason for reason in REASONS if reason == head), Keyword(head) if path else "foreign")
        if reason == "foreign":
            return cls(reason, text)
        return cls(reason, detail, path, is_cut_off=reason == "truncated" and detail.startswith(_CUT_OFF))

    @property
    def leaves_no_value(self) -> bool:
        """Whether the text could not be read at all; for any other reason something was read, and is wrong."""
        return self.reason in ("malformed", "truncated")


def joined(problems: Iterable[Problem]) -> str:
    """Return the text of several problems."""
    return "; ".join(map(str, problems))
