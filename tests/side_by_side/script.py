"""What a model says, request by request, whichever class asks; failures of its backend among it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tests.llama_index_contract.replies import Call, Reply

FailureKind = Literal["context overflow", "timeout", "bad request", "engine"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Instead of a reply, the backend fails: as a server does for one side, as an engine for the other."""

    kind: FailureKind


Said = str | Reply | Failure
Replies = Sequence[Said] | Callable[[str], Said]

OVERFLOW = Failure("context overflow")
TIMEOUT = Failure("timeout")
BAD_REQUEST = Failure("bad request")
BROKEN = Failure("engine")


def call(name: str, /, **arguments: Any) -> Reply:
    """Return a reply that calls one tool and says nothing."""
    return calls(Call(name, arguments))


def calls(*made: Call, text: str = "") -> Reply:
    """Return a reply that says something and calls tools."""
    return Reply(text, made)


def value(**members: Any) -> Reply:
    """Return a reply that gives an object in whichever way it was asked for."""
    return Reply(value=members)


_MOST = 50  # requests of a run whose replies are a function: more is a loop


class Script:
    """The replies of one run.

    Args:
        replies: One per request, in order; or a function of what a request says, the JSON of its messages or its
            prompt.

    Attributes:
        heard: What each request said.
        overran: A request came after the last reply.
    """

    def __init__(self, replies: Replies) -> None:
        self.heard: list[str] = []
        self.overran = False
        self._replies = replies
        self._lock = threading.Lock()

    def next(self, said: str) -> Reply | Failure:
        """Return the reply to the next request."""
        with self._lock:
            turn = len(self.heard)
            self.heard.append(said)
            if turn >= (_MOST if callable(self._replies) else len(self._replies)):
                self.overran = True
                return Failure("bad request")
            reply = self._replies(said) if callable(self._replies) else self._replies[turn]
        return Reply(reply) if isinstance(reply, str) else reply
