"""The options of a generation, checked once."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import wraps
from math import isfinite
from typing import Any, Self, TypeVar

from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.options.values import stop_strings

C = TypeVar("C", bound=type[Any])
_MOST_LOGPROBS = 20
_MOST_BIAS = 100.0


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is drawn. `None` means: as the checkpoint's generation_config says.

    Attributes:
        temperature: 0 is greedy.
        top_p: Nucleus mass in (0, 1].
        top_k: Number of candidates; 0 keeps all.
        min_p: Least probability relative to the best candidate's, in [0, 1].
        repetition_penalty: Above 0; 1 is none. Of the prompt's tokens too.
        frequency_penalty: From -2 to 2; taken off a token's score for each time that it was generated.
        presence_penalty: From -2 to 2; taken off a token's score once it was generated.
        logit_bias: Token ids, as numbers or as text, and what is added to their scores, from -100 to 100. It never
            lets through what a grammar forbids.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Mapping[int, float] | None = None

    def __post_init__(self) -> None:
        for name, low, high, open_low in (
            ("temperature", 0.0, float("inf"), False),
            ("top_p", 0.0, 1.0, True),
            ("top_k", 0.0, float("inf"), False),
            ("min_p", 0.0, 1.0, False),
            ("repetition_penalty", 0.0, float("inf"), True),
            ("frequency_penalty", -2.0, 2.0, False),
            ("presence_penalty", -2.0, 2.0, False),
        ):
            if (value := getattr(self, name)) is not None:
                _check_number(name, value, low, high, open_low=open_low)
        if self.logit_bias is not None:
            object.__setattr__(self, "logit_bias", _biases(self.logit_bias))

    def with_defaults(self, defaults: SamplingParams) -> SamplingParams:
        """Fill every unset option from `defaults`."""
        unset = {f.name: getattr(defaults, f.name) for f in fields(self) if getattr(self, f.name) is None}
        return replace(self, **unset)


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """What one generation is asked for beside its prompt and its grammar.

    Attributes:
        sampling: Unset ones come from the checkpoint.
        max_tokens: Upper bound on generated tokens; None means what is left of the context window.
        stop: Strings that end the text; the string itself is no part of it.
        min_tokens: Before so many tokens, neither an id nor a stop string ends the text. A grammar after which nothing
            else can follow still does.
        seed: Makes sampling reproducible.
        logprobs: None for none, else how many alternatives to report beside each chosen token (0 to 20).
        timeout: Seconds from submission to the last token, time in the queue included; past it the stream raises
            `GenerationTimeoutError`.
    """

    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    min_tokens: int | None = None
    seed: int | None = None
    logprobs: int | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        if self.max_tokens is not None and not (_is_integer(self.max_tokens) and self.max_tokens >= 1):
            raise InvalidRequestError(f"max_tokens must be an integer of at least 1, got {self.max_tokens!r}")
        if self.min_tokens is not None:
            if not _is_integer(self.min_tokens) or self.min_tokens < 0:
                raise InvalidRequestError(f"min_tokens must be an integer of at least 0, got {self.min_tokens!r}")
            if self.max_tokens is not None and self.min_tokens > self.max_tokens:
                raise InvalidRequestError(f"min_tokens={self.min_tokens} is more than max_tokens={self.max_tokens}")
        if self.seed is not None and not _is_integer(self.seed):
            raise InvalidRequestError(f"seed must be an integer, got {self.seed!r}")
        if any(not isinstance(text, str) or not text for text in self.stop):
            raise InvalidRequestError(f"stop strings must be non-empty strings, got {self.stop!r}")
        if self.logprobs is not None and not (_is_integer(self.logprobs) and 0 <= self.logprobs <= _MOST_LOGPROBS):
            raise InvalidRequestError(f"logprobs must be between 0 and {_MOST_LOGPROBS}, got {self.logprobs!r}")
        if self.timeout is not None and not (isinstance(self.timeout, int | float) and self.timeout > 0):
            raise InvalidRequestError(f"timeout must be a number of seconds above 0, got {self.timeout!r}")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Return the options of a generation among the options of a model or a call, which are in one row.

        Args:
            options: Options by `OPTION_NAMES`; others are not looked at, those that are missing are unset.

        Raises:
            InvalidRequestError: A value out of range.
        """
        given = {name: options[name] for name in OPTION_NAMES if name in options}
        given["stop"] = tuple(stop_strings(given.get("stop")))
        given["logprobs"] = asked_logprobs(given.get("logprobs"), given.pop("top_logprobs", None))
        sampling = {name: given.pop(name) for name in _SAMPLING_NAMES if name in given}
        return cls(SamplingParams(**sampling), **given)


