"""No error that leaves a model call looks like text that could not be parsed."""

from __future__ import annotations

import pickle

import pytest

import hermes_runtime.engines.registry
import hermes_runtime.turn  # noqa: F401 - with these come the modules that define further errors
from hermes_runtime.errors import ContextWindowExceededError, EngineError, HermesError, unexpected_errors
from hermes_runtime.literals import LiteralError
from tests.support.failures import FORESEEN, MISREAD, UNFORESEEN


def _kinds(kind: type[HermesError]) -> set[type[HermesError]]:
    return {kind}.union(*map(_kinds, kind.__subclasses__()))


def test_no_typed_error_is_of_a_kind_that_frameworks_misread():
    kinds = {kind for kind in _kinds(HermesError) if kind.__module__.startswith("hermes_runtime")}
    assert len(kinds) > len(FORESEEN)
    # It says that a literal does not parse, to those inside who read one.
    assert {kind for kind in kinds if issubclass(kind, MISREAD)} == {LiteralError}


@pytest.mark.parametrize("name", UNFORESEEN)
def test_what_nobody_foresaw_becomes_an_engine_error_with_its_cause(name):
    error = UNFORESEEN[name]()
    with pytest.raises(EngineError, match=type(error).__name__) as caught, unexpected_errors():
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("name", FORESEEN)
def test_typed_errors_pass_as_they_are(name):
    error = FORESEEN[name]()
    with pytest.raises(HermesError) as caught, unexpected_errors():
        raise error
    assert caught.value is error


def test_an_overflow_keeps_its_numbers_in_a_pickle():
    copied = pickle.loads(pickle.dumps(ContextWindowExceededError(9000, 8192)))
    assert (copied.prompt_tokens, copied.context_window) == (9000, 8192)
