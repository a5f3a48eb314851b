"""One assistant turn: prompt, constraint, engine and parser joined into a stream of events.

The same `Turn` serves invoke and stream, threads and event loops, in both frameworks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

from hermes_runtime.dialects import resolve_dialect
from hermes_runtime.engines.base import Engine, GrammarLanguage
from hermes_runtime.errors import (
    InvalidRequestError,
    SchemaError,
    UnmetDemandError,
)
from hermes_runtime.grammar.build import Grammar, check_form, check_max_calls, turn_grammar
from hermes_runtime.literals.escapes import well_formed
from hermes_runtime.messages import (
    ToolChoice,
    ToolOffer,
    ToolSpec,
)
from hermes_runtime.parser.calls import check_tools
from hermes_runtime.parser.plain_text import TextReader, VerbatimReader
from hermes_runtime.parser.stream_parser import CallReader
from hermes_runtime.prompt.build import Prompt, build_prompt, render_prompt
from hermes_runtime.prompt.conversation import coerce_messages
from hermes_runtime.prompt.replay import ReplayMap
from hermes_runtime.schema.validation import check_schema
from hermes_runtime.turn.attempt import Attempt, Reader
from hermes_runtime.turn.demands import Demands
from hermes_runtime.turn.lost_calls import length_limit, warn_of_lost_calls
from hermes_runtime.turn.request import TurnRequest
from hermes_runtime.turn.running import RunningTurn

_SHOWN = 200  # characters of an answer, in the error that it makes
_REPLAYS: WeakKeyDictionary[Engine, ReplayMap] = WeakKeyDictionary()


def render(engine: Engine, request: TurnRequest) -> Prompt:
    """Return the very prompt that a turn would send; its length is the exact token count of messages and tools."""
    return build_prompt(
        request.messages,
        tokenizer=engine.tokenizer,
        tools=request.tools,
        tool_choice=request.tool_choice,
        schema=request.schema,
        dialect=request.dialect,
        replay=_replay_of(engine),
    )


class Turn(RunningTurn):
    """A turn of a conversation.

    Raises (on construction, before any computation):
        InvalidRequestError: And its subclasses, for whatever cannot be honoured.
        ContextWindowExceededError: The prompt leaves no room for an answer.

    Raises (while it is iterated):
        UnmetDemandError: The answer misses the tool choice or the choices, which no grammar kept; none of it was shown.
        EngineError: The computation failed.
    """

    def __init__(self, engine: Engine, request: TurnRequest) -> None:
        super().__init__(engine, request)
        # From here on only what was made here travels.
        self._conversation = coerce_messages(request.messages)
        self._offer = ToolOffer.of(request.tools, request.tool_choice)
        self._dialect = resolve_dialect(request.dialect)
        _check(request, self._offer.tools)
        self._constraint: str | None = None
        if request.constrained and engine.grammar_language is not None:
            grammar = self._grammar(engine.grammar_language)
            self._constraint = grammar.text
            # What the grammar leaves out of a schema can still be asked for.
            self._demands = Demands(schema=request.schema) if grammar.relaxed else Demands()
        else:
            self._demands = _demands(request, self._offer.choice)
        self._prompt = self._rendered()

    def _grammar(self, language: GrammarLanguage) -> Grammar:
        # Without tools too: the model then cannot write a call that nobody could answer.
        return turn_grammar(
            self._offer,
            dialect=self._dialect,
            parallel_tool_calls=self._request.parallel_tool_calls,
            max_calls=self._request.max_calls,
            schema=self._request.schema,
            regex=self._request.regex,
            choices=self._request.choices,
            language=language,
            tokens=self._engine.grammar_tokens,
        )

    def _attempts(self) -> Iterator[Attempt]:
        for repairs in range(self._request.max_repairs + 1):
            is_last = repairs == self._request.max_repairs
            generation = self._submit(self._prompt.token_ids, self._constraint)
            attempt = Attempt(
                generation,
                self._reader(),
                hold_events=not is_last,
                demands=self._demands,
                max_calls=self._most_calls if self._constraint is None else None,
                limit=length_limit(
                    len(self._prompt.token_ids), self._request.options.max_tokens, self._engine.context_window
                ),
            )
            yield attempt
            usage = self._count(attempt, self._prompt.token_ids)
            if is_last or not attempt.needs_repair:
                self._raise_if_failed(attempt)
                self._result = attempt.result(usage, repairs)
                warn_of_lost_calls(
                    self._result, constrained=self._request.constrained, max_repairs=self._request.max_repairs
                )
                self._remember(attempt)
                return
            complaints = attempt.complaints(self._dialect.shape.tag)
            self._conversation = (*self._conversation, attempt.as_message(), *complaints)
            self._prompt = self._rendered()

    def _reader(self) -> Reader:
        request = self._request
        has_form = request.schema is not None or request.regex is not None or request.choices is not None
        # Where the grammar lets no tag pass, what looks like a call without its tags is text.
        tools = self._offer.tools if self._constraint is None else self._offer.shown
        if tools:
            return CallReader(tools, only_name=self._only_name())
        # No tools were given, so nobody waits for a call, whatever the history holds: what looks like one is text, as
        # it is with hosted models. An answer of a given form does not even open with reasoning.
        return VerbatimReader() if has_form else TextReader()

    def _raise_if_failed(self, attempt: Attempt) -> None:
        if attempt.failure is not None:
            raise UnmetDemandError(
                f"the model was asked in vain: {attempt.failure} It answered {attempt.text[:_SHOWN]!r}. No grammar "
                f"kept it to that; raise max_repairs, which is {self._request.max_repairs}, to have it asked again"
            )

    @property
    def _most_calls(self) -> int:
        return self._request.max_calls if self._request.parallel_tool_calls else 1

    def _only_name(self) -> str | None:
        """Return the one tool that the grammar lets the model call, if there is just one."""
        offered = self._offer.callable
        return offered[0].name if self._constraint is not None and len(offered) == 1 else None

    def _rendered(self) -> Prompt:
        prompt = render_prompt(
            self._conversation,
            tokenizer=self._engine.tokenizer,
            tools=self._offer.shown,
            schema=self._request.schema,
            dialect=self._dialect,
            replay=_replay_of(self._engine),
        )
        self._check_room(prompt.token_ids)
        return prompt

    def _remember(self, attempt: Attempt) -> None:
        # A turn that was cut, or ended by a stop string, holds ids that the caller never sees as text.
        message = attempt.as_message()
        if attempt.ended_itself and message.token_ids:
            _replay_of(self._engine).remember(
                self._prompt.token_ids, replace(message, token_ids=None), message.token_ids
            )


def _check(request: TurnRequest, tools: Sequence[ToolSpec]) -> None:
    check_tools(tools)
    if request.schema is not None:
        if not isinstance(request.schema, Mapping):
            raise SchemaError(f"the response schema must be a JSON Schema object, got {type(request.schema).__name__}")
        check_schema(request.schema, where="response schema")
    if request.max_repairs < 0:
        raise InvalidRequestError(f"max_repairs must be at least 0, got {request.max_repairs!r}")


def _demands(request: TurnRequest, choice: ToolChoice) -> Demands:
    """Return what is checked on the answer itself, no grammar being there.

    Raises:
        InvalidRequestError: Options that a grammar would refuse, or a regular expression.
    """
    check_max_calls(request.max_calls)
    check_form(schema=request.schema, regex=request.regex, choices=request.choices)
    if request.regex is not None:
        why = "the engine takes none" if request.constrained else "constrained is False"
        raise InvalidRequestError(
            f"regex={request.regex!r} cannot be kept: only a grammar keeps it, and {why}; use choices or a schema"
        )
    choices = None if request.choices is None else tuple(map(well_formed, request.choices))
    return Demands(choice, request.schema, choices, allow_unmet=request.allow_unmet)


def _replay_of(engine: Engine) -> ReplayMap:
    return _REPLAYS.setdefault(engine, ReplayMap())
