"""Requests as each kind of server takes them, and what it answers, for `/v1/completions`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hermes_runtime.engines.base import FinishReason, GenerationRequest, GrammarLanguage, TokenLogprob, Usage
from hermes_runtime.engines.llguidance import for_llguidance
from hermes_runtime.errors import EngineError, InvalidRequestError
from hermes_runtime.options.generation import SamplingParams

Kind = Literal["vLLM", "SGLang", "llama.cpp", "llama-cpp-python", "LM Studio", "unknown"]

_SEED_RANGE = 2**31  # what every server takes as a seed; some read negative ones as "none"
_ID_LABEL = "token_id:"
_ALL_CANDIDATES = -1
_OPENAI_PENALTIES = ("frequency_penalty", "presence_penalty")
_OPENAI_FIELDS = {name: name for name in (*_OPENAI_PENALTIES, "logit_bias")}
_LLAMA_FIELDS = {"top_k": "top_k", "min_p": "min_p", "repetition_penalty": "repeat_penalty", "logit_bias": "logit_bias"}
_TORCH_FIELDS = {name: name for name in ("top_k", "min_p", "repetition_penalty", "min_tokens", *_OPENAI_FIELDS)}
# What each takes of the options that not every server has. The penalties that count what was generated count the prompt
# too in llama.cpp: they are others.
_FIELDS: dict[Kind, dict[str, str]] = {
    "vLLM": _TORCH_FIELDS,
    "SGLang": _TORCH_FIELDS,
    "llama.cpp": _LLAMA_FIELDS,
    "llama-cpp-python": _LLAMA_FIELDS,
    "LM Studio": {"top_k": "top_k", "repetition_penalty": "repeat_penalty"},
    "unknown": _OPENAI_FIELDS,
}
_NEUTRAL: dict[str, Any] = {
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "logit_bias": {},
    "min_tokens": 0,
}


@dataclass(frozen=True, slots=True)
class GrammarForm:
    """One way in which a grammar reaches a server.

    Attributes:
        language: What the grammar is written in.
        fields: The fields of a request that carry it.
        names_tokens: Tags that are one token must be named in it; see `Engine.grammar_tokens`.
    """

    language: GrammarLanguage
    fields: Callable[[str], dict[str, Any]]
    names_tokens: bool = False


GRAMMAR_FORMS: dict[str, GrammarForm] = {
    "structured_outputs": GrammarForm(
        "lark", lambda lark: {"structured_outputs": {"grammar": for_llguidance(lark)}}, names_tokens=True
    ),
    "ebnf %llguidance": GrammarForm("lark", lambda lark: {"ebnf": for_llguidance(lark)}, names_tokens=True),
    "grammar %llguidance": GrammarForm("lark", lambda lark: {"grammar": for_llguidance(lark)}),
    "ebnf": GrammarForm("gbnf", lambda gbnf: {"ebnf": gbnf}),
    "grammar": GrammarForm("gbnf", lambda gbnf: {"grammar": gbnf}),
}
"""vLLM's field; SGLang's with its llguidance backend; llama.cpp's, where it was built with llguidance; SGLang's with
xgrammar; llama.cpp's as it is."""


@dataclass(frozen=True, slots=True)
class ServerProfile:
    """What one server can do, found out by trying.

    Attributes:
        kind: Which server it is.
        version: As it says itself.
        model: What it calls the model.
        context_window: Prompt and answer together, in tokens; None where it does not say.
        takes_ids: Prompts may be token ids; else they are text.
        tells_ids: Generated ids come with the text.
        adds_bos: It puts BOS before a prompt of text.
        grammar: Which of `GRAMMAR_FORMS` constrains it; None where none does.
        tells_logprobs: Log-probabilities come with ids.
    """

    kind: Kind
    version: str | None
    model: str
    context_window: int | None
    takes_ids: bool
    tells_ids: bool
    adds_bos: bool
    grammar: str | None
    tells_logprobs: bool

    @property
    def grammar_language(self) -> GrammarLanguage | None:
        """What grammars for it are written in."""
        return None if self.grammar is None else GRAMMAR_FORMS[self.grammar].language

    @property
    def names_tokens(self) -> bool:
        """Whether tags that are one token must be named in grammars for it."""
        return self.grammar is not None and GRAMMAR_FORMS[self.grammar].names_tokens


