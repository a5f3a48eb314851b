"""What one call of the model depends on: its fields, what was bound or passed for this call, and the conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hermes_runtime.dialects import resolve_dialect
from hermes_runtime.engines.base import GenerationRequest
from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.grammar import DEFAULT_MAX_CALLS
from hermes_runtime.messages import Message
from hermes_runtime.options.generation import SamplingParams
from hermes_runtime.options.values import stop_strings
from hermes_runtime.turn import TurnRequest, asked_logprobs
from langchain_hermes._tools import response_schema, tool_specs

if TYPE_CHECKING:
    from langchain_hermes._fields import HermesOptions

_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
_PER_CALL = frozenset(
    (
        *_SAMPLING,
        "model",
        "dialect",
        "max_tokens",
        "stop",
        "seed",
        "timeout",
        "max_retries",
        "constrained",
        "max_repairs",
        "logprobs",
        "top_logprobs",
    )
)
_OF_TOOLS = frozenset(("tools", "tool_choice", "parallel_tool_calls", "max_calls", "response_format"))
_OF_FORM = frozenset(("regex", "choices"))
# Bound by chains of this package that check the answer themselves.
_OF_CHAINS = frozenset(("allow_unmet",))
# LangChain's own, consumed before or beside the model: which way to stream, and what tracers are told.
_OF_LANGCHAIN = frozenset(("stream", "ls_structured_output_format", "structured_output_format"))
OF_CALLS = _PER_CALL | _OF_TOOLS | _OF_FORM
"""The options that a call takes."""
BESIDE_OPTIONS = _OF_CHAINS | _OF_LANGCHAIN
"""What calls have beside the options."""


class CallOptions:
    """The fields of a model with the options of one call, by their own names, laid over them."""

    def __init__(self, model: HermesOptions, given: Mapping[str, Any]) -> None:
        self._model = model
        self._given = given

    def __getitem__(self, name: str) -> Any:
        return self._given[name] if name in self._given else getattr(self._model, name)

    def turn_request(self, messages: Sequence[Message], stop: Sequence[str] | str | None) -> TurnRequest:
        """Return the turn to run.

        Raises:
            InvalidRequestError: An option that cannot be honored.
        """
        self.check()
        return TurnRequest(
            messages=messages,
            tools=tool_specs(self._given.get("tools", ())),
            tool_choice=self._given.get("tool_choice"),
            parallel_tool_calls=self._given.get("parallel_tool_calls", True),
            max_calls=self._given.get("max_calls", DEFAULT_MAX_CALLS),
            schema=response_schema(self._given.get("response_format")),
            regex=self._given.get("regex"),
            choices=self._given.get("choices"),
            dialect=self["dialect"],
            constrained=self["constrained"],
            sampling=self._sampling(),
            max_tokens=self["max_tokens"],
            stop=self._stop(stop),
            seed=self["seed"],
            timeout=self["timeout"],
            logprobs=self._logprobs(),
            max_repairs=self["max_repairs"],
            allow_unmet=self._given.get("allow_unmet", False),
        )

    def check(self) -> None:
        """Refuse what no call could honor, without a conversation or an engine.

        Raises:
            InvalidRequestError: Names the option and its value.
        """
        resolve_dialect(self["dialect"])
        for name, least in {"max_retries": self["max_retries"] or 0, "max_repairs": self["max_repairs"]}.items():
            if isinstance(self[name], bool) or not isinstance(least, int) or least < 0:
                raise InvalidRequestError(f"{name} must be an integer of at least 0, got {self[name]!r}")
        switches = {"constrained": self["constrained"], **self._given}
        for name in ("constrained", "parallel_tool_calls", "logprobs"):
            if not isinstance(switches.get(name, True), bool):
                raise InvalidRequestError(f"{name} must be True or False, got {switches[name]!r}")
        # A request of any prompt: the engines' own checks are the only ones.
        GenerationRequest(
            prompt_ids=(0,),
            sampling=self._sampling(),
            stop=self._stop(None),
            max_tokens=self["max_tokens"],
            logprobs=self._logprobs(),
            timeout=self["timeout"],
        )

    def _sampling(self) -> SamplingParams:
        return SamplingParams(**{name: self[name] for name in _SAMPLING})

    def _stop(self, stop: Sequence[str] | str | None) -> tuple[str, ...]:
        return tuple(stop_strings(self["stop"] if stop is None else stop))

    def _logprobs(self) -> int | None:
        # Turned off for this call, whatever the model's own options are.
        is_off = self._given.get("logprobs") is False and "top_logprobs" not in self._given
        return None if is_off else asked_logprobs(self["logprobs"], self["top_logprobs"])
