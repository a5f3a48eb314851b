"""Tools, tool choice and response form -> one grammar for the turn, in the language that an engine reads."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hermes_runtime.dialects import Dialect, resolve_dialect
from hermes_runtime.errors import InvalidRequestError, SchemaError
from hermes_runtime.grammar.gbnf import write_gbnf
from hermes_runtime.grammar.lark import check_regex, write_lark
from hermes_runtime.grammar.schema_rule import ANY_OBJECT, SchemaRule, schema_rule
from hermes_runtime.grammar.turn_form import CallForm, Choices, Pattern, TurnForm
from hermes_runtime.literals.escapes import well_formed
from hermes_runtime.messages import ToolChoiceLike, ToolLike, ToolOffer, ToolSpec
from hermes_runtime.schema.keywords import MAX_SUBSCHEMAS

Language = Literal["lark", "gbnf"]

DEFAULT_MAX_CALLS = 16

# With the limits on subschemas, compiling stays below two seconds and fifty megabytes.
_MAX_TEXT = 1_500_000
# The parser follows at most 2,000 items at once by default, and every key that may come next takes four of them.
_MAX_CHOICE = 450


@dataclass(frozen=True, slots=True)
class Grammar:
    """The constraint of one turn.

    Attributes:
        text: The grammar.
        language: What it is written in: llguidance's Lark, or the GBNF of llama.cpp and xgrammar.
        relaxed: One sentence for each part of a schema that the grammar does not enforce; only validating the result
            can find what breaks it.
    """

    text: str
    language: Language = "lark"
    relaxed: tuple[str, ...] = ()

    @property
    def lark(self) -> str:
        """The text of a grammar that is written in Lark."""
        if self.language != "lark":
            raise AttributeError(f"the grammar is written in {self.language}")
        return self.text


def build_grammar(
    tools: Sequence[ToolLike] = (),
    *,
    tool_choice: ToolChoiceLike = None,
    parallel_tool_calls: bool = True,
    max_calls: int = DEFAULT_MAX_CALLS,
    schema: Mapping[str, Any] | None = None,
    json_object: bool = False,
    regex: str | None = None,
    choices: Sequence[str] | None = None,
    dialect: Dialect | str = "card",
    language: Language = "lark",
    tokens: frozenset[str] = frozenset(),
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
        dialect: Fixes how a call is written and whether reasoning may precede it.
        language: What the grammar is written in. GBNF enforces less of a schema, and no regular expression.
        tokens: Tokens of text, such as `<tool_call>`, that the engine samples only where the grammar names them.

    Raises:
        SchemaError: A schema or the regular expression is unusable; names the tool and the path.
        ToolChoiceError: The tool choice does not fit the tools.
        InvalidRequestError: Options that contradict each other, or a regular expression in GBNF.
    """
    return turn_grammar(
        ToolOffer.of(tools, tool_choice),
        dialect=resolve_dialect(dialect),
        parallel_tool_calls=parallel_tool_calls,
        max_calls=max_calls,
        schema=schema,
        json_object=json_object,
        regex=regex,
        choices=choices,
        language=language,
        tokens=tokens,
    )


def turn_grammar(
    offer: ToolOffer,
    *,
    dialect: Dialect,
    parallel_tool_calls: bool = True,
    max_calls: int = DEFAULT_MAX_CALLS,
    schema: Mapping[str, Any] | None = None,
    json_object: bool = False,
    regex: str | None = None,
    choices: Sequence[str] | None = None,
    language: Language = "lark",
    tokens: frozenset[str] = frozenset(),
) -> Grammar:
    """Build the grammar of tools that were brought into form already; see `build_grammar`."""
    check_max_calls(max_calls)
    final = _final(schema, json_object=json_object, regex=regex, choices=choices, language=language)
    calls = _calls(offer.callable, dialect)
    has_text = final is None and (not offer.callable or offer.choice.mode == "auto")
    form = TurnForm(
        has_text=has_text,
        calls=calls,
        most_calls=max_calls if parallel_tool_calls else 1,
        tag=dialect.shape.tag,
        reasoning=dialect.reasoning if calls and not has_text else None,
        final=final if offer.choice.mode == "auto" or not offer.callable else None,
    )
    text, widened = (write_lark(form, tokens), {}) if language == "lark" else write_gbnf(form)
    if len(text) > _MAX_TEXT:
        raise SchemaError(f"the schemas make a grammar of {len(text)} characters, more than {_MAX_TEXT}")
    return Grammar(text, language, tuple(_relaxed(form, widened)))


