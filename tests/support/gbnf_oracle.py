"""What a GBNF grammar allows, told by a reader of its own: a text is accepted or it is not."""

from __future__ import annotations

import random
import re
import string
from functools import lru_cache
from typing import Any

from hermes_runtime.grammar import build_grammar

_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))")
_SIMPLE = {"n": "\n", "r": "\r", "t": "\t"}
_TOKEN = re.compile(
    r'\s*(?:"(?P<literal>(?:[^"\\]|\\.)*)"|\[(?P<not>\^?)(?P<chars>(?:[^\]\\]|\\.)*)\]|(?P<rule>[A-Za-z][A-Za-z0-9-]*)'
    r"|(?P<mark>[()|*+?])|\{(?P<least>\d+)(?P<comma>,?)(?P<most>\d*)\})"
)


def _unescaped(text: str) -> list[tuple[str, bool]]:
    """Characters, each with whether it was written as an escape."""
    found, at = [], 0
    while at < len(text):
        escape = _ESCAPE.match(text, at)
        if escape:
            code = escape[1] or escape[2] or escape[3]
            found.append((chr(int(code, 16)) if code else _SIMPLE.get(escape[4], escape[4]), True))
            at = escape.end()
        else:
            found.append((text[at], False))
            at += 1
    return found


class CharClass:
    def __init__(self, negated: bool, chars: str) -> None:
        self.negated, self.ranges = negated, []
        found = _unescaped(chars)
        at = 0
        while at < len(found):
            if at + 2 < len(found) and found[at + 1] == ("-", False):
                self.ranges.append((found[at][0], found[at + 2][0]))
                at += 3
            else:
                self.ranges.append((found[at][0], found[at][0]))
                at += 1

    def __contains__(self, char: str) -> bool:
        return any(low <= char <= high for low, high in self.ranges) is not self.negated

    def draw(self, rng: random.Random) -> str:
        if not self.negated:
            low, high = rng.choice(self.ranges)
            return chr(rng.randint(ord(low), ord(high)))
        return rng.choice([char for char in string.printable + "é名" if char in self])


_char_class = lru_cache(maxsize=None)(CharClass)


class Gbnf:
    """A grammar as a set of stacks of what must follow, as llama.cpp keeps it."""

    def __init__(self, text: str) -> None:
        self.rules: dict[str, list[tuple[Any, ...]]] = {}
        self.stacks: list[tuple[Any, int, int]] = [(None, 0, 0)]  # top, what lies below, height
        self._numbers: dict[tuple[Any, int], int] = {}
        for line in text.splitlines():
            name, mark, body = line.partition(" ::= ")
            assert mark, line
            assert name not in self.rules, name
            assert re.fullmatch("[a-zA-Z0-9-]+", name), name
            self._name, self._body = name, body
            alternatives, end = self._alternatives(0)
            assert end == len(body), body[end:]
            self.rules[name] = alternatives

    def _alternatives(self, at: int) -> tuple[list[tuple[Any, ...]], int]:
        alternatives: list[list[Any]] = [[]]
        while token := _TOKEN.match(self._body, at):
            if token["mark"] == ")":
                break
            at = token.end()
            if token["mark"] == "|":
                alternatives.append([])
            elif token["mark"] == "(":
                inner, at = self._alternatives(at)
                closing = _TOKEN.match(self._body, at)
                assert closing is not None, self._body
                at = closing.end()
                name = f"{self._name}({len(self.rules)}"
                self.rules[name] = inner
                alternatives[-1].append([name])
            elif token["mark"] or token["least"]:
                least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(token["mark"] or "", (0, 0))
                if token["least"]:
                    least = int(token["least"])
                    most = int(token["most"]) if token["most"] else None if token["comma"] else least
                alternatives[-1][-1] = [self._repetition(alternatives[-1][-1], least, most)]
            elif token["rule"]:
                alternatives[-1].append([token["rule"]])
            elif token["chars"] is not None:
                alternatives[-1].append([_char_class(bool(token["not"]), token["chars"])])
            else:
                chars = _unescaped(token["literal"])
                alternatives[-1].append([_char_class(False, f"\\U{ord(char):08X}") for char, _ in chars])
        return [tuple(term for part in parts for term in part) for parts in alternatives], at

    def _repetition(self, term: list[Any], least: int, most: int | None) -> str:
        name = f"{self._name}*{len(self.rules)}"
        if most is None:
            self.rules[name + "*"] = [(*term, name + "*"), ()]
            self.rules[name] = [(*term * least, name + "*")]
        else:
            self.rules[name] = [tuple(term * least) + ((f"{name}?{most - least}",) if most > least else ())]
            for left in range(most - least, 0, -1):
                rest = (f"{name}?{left - 1}",) if left > 1 else ()
                self.rules[f"{name}?{left}"] = [(*term, *rest), ()]
        return name

    def _on(self, term: Any, below: int) -> int:
        """Number the stack that has `term` on top of another one; 0 is the empty stack."""
        found = self._numbers.get((term, below))
        if found is None:
            found = self._numbers[term, below] = len(self.stacks)
            self.stacks.append((term, below, self.stacks[below][2] + 1))
        return found

    def start(self) -> frozenset[int]:
        return self._settled([self._on("root", 0)])

    def _settled(self, stacks: list[int]) -> frozenset[int]:
        """Replace rules by what they begin with."""
        found, seen = set(), set()
        while stacks:
            stack = stacks.pop()
            if stack in seen:
                continue
            seen.add(stack)
            top, rest, _ = self.stacks[stack]
            if not isinstance(top, str):
                found.add(stack)
                continue
            for alternative in self.rules[top]:
                below = rest
                for term in reversed(alternative):
                    below = self._on(term, below)
                stacks.append(below)
        return frozenset(found)

    def after(self, stacks: frozenset[int], char: str) -> frozenset[int]:
        tops = (self.stacks[stack] for stack in stacks if stack)
        return self._settled([rest for top, rest, _ in tops if char in top])

    def matches(self, text: str) -> bool:
        stacks = self.start()
        for char in text:
            stacks = self.after(stacks, char)
        return 0 in stacks

    def walk(self, rng: random.Random, most: int) -> str | None:
        """Return a random text; None where it did not end within so many characters."""
        stacks, text = self.start(), ""
        while len(text) < most:
            ways = sorted((self.stacks[stack] for stack in stacks if stack), key=lambda way: way[2])
            if not ways or (0 in stacks and rng.random() < 0.05):
                return text
            # Mostly towards the end, so that texts end.
            text += (ways[0] if rng.random() < 0.3 else rng.choice(ways))[0].draw(rng)
            stacks = self.after(stacks, text[-1])
        return None


@lru_cache(maxsize=64)
def read(text: str) -> Gbnf:
    return Gbnf(text)


def accepts(text: str, tools: Any = (), **options: Any) -> bool:
    """Whether a whole turn may be `text`."""
    return read(build_grammar(tools, language="gbnf", **options).text).matches(text)
