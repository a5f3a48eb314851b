"""The format's tags stand in one place, and what is derived from them agrees."""

from __future__ import annotations

import ast
import re
import string

import pytest

from hermes_runtime.control_tokens import _TAG
from hermes_runtime.grammar import gbnf
from hermes_runtime.parser import markup
from hermes_runtime.tags import CALL_ALIASES, CALLS, PADDING, PLURAL, REASONING, TURN_END, TURN_START
from tests.support.gbnf_oracle import CharClass
from tests.support.places import ROOT

SPELLED = re.compile(r"</?(?:tool_calls?|tool_response|scratch_?pad|think)>|<\|im_(?:start|end)\|>|</s>")
# Where they are told from, and where training data is quoted.
OWNERS = {"hermes_runtime/tags.py", "hermes_runtime/dialects/hermes2pro.py"}
PACKAGES = ("hermes_runtime", "langchain_hermes", "llama_index_hermes", "hermes_adapters")


def written_strings(tree):
    """Yield the strings of a module but for those that stand alone, as docstrings do."""
    statements = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in statements:
            yield node.value


def test_no_other_module_spells_a_tag():
    found = [
        (path.relative_to(ROOT).as_posix(), text)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for text in written_strings(ast.parse(path.read_text(encoding="utf-8")))
        if SPELLED.search(text)
    ]
    assert [(path, text) for path, text in found if path not in OWNERS] == []
    assert {path for path, _ in found} == OWNERS


def test_what_may_follow_the_word_of_a_tag_in_text_is_what_makes_it_none():
    chars = CharClass(negated=False, chars=gbnf._AFTER_WORD[1:-1])
    makes_a_tag = {*" \t", *PLURAL, *PLURAL.upper(), *"<>", *"[{"}
    printable = {char for char in map(chr, range(128)) if char.isprintable()}
    assert {char for char in map(chr, range(0x3000)) if char in chars} == printable - makes_a_tag
    assert set(string.ascii_letters) - {*"sS"} <= printable - makes_a_tag


@pytest.mark.parametrize("tag", CALLS, ids=[tag.name for tag in CALLS])
def test_every_tag_of_a_call_is_read_and_is_text(tag):
    for name in (tag.name, tag.name.upper(), f"{tag.name}{PLURAL}"):
        assert markup.opens_call(markup.TAG.match(f"<{name}>"))
        assert markup.closes_call(markup.TAG.match(f"</{name}>"))
        assert markup.CLOSE.match(f"</ {name} >")
        assert _TAG.fullmatch(f"<{name}>")
        assert all(markup.is_beginning(markup.BLOCK, f"</{name}>"[:end], 0) for end in range(1, len(name) + 4))
    assert markup.opens_call(markup.TAG.match(f"<{tag.name} {{"))
    assert not any(tag != other and tag.name.startswith(other.name) for other in CALLS)


def test_reasoning_aliases_and_markers_are_read():
    for name in REASONING:
        assert markup.opens_reasoning(markup.TAG.match(f"<{name}>"))
        assert markup.REASONING_OPEN.match(f"<{name}>")
        assert _TAG.fullmatch(f"</{name}>")
    assert all(markup.is_alias(markup.TAG.match(f"<{name}>")) for name in CALL_ALIASES)
    assert all(markup.ends_turn(markup.TAG.match(marker)) for marker in (TURN_START, TURN_END, PADDING))
    assert markup.begins_turn(markup.TAG.match(TURN_START))
    assert not markup.begins_turn(markup.TAG.match(TURN_END))
