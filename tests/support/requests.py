"""Requests from options in one row: those of a generation find their way into the object that carries them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from hermes_runtime.engines.base import GenerationRequest
from hermes_runtime.options.generation import GenerationOptions
from hermes_runtime.turn import TurnRequest

R = TypeVar("R", GenerationRequest, TurnRequest)
_INNER = frozenset(option.name for option in fields(GenerationOptions))


def generation_request(prompt_ids: Sequence[int], **options: Any) -> GenerationRequest:
    return changed(GenerationRequest(tuple(prompt_ids)), **options)


def turn_request(messages: Sequence[Any], **options: Any) -> TurnRequest:
    return changed(TurnRequest(messages), **options)


def changed(request: R, **options: Any) -> R:
    inner = {name: value for name, value in options.items() if name in _INNER}
    outer = {name: value for name, value in options.items() if name not in _INNER}
    return replace(request, **outer, options=replace(request.options, **inner))
