"""Errors about what the model wrote: ValueErrors, as LlamaIndex expects them, and the only ones that are."""

from __future__ import annotations

from hermes_runtime.errors import HermesError


class StructuredOutputError(HermesError, ValueError):
    """The model's answer is no object of the class that was asked for."""


class NoToolCallError(HermesError, ValueError):
    """An answer that should make a call makes none that can run; says so of a call that was cut off or malformed."""
