"""Tools, tool choice and response form -> one grammar for the turn, in llguidance's Lark.

The text stands alone: llguidance compiles it in process, and so does a vLLM server that is given it as it is. Tags are
matched as text, because no tag is a single token in Mistral's vocabulary; a special token can be sampled nowhere but as
the end of the turn, where the grammar ends.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from llguidance import LLMatcher, regex_to_lark

from hermes_runtime.dialects import Dialect, resolve_dialect
from hermes_runtime.errors import InvalidRequestError, SchemaError
from hermes_runtime.json_schema import MAX_SUBSCHEMAS
from hermes_runtime.messages import ToolChoice, ToolChoiceLike, ToolLike, ToolSpec, coerce_tools
from hermes_runtime.schema_rule import SchemaRule, json_term, schema_rule

MAX_CALLS = 16

_OPEN, _CLOSE, _NEWLINE = "<tool_call>", "</tool_call>", "\n"
_ANY = "(?s:.)*"
# All that the parser takes for an opening tag, and for one that lost its bracket (`markup.TAG`).
_OPENING = r"<[ \t]{0,4}(?i:tool_calls?)[ \t]{0,2}>"
_BROKEN_OPENING = r"<[ \t]{0,4}(?i:tool_call)[\s\x1c-\x1f]{0,4}[{\[]"
_NO_CALL = f"~/{_ANY}({_OPENING}|{_BROKEN_OPENING}){_ANY}/"
_NO_BROKEN_CALL = f"~/{_ANY}{_BROKEN_OPENING}{_ANY}/"
# The head is lazy: the first tag ends the text, whatever else could follow it.
_TEXT = f"TEXT: /{_ANY}/ & {_NO_BROKEN_CALL}\nhead[lazy]: HEAD\nHEAD: /{_ANY}{_OPENING}/ & {_NO_BROKEN_CALL}"
_WITHOUT_CALL = f"TEXT: /{_ANY}/ & {_NO_CALL}"
_PAD = f"pad[lazy]: PAD\nPAD: /<scratch_pad>{_ANY}<\\/scratch_pad>/ & {_NO_CALL}"
# With the limits on subschemas, compiling stays below two seconds and fifty megabytes.
_MAX_TEXT = 1_500_000
_LARGE_TEXT = 50_000
# The parser follows at most 2,000 items at once by default, and every key that may come next takes four of them.
_MAX_CHOICE = 450


@dataclass(frozen=True, slots=True)
class Grammar:
    """The constraint of one turn.

    Attributes:
        lark: Grammar text in llguidance's Lark.
        relaxed: One sentence for each part of a schema that the grammar does not enforce; only validating the result
            can find what breaks it.
    """

    lark: str
    relaxed: tuple[str, ...] = ()


def build_grammar(
    tools: Sequence[ToolLike] = (),
    *,
    tool_choice: ToolChoiceLike = None,
    parallel_tool_calls: bool = True,
    max_calls: int = MAX_CALLS,
    schema: Mapping[str, Any] | None = None,
    json_object: bool = False,
    regex: str | None = None,
    choices: Sequence[str] | None = None,
    dialect: Dialect | str = "card",
) -> Grammar:
    """Build the grammar of one assistant turn.

    Without a final form, `auto` is free text and then optionally calls; `none`, or no tools at all, is text in which no
    call can be written; `required` is calls alone (after an optional scratch pad, where the dialect has one). With a
    final form (`schema`, `json_object`, `regex` or `choices`; at most one), `auto` is calls or that form, `none` that
    form, and `required` calls: the form then waits for a later turn.

    Args:
        tools: What may be called; parameters that list properties are closed to others unless the schema opens them.
        tool_choice: See `ToolChoice`.
        parallel_tool_calls: False means exactly one call, and then the end.
        max_calls: Upper bound on the calls of one turn.
        schema: JSON Schema of the final answer; an empty one means any JSON object.
        json_object: The final answer is any JSON object.
        regex: The final answer as a whole matches this regular expression (Rust `regex` syntax: no look-around).
        choices: The final answer is one of these strings.
        dialect: Fixes the key order of a call and whether a scratch pad may precede it.

    Raises:
        SchemaError: A schema or the regular expression is unusable; names the tool and the path.
        ToolChoiceError: The tool choice does not fit the tools.
        InvalidRequestError: Options that contradict each other.
    """
    specs = coerce_tools(tools)
    choice = ToolChoice.coerce(tool_choice, specs)
    if isinstance(max_calls, bool) or not isinstance(max_calls, int) or max_calls < 1:
        raise InvalidRequestError(f"max_calls must be at least 1, got {max_calls!r}")
    style = resolve_dialect(dialect)
    offered = [tool for tool in specs if choice.mode != "none" and (not choice.names or tool.name in choice.names)]

    final = _final(schema, json_object=json_object, regex=regex, choices=choices)
    if not offered:
        return _joined("final" if final else "TEXT", final or _Part(_WITHOUT_CALL))
    calls = _calls(offered, style)
    further = (max_calls if parallel_tool_calls else 1) - 1
    more = f" ({_literal(_NEWLINE + _OPEN)} call){{0,{further}}}" if further else ""
    if choice.mode == "auto" and not final:
        return _joined(f"TEXT | head call{more}", calls, _Part(_TEXT))
    start, pad = f'"{_OPEN}" call{more}', _Part("")
    if style.scratch_pad:
        start, pad = f'(pad "\\n")? {start}', _Part(_PAD)
    if final and choice.mode == "auto":
        return _joined(f"final | {start}", calls, pad, final)
    return _joined(start, calls, pad)


@dataclass(frozen=True, slots=True)
class _Part:
    rules: str
    relaxed: tuple[str, ...] = ()


def _joined(start: str, *parts: _Part) -> Grammar:
    lark = "\n".join([f"start: {start}", *(part.rules for part in parts if part.rules), ""])
    if len(lark) > _MAX_TEXT:
        raise SchemaError(f"the schemas make a grammar of {len(lark)} characters, more than {_MAX_TEXT}")
    # Every schema was checked alone; only where they are many can they be too much together.
    if len(lark) > _LARGE_TEXT and (refusal := _refusal(lark)):
        raise SchemaError(f"the schemas together make no usable grammar: {refusal.splitlines()[0]}")
    return Grammar(lark, tuple(note for part in parts for note in part.relaxed))


def _literal(text: str) -> str:
    """Write a string as a Lark literal, which is a JSON string that may not hold a raw DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _calls(tools: Sequence[ToolSpec], style: Dialect) -> _Part:
    """Rules for `call`: what follows an opening tag, up to and with the closing tag.

    Where arguments come first, each set of arguments is an alternative and the parser keeps all that still fit; tools
    of one and the same schema share theirs, so that only their names tell them apart. Tool sets too large for that are
    written name first in every dialect.
    """
    sharing: dict[SchemaRule, list[str]] = {}
    relaxed: list[str] = []
    for tool in tools:
        where = f"tool {tool.name!r}"
        rule = schema_rule(tool.parameters, where=where, kind="arguments")
        if rule.free:
            _warn_of_free_shape(where, rule.relaxed)
        sharing.setdefault(rule, []).append(tool.name)
        relaxed += [f"{where}: {note}" for note in rule.relaxed]
    size, choice = sum(rule.size for rule in sharing), sum(rule.choice for rule in sharing)
    if size > MAX_SUBSCHEMAS:
        raise SchemaError(f"the tools are as large as {size} subschemas, more than {MAX_SUBSCHEMAS}; offer fewer tools")
    alternatives = []
    for index, names in enumerate(sharing.values()):
        if style.arguments_first and (choice <= _MAX_CHOICE or len(sharing) == 1):
            before = _literal('\n{"arguments": ')
            after = _any_of(f', "name": {_json_name(name)}}}\n{_CLOSE}' for name in names)
        else:
            before = _any_of(f'\n{{"name": {_json_name(name)}, "arguments": ' for name in names)
            after = _literal(f"}}\n{_CLOSE}")
        alternatives.append(f"{before} arguments_{index} {after}")
    rules = ["call: " + "\n    | ".join(alternatives)]
    rules += [f"arguments_{index}: {rule.lark}" for index, rule in enumerate(sharing)]
    return _Part("\n".join(rules), tuple(relaxed))


