"""One assistant turn: prompt, constraint, engine and parser joined into a stream of events.

The same `Turn` serves invoke and stream, threads and event loops, in both frameworks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

from hermes_runtime.dialects import Dialect
from hermes_runtime.engines.base import Engine, Generation, GenerationRequest, GrammarLanguage, Usage
from hermes_runtime.errors import (
    ContextWindowExceededError,
    HermesError,
    InvalidRequestError,
    SchemaError,
    UnmetDemandError,
)
from hermes_runtime.grammar.build import MAX_CALLS, Grammar, build_grammar, check_form, check_max_calls
from hermes_runtime.literals.escapes import well_formed
from hermes_runtime.messages import (
    MessageLike,
    ToolChoice,
    ToolChoiceLike,
    ToolLike,
    ToolSpec,
    coerce_tools,
)
from hermes_runtime.off_loop import off_loop
from hermes_runtime.options.generation import SamplingParams
from hermes_runtime.parser.plain_text import TextReader, VerbatimReader
from hermes_runtime.parser.stream_parser import Event, StreamParser
from hermes_runtime.prompt.build import Prompt, build_prompt
from hermes_runtime.prompt.conversation import coerce_messages
from hermes_runtime.prompt.replay import ReplayMap
from hermes_runtime.schema.edits import without_null_keywords
from hermes_runtime.schema.validation import check_schema
from hermes_runtime.turn.attempt import Attempt, Reader, TurnFinishReason, TurnResult
from hermes_runtime.turn.demands import Demands
from hermes_runtime.turn.lost_calls import length_limit, warn_of_lost_calls

__all__ = [
    "RawTurn",
    "RunningTurn",
    "Turn",
    "TurnFinishReason",
    "TurnRequest",
    "TurnResult",
    "asked_logprobs",
    "render",
]


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """Everything one assistant turn depends on.

    Attributes:
        messages: The conversation; message objects or OpenAI-style dicts.
        tools: What may be called.
        tool_choice: Which calls may or must be made; see `ToolChoice.coerce`.
        parallel_tool_calls: Whether one turn may make several calls.
        max_calls: Upper bound on the calls of the turn.
        schema: JSON Schema that the final answer follows; an empty one means any JSON object. Keywords that are null
            are left out.
        regex: Regular expression that the final answer matches as a whole (Rust `regex` syntax); only a grammar in
            Lark keeps it.
        choices: The final answer is one of these strings.
        dialect: How the model is told of tools.
        constrained: Whether a grammar makes malformed calls impossible. Without one, be it for this option or for an
            engine that takes none, the answer is checked when it is there: see `max_repairs`. An answer then ends with
            the last call that it may make, and `regex` is refused.
        sampling: Unset options come from the checkpoint.
        max_tokens: Upper bound on generated tokens of one attempt.
        stop: Strings that end the answer.
        seed: Makes sampling reproducible.
        timeout: Seconds for one attempt.
        logprobs: How many alternatives to report per token; None reports nothing.
        max_repairs: How often the model is shown a call that is malformed or breaks its schema, and asked again. Where
            no grammar keeps them, so is an answer that misses the tool choice, the choices or the schema.
        allow_unmet: Whether an answer that still misses the tool choice or the choices is returned, to a caller who
            checks it himself; else the turn fails.
    """

    messages: Sequence[MessageLike]
    tools: Sequence[ToolLike] = ()
    tool_choice: ToolChoiceLike = None
    parallel_tool_calls: bool = True
    max_calls: int = MAX_CALLS
    schema: Mapping[str, Any] | None = None
    regex: str | None = None
    choices: Sequence[str] | None = None
    dialect: str | Dialect = "card"
    constrained: bool = True
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    timeout: float | None = None
    logprobs: int | None = None
    max_repairs: int = 0
    allow_unmet: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "schema", without_null_keywords(self.schema))


def asked_logprobs(logprobs: bool | None, top_logprobs: int | None) -> int | None:
    """Return `TurnRequest.logprobs` for the pair of options that hosted models have; `top_logprobs` alone is enough.

    Raises:
        InvalidRequestError: The two contradict each other.
    """
    if top_logprobs is None:
        return 0 if logprobs else None
    if logprobs is False:
        raise InvalidRequestError("top_logprobs needs logprobs, which is False; leave it out or set it to True")
    return top_logprobs


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


class RunningTurn(ABC):
    """A turn while it runs; iterate it once, from a thread or an event loop, then read `result`.

    In an event loop, whatever is more than reading a token runs in a thread: handing a request to the engine, which may
    compile its grammar there, and making the prompt of a repair. Constructing a turn is such work too: see `off_loop`.
    """

    def __init__(self, engine: Engine, request: TurnRequest) -> None:
        self._engine = engine
        self._request = request
        self._generation: Generation | None = None
        self._cancelled = False
        self._usage = Usage(0, 0)
        self._result: TurnResult | None = None

    def __iter__(self) -> Iterator[Event]:
        for attempt in self._attempts():
            try:
                for delta in attempt.generation:
                    yield from attempt.feed(delta)
                    if attempt.is_full:
                        break
                yield from attempt.finish()
            except HermesError:
                yield from attempt.break_off()
                raise
            finally:
                attempt.generation.cancel()

    async def __aiter__(self) -> AsyncIterator[Event]:
        attempts = self._attempts()
        try:
            while (attempt := await off_loop(next, attempts, None)) is not None:
                try:
                    async for delta in attempt.generation:
                        for event in attempt.feed(delta):
                            yield event
                        if attempt.is_full:
                            break
                    for event in attempt.finish():
                        yield event
                except HermesError:
                    for event in attempt.break_off():
                        yield event
                    raise
                finally:
                    attempt.generation.cancel()
        finally:
            self.cancel()  # a request that a thread is handing over just now too

    def cancel(self) -> None:
        """Stop within one token; the turn then ends with what it has. Safe from any thread."""
        self._cancelled = True
        if self._generation is not None:
            self._generation.cancel()

    @property
    def result(self) -> TurnResult:
        """The finished turn.

        Raises:
            RuntimeError: The turn has not been iterated to its end.
        """
        if self._result is None:
            raise RuntimeError("the turn has no result before it was iterated to its end")
        return self._result

    @abstractmethod
    def _attempts(self) -> Iterator[Attempt]:
        """Yield attempts until one is accepted and `_result` is set; each is consumed before the next is asked for."""

    def _submit(self, prompt_ids: tuple[int, ...], constraint: str | None = None) -> Generation:
        request = self._request
        self._generation = self._engine.submit(
            GenerationRequest(
                prompt_ids=prompt_ids,
                sampling=request.sampling,
                constraint=constraint,
                stop=request.stop,
                max_tokens=request.max_tokens,
                seed=request.seed,
                logprobs=request.logprobs,
                timeout=request.timeout,
            )
        )
        if self._cancelled:
            self._generation.cancel()
        return self._generation

    def _count(self, attempt: Attempt, prompt_ids: tuple[int, ...]) -> Usage:
        usage = attempt.generation.usage or Usage(len(prompt_ids), len(attempt.token_ids))
        if not usage.completion_tokens:  # cut, and told neither ids nor their number
            written = self._engine.tokenizer.encode(well_formed(attempt.text), add_special_tokens=False)
            usage = replace(usage, completion_tokens=len(written))
        self._usage += usage
        return self._usage

    def _check_room(self, prompt_ids: tuple[int, ...]) -> None:
        if len(prompt_ids) >= self._engine.context_window:
            raise ContextWindowExceededError(len(prompt_ids), self._engine.context_window)


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
        super().__init__(engine, replace(request, messages=coerce_messages(request.messages)))
        self._tools = coerce_tools(request.tools)
        self._choice = ToolChoice.coerce(request.tool_choice, self._tools)
        _check(self._request, self._tools)
        self._constraint: str | None = None
        if request.constrained and engine.grammar_language is not None:
            grammar = _grammar(self._request, self._tools, self._choice, engine, engine.grammar_language)
            self._constraint = grammar.text
            # What the grammar leaves out of a schema can still be asked for.
            self._demands = Demands(schema=request.schema) if grammar.relaxed else Demands()
        else:
            self._demands = _demands(self._request, self._choice)
        self._prompt = self._rendered()

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
                limit=length_limit(len(self._prompt.token_ids), self._request.max_tokens, self._engine.context_window),
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
            self._request = replace(
                self._request, messages=(*self._request.messages, attempt.as_message(), *attempt.complaints())
            )
            self._prompt = self._rendered()

    def _reader(self) -> Reader:
        request = self._request
        has_form = request.schema is not None or request.regex is not None or request.choices is not None
        # Where the grammar lets no tag pass, what looks like a call without its tags is text.
        tools = () if self._constraint is not None and self._choice.mode == "none" else self._tools
        if tools:
            return StreamParser(tools, only_name=self._only_name())
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
        names = self._choice.names or tuple(tool.name for tool in self._tools)
        return names[0] if self._constraint is not None and len(names) == 1 else None

    def _rendered(self) -> Prompt:
        prompt = render(self._engine, self._request)
        self._check_room(prompt.token_ids)
        return prompt

    def _remember(self, attempt: Attempt) -> None:
        # A turn that was cut, or ended by a stop string, holds ids that the caller never sees as text.
        message = attempt.as_message()
        if attempt.ended_itself and message.token_ids:
            _replay_of(self._engine).remember(
                self._prompt.token_ids, replace(message, token_ids=None), message.token_ids
            )


class RawTurn(RunningTurn):
    """A prompt that goes to the model as it stands: no roles, no tools, no parsing.

    Args:
        engine: What computes it.
        prompt: Encoded with control tokens on: whoever formats a prompt writes its `<|im_start|>` himself. A BOS token
            is added where the prompt does not begin with one.
        request: Sampling, limits and stop strings; its messages are not used.

    Raises:
        InvalidRequestError: The request asks for what a raw prompt cannot give.
        ContextWindowExceededError: The prompt leaves no room for an answer.
    """

    def __init__(self, engine: Engine, prompt: str, request: TurnRequest) -> None:
        super().__init__(engine, request)
        asked = (request.schema, request.regex, request.choices, request.tools or None)
        if any(option is not None for option in asked):
            raise InvalidRequestError(
                "a formatted prompt goes to the model as it is; a response schema, regex, choices and tools need chat"
            )
        tokenizer = engine.tokenizer
        has_bos = bool(tokenizer.bos_token) and prompt.startswith(tokenizer.bos_token)
        self._prompt_ids = tuple(tokenizer.encode(well_formed(prompt), add_special_tokens=not has_bos))
        self._check_room(self._prompt_ids)

    def _attempts(self) -> Iterator[Attempt]:
        attempt = Attempt(self._submit(self._prompt_ids), VerbatimReader())
        yield attempt
        self._result = attempt.result(self._count(attempt, self._prompt_ids), repairs=0)


def _check(request: TurnRequest, tools: Sequence[ToolSpec]) -> None:
    for tool in tools:
        check_schema(tool.parameters, where=f"tool {tool.name!r}")
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


def _grammar(
    request: TurnRequest, tools: Sequence[ToolSpec], choice: ToolChoice, engine: Engine, language: GrammarLanguage
) -> Grammar:
    # Without tools too: the model then cannot write a call that nobody could answer.
    return build_grammar(
        tools,
        tool_choice=choice,
        parallel_tool_calls=request.parallel_tool_calls,
        max_calls=request.max_calls,
        schema=request.schema,
        regex=request.regex,
        choices=request.choices,
        dialect=request.dialect,
        language=language,
        tokens=engine.grammar_tokens,
    )


def _replay_of(engine: Engine) -> ReplayMap:
    return _REPLAYS.setdefault(engine, ReplayMap())