def check_max_calls(max_calls: int) -> None:
    """Check an upper bound on the calls of a turn.

    Raises:
        InvalidRequestError: It is no integer of at least 1.
    """
    if isinstance(max_calls, bool) or not isinstance(max_calls, int) or max_calls < 1:
        raise InvalidRequestError(f"max_calls must be at least 1, got {max_calls!r}")


def check_form(
    *,
    schema: Mapping[str, Any] | None = None,
    json_object: bool = False,
    regex: str | None = None,
    choices: Sequence[str] | None = None,
) -> None:
    """Check what was asked for of the final answer.

    Raises:
        InvalidRequestError: More than one form, or choices that are none.
    """
    asked = {
        "schema": schema is not None,
        "json_object": json_object,
        "regex": regex is not None,
        "choices": choices is not None,
    }
    names = [name for name, given in asked.items() if given]
    if len(names) > 1:
        raise InvalidRequestError(f"an answer has one form, but {' and '.join(names)} were asked for")
    if choices is None:
        return
    if isinstance(choices, str) or not choices or any(not isinstance(text, str) or not text for text in choices):
        raise InvalidRequestError(f"choices must be non-empty strings, and at least one; got {choices!r}")


def _calls(tools: Sequence[ToolSpec], style: Dialect) -> tuple[CallForm, ...]:
    """Decide how calls are written.

    Where arguments come first, each set of arguments is an alternative and the parser keeps all that still fit; tools
    of one and the same schema share theirs, so that only their names tell them apart. Tool sets too large for that are
    written name first in every dialect.
    """
    sharing: dict[SchemaRule, list[str]] = {}
    for tool in tools:
        _check_name(tool.name)
        rule = schema_rule(tool.parameters, where=f"tool {tool.name!r}", kind="arguments")
        if rule.free:
            _warn_of_free_shape(f"tool {tool.name!r}", rule.relaxed)
        sharing.setdefault(rule, []).append(tool.name)
    size, choice = sum(rule.size for rule in sharing), sum(rule.choice for rule in sharing)
    if size > MAX_SUBSCHEMAS:
        raise SchemaError(f"the tools are as large as {size} subschemas, more than {MAX_SUBSCHEMAS}; offer fewer tools")
    shape = style.shape if choice <= _MAX_CHOICE or len(sharing) == 1 else style.shape.name_first
    return tuple(CallForm(tuple(names), rule, shape) for rule, names in sharing.items())


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(f"the tool name {name!r} is no Unicode text: {error.reason}") from error


def _final(
    schema: Mapping[str, Any] | None,
    *,
    json_object: bool,
    regex: str | None,
    choices: Sequence[str] | None,
    language: Language,
) -> SchemaRule | Choices | Pattern | None:
    check_form(schema=schema, json_object=json_object, regex=regex, choices=choices)
    if choices is not None:
        return Choices(tuple(dict.fromkeys(map(well_formed, choices))))
    if regex is not None:
        return _pattern(regex, language)
    if not schema:
        return ANY_OBJECT if json_object or schema is not None else None
    where = "response schema"
    rule = schema_rule(schema, where=where)
    if rule.free:
        _warn_of_free_shape(where, rule.relaxed)
    return rule


def _pattern(regex: str, language: Language) -> Pattern:
    if language == "gbnf":
        raise InvalidRequestError(
            f"regex={regex!r} cannot be kept: the engine takes its grammars in GBNF, which has no regular expressions; "
            "use choices or a schema"
        )
    regex = well_formed(regex)
    check_regex(regex)
    return Pattern(regex)


def _relaxed(form: TurnForm, widened: Mapping[SchemaRule, Sequence[str]]) -> Iterator[str]:
    places = [(f"tool {name!r}", call.rule) for call in form.calls for name in call.names]
    if isinstance(form.final, SchemaRule):
        places.append(("response schema", form.final))
    for where, rule in places:
        yield from (f"{where}: {note}" for note in dict.fromkeys([*rule.relaxed, *widened.get(rule, ())]))


def _warn_of_free_shape(where: str, notes: Sequence[str]) -> None:
    warnings.warn(
        f"{where}: the schema cannot be turned into a grammar ({'; '.join(notes)}); only the JSON shape is enforced, "
        "and the result is validated afterwards",
        stacklevel=5,
    )