@dataclass(frozen=True, slots=True)
class Chunk:
    """One event of an answer."""

    text: str
    ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None
    finish_reason: FinishReason | None
    usage: Usage | None


def request_body(
    profile: ServerProfile,
    request: GenerationRequest,
    prompt: str | Sequence[int],
    *,
    defaults: SamplingParams,
    end_ids: Sequence[int],
    end_texts: Sequence[str],
    max_tokens: int,
) -> dict[str, Any]:
    """Return the JSON body of a streamed completion.

    Args:
        profile: The server.
        request: What to generate.
        prompt: Its prompt as the server takes it.
        defaults: The checkpoint's sampling options.
        end_ids: Ids that end a turn.
        end_texts: The same as text.
        max_tokens: Upper bound on generated tokens.

    Raises:
        InvalidRequestError: The server cannot honor an option.
    """
    _check(profile, request)
    sampling = request.options.sampling.with_defaults(defaults)
    body: dict[str, Any] = {
        "model": profile.model,
        "prompt": prompt,
        "max_tokens": max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stream": True,
        "stream_options": {"include_usage": True},
        **_sampling_fields(profile.kind, sampling, request),
    }
    if request.options.seed is not None:
        body["seed"] = request.options.seed % _SEED_RANGE
    body |= _end_fields(profile, request, end_ids, end_texts)
    if profile.kind == "vLLM":
        body["spaces_between_special_tokens"] = False
    if profile.kind == "llama.cpp":
        body |= {"cache_prompt": True, "repeat_last_n": len(request.prompt_ids) + max_tokens}
    if request.options.logprobs is not None:  # of 0 alternatives, some servers tell nothing at all
        body |= {"logprobs": max(1, request.options.logprobs), "return_tokens_as_token_ids": True}
    if request.constraint is not None and profile.grammar is not None:
        body |= GRAMMAR_FORMS[profile.grammar].fields(request.constraint)
    return body


def _sampling_fields(kind: Kind, sampling: SamplingParams, request: GenerationRequest) -> dict[str, Any]:
    asked = {field: _asked(option, sampling, request) for option, field in _FIELDS[kind].items()}
    fields = {field: value for field, value in asked.items() if value not in (None, {})}
    if fields.get("top_k") == 0 and _FIELDS[kind] is _TORCH_FIELDS:
        fields["top_k"] = _ALL_CANDIDATES
    if "logit_bias" in fields and kind == "llama.cpp":  # its older builds ignore a map
        fields["logit_bias"] = list(map(list, fields["logit_bias"].items()))
    return fields


def _end_fields(
    profile: ServerProfile, request: GenerationRequest, end_ids: Sequence[int], end_texts: Sequence[str]
) -> dict[str, Any]:
    # Servers that tell ids are asked to stop at ids, and text is cut here; of others, text is all there is.
    stop = list(request.options.stop) if profile.tells_ids else [*request.options.stop, *end_texts]
    if profile.tells_ids and request.options.min_tokens:
        stop = []  # not every server lets those pass that come too soon
    fields: dict[str, Any] = {"stop": stop} if stop else {}
    if profile.tells_ids:
        fields |= {
            "stop_token_ids": [*end_ids, *request.stop_ids],
            "return_token_ids": True,
            "skip_special_tokens": False,
        }
    return fields