def _json_name(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(f"the tool name {name!r} is no Unicode text: {error.reason}") from error
    return json.dumps(name, ensure_ascii=False)


def _any_of(texts: Iterable[str]) -> str:
    literals = [_literal(text) for text in texts]
    return literals[0] if len(literals) == 1 else f"({' | '.join(literals)})"


def _final(
    schema: Mapping[str, Any] | None,
    *,
    json_object: bool,
    regex: str | None,
    choices: Sequence[str] | None,
) -> _Part | None:
    asked = {
        "schema": schema is not None,
        "json_object": json_object,
        "regex": regex is not None,
        "choices": choices is not None,
    }
    names = [name for name, given in asked.items() if given]
    if len(names) > 1:
        raise InvalidRequestError(f"an answer has one form, but {' and '.join(names)} were asked for")
    if choices is not None:
        return _choices(choices)
    if regex is not None:
        return _regex(regex)
    if not schema:
        return _Part(f"final: {json_term({'type': 'object'})}") if names else None
    where = "response schema"
    rule = schema_rule(schema, where=where)
    if rule.free:
        _warn_of_free_shape(where, rule.relaxed)
    return _Part(f"final: {rule.lark}", tuple(f"{where}: {note}" for note in rule.relaxed))


def _choices(choices: Sequence[str]) -> _Part:
    if isinstance(choices, str) or not choices or any(not isinstance(text, str) or not text for text in choices):
        raise InvalidRequestError(f"choices must be non-empty strings, and at least one; got {choices!r}")
    return _Part("final: CHOICE\nCHOICE: " + " | ".join(_literal(text) for text in dict.fromkeys(choices)))


def _regex(pattern: str) -> _Part:
    rules = f"final: FINAL\nFINAL: /{regex_to_lark(pattern, '')}/"
    refusal = _refusal(f"start: final\n{rules}\n")
    if not pattern or refusal:
        raise SchemaError(f"the regular expression {pattern!r} cannot constrain an answer: {refusal or 'it is empty'}")
    return _Part(rules)


def _warn_of_free_shape(where: str, notes: Sequence[str]) -> None:
    warnings.warn(
        f"{where}: the schema cannot be turned into a grammar ({'; '.join(notes)}); only the JSON shape is enforced, "
        "and the result is validated afterwards",
        stacklevel=5,
    )


@lru_cache(maxsize=256)
def _refusal(lark: str) -> str:
    return str(LLMatcher.validate_grammar(lark))