_SAMPLING_NAMES = tuple(option.name for option in fields(SamplingParams))
OPTION_NAMES = (
    *_SAMPLING_NAMES,
    *(option.name for option in fields(GenerationOptions) if option.name != "sampling"),
    "top_logprobs",
)
"""The options of a generation as models and calls have them; `logprobs` is a switch there, beside `top_logprobs`."""


def takes_flat_options(request: C) -> C:
    """Let a class of requests take, and tell, the options in one row beside its other arguments, as they once stood.

    Deprecated: each use warns. They stand in the request's `options`.
    """
    make = request.__init__
    names = frozenset(option.name for option in fields(GenerationOptions))

    def warn(what: str) -> None:
        message = f"{what} stands in options, a GenerationOptions, and will not be known beside it"
        warnings.warn(message, DeprecationWarning, stacklevel=3)

    @wraps(make)
    def init(self: Any, *args: Any, **given: Any) -> None:
        if flat := {name: given.pop(name) for name in sorted(names & given.keys())}:
            warn(", ".join(flat))
            given["options"] = replace(given.get("options") or GenerationOptions(), **flat)
        make(self, *args, **given)

    def read(self: Any, name: str) -> Any:
        if name not in names:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        warn(name)
        return getattr(self.options, name)

    request.__init__, request.__getattr__ = init, read
    return request


def merged(own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the options of one call over a model's own."""
    options = {**own, **given}
    if given.get("logprobs") is False and given.get("top_logprobs") is None:
        options["top_logprobs"] = None  # turned off for this call, whatever the model's own options are
    return options


def asked_logprobs(logprobs: bool | None, top_logprobs: int | None) -> int | None:
    """Return `GenerationOptions.logprobs` for the pair that hosted models have; `top_logprobs` alone is enough.

    Raises:
        InvalidRequestError: The two contradict each other.
    """
    if top_logprobs is None:
        return 0 if logprobs else None
    if logprobs is False:
        raise InvalidRequestError("top_logprobs needs logprobs, which is False; leave it out or set it to True")
    return top_logprobs


def _check_number(name: str, value: Any, low: float, high: float, *, open_low: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise InvalidRequestError(f"{name} must be a finite number, got {value!r}")
    if value < low or value > high or (open_low and value == low):
        bounds = f"{'above' if open_low else 'at least'} {low:g}" + (
            "" if high == float("inf") else f" and at most {high:g}"
        )
        raise InvalidRequestError(f"{name} must be {bounds}, got {value!r}")


def _biases(given: Any) -> dict[int, float]:
    """Return biases by token id; JSON has ids as text."""
    if not isinstance(given, Mapping):
        raise InvalidRequestError(f"logit_bias must be a dict of token ids, got {type(given).__name__}")
    biases: dict[int, float] = {}
    for key, bias in given.items():
        token = int(key) if isinstance(key, str) and key.isdecimal() else key
        if not _is_integer(token) or token < 0:
            raise InvalidRequestError(f"logit_bias has {key!r}, which is no token id")
        _check_number(f"logit_bias of {key!r}", bias, -_MOST_BIAS, _MOST_BIAS)
        biases[token] = bias
    return biases


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