def _check(profile: ServerProfile, request: GenerationRequest) -> None:
    where = f"this server ({profile.kind})"
    if request.constraint is not None and profile.grammar is None:
        raise InvalidRequestError(f"{where} takes no grammar, so a constraint cannot be kept")
    if request.options.logprobs is not None and not profile.tells_logprobs:
        raise InvalidRequestError(f"{where} tells no log-probabilities by token id; leave logprobs out")
    if request.stop_ids and not profile.tells_ids:
        raise InvalidRequestError(f"{where} stops at no token ids; use stop strings")
    for option, neutral in _NEUTRAL.items():
        asked = _asked(option, request.options.sampling, request)
        if asked not in (None, neutral) and option not in _FIELDS[profile.kind]:
            kind = " of what was generated alone" if option in _OPENAI_PENALTIES else ""
            raise InvalidRequestError(f"{where} has no {option}{kind}; leave it out, got {asked!r}")
    if request.options.min_tokens and request.constraint is not None:
        raise InvalidRequestError(
            f"{where} keeps min_tokens without a grammar only, which may have to end sooner; "
            "set constrained=False or leave min_tokens out"
        )
    if request.options.min_tokens and request.options.stop and not profile.tells_ids:
        raise InvalidRequestError(f"{where} tells no token ids, so min_tokens cannot be kept beside stop strings")


def _asked(option: str, sampling: SamplingParams, request: GenerationRequest) -> Any:
    return request.options.min_tokens if option == "min_tokens" else getattr(sampling, option)


def read_chunk(event: Mapping[str, Any], decode: Callable[[list[int]], str], alternatives: int | None) -> Chunk:
    """Read one event of an answer.

    Args:
        event: The event.
        decode: Ids to text.
        alternatives: How many were asked for beside each token; None where no log-probabilities were.

    Raises:
        EngineError: It is not what a completion server sends, or the answer ended for a reason of the server's own.
    """
    try:
        usage = _usage(event.get("usage"))
        choices = event["choices"]
        if not choices:
            return Chunk("", (), None, None, usage)
        choice = choices[0]
        ids = tuple(int(token) for token in choice.get("token_ids") or ())
        logprobs = None if alternatives is None else _logprobs(choice.get("logprobs"), decode, alternatives)
        return Chunk(str(choice.get("text") or ""), ids, logprobs, _reason(choice.get("finish_reason")), usage)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise EngineError(f"the server sent an event that is no completion: {str(dict(event))[:200]}") from error


def _reason(said: Any) -> FinishReason | None:
    if said in (None, "stop", "length"):
        return said  # type: ignore[no-any-return] # one of the three
    raise EngineError(f"the server ended the answer early: finish_reason {said!r}")


def _usage(said: Mapping[str, Any] | None) -> Usage | None:
    if not said:
        return None
    cached = (said.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Usage(int(said["prompt_tokens"]), int(said.get("completion_tokens") or 0), int(cached))


def _logprobs(
    said: Mapping[str, Any] | None, decode: Callable[[list[int]], str], alternatives: int
) -> tuple[TokenLogprob, ...] | None:
    """Read log-probabilities by id: vLLM's `token_id:` labels, or llama.cpp's objects."""
    if not said:
        return None

    def read(token: int, logprob: float, top: Iterable[TokenLogprob] = ()) -> TokenLogprob:
        # vLLM reports the chosen token among the alternatives, whether or not it is one of the best.
        best = sorted(top, key=lambda other: -other.logprob)[:alternatives]
        return TokenLogprob(token, decode([token]), float(logprob), tuple(best))

    def spelled_out(token: Mapping[str, Any]) -> TokenLogprob:
        # Its text is what was sent with it: nothing, where it may begin a stop string.
        return read(int(token["id"]), token["logprob"], map(spelled_out, token.get("top_logprobs") or ()))

    def labeled(label: str, logprob: float, top: Mapping[str, float] | None = None) -> TokenLogprob:
        return read(int(label.removeprefix(_ID_LABEL)), logprob, itertools.starmap(labeled, (top or {}).items()))

    if "content" in said:
        return tuple(map(spelled_out, said["content"]))
    tops = said.get("top_logprobs") or [None] * len(said["tokens"])
    return tuple(itertools.starmap(labeled, zip(said["tokens"], said["token_logprobs"], tops, strict=True)))
