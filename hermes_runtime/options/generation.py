"""The options of a generation, checked once."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import isfinite

from hermes_runtime.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is drawn. `None` means: as the checkpoint's generation_config says.

    Attributes:
        temperature: 0 is greedy.
        top_p: Nucleus mass in (0, 1].
        top_k: Number of candidates; 0 keeps all.
        min_p: Least probability relative to the best candidate's, in [0, 1].
        repetition_penalty: Above 0; 1 is none.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None

    def __post_init__(self) -> None:
        for name, low, high, open_low in (
            ("temperature", 0.0, float("inf"), False),
            ("top_p", 0.0, 1.0, True),
            ("top_k", 0.0, float("inf"), False),
            ("min_p", 0.0, 1.0, False),
            ("repetition_penalty", 0.0, float("inf"), True),
        ):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
                raise InvalidRequestError(f"{name} must be a finite number, got {value!r}")
            if value < low or value > high or (open_low and value == low):
                bounds = f"{'above' if open_low else 'at least'} {low:g}" + (
                    "" if high == float("inf") else f" and at most {high:g}"
                )
                raise InvalidRequestError(f"{name} must be {bounds}, got {value!r}")

    def with_defaults(self, defaults: SamplingParams) -> SamplingParams:
        """Fill every unset option from `defaults`."""
        unset = {f.name: getattr(defaults, f.name) for f in fields(self) if getattr(self, f.name) is None}
        return replace(self, **unset)
