"""Faults planted where the worker passes through: every stream ends, and the engine works on or is closed."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
import torch

from hermes_runtime.engines.local import engine as engine_module
from hermes_runtime.engines.local.batch.costs import PassCosts
from hermes_runtime.engines.local.batch.limits import EngineLimits
from hermes_runtime.engines.local.batch.scheduler import Scheduler
from hermes_runtime.engines.local.batch.sequence import Sequence
from hermes_runtime.engines.local.cache.pool import SlotPool
from hermes_runtime.engines.local.cache.slots import SlotCache
from hermes_runtime.engines.local.engine import LocalEngine
from hermes_runtime.engines.streams.detokenizer import Detokenizer, StopScanner
from hermes_runtime.errors import DeviceMemoryError, EngineError, HermesError
from hermes_runtime.grammar import build_grammar
from hermes_runtime.options.generation import SamplingParams
from hermes_runtime.weights.loader import load_checkpoint
from tests.support.requests import generation_request

PATIENCE = 120  # seconds until a stream that does not end fails the test
CALL = build_grammar(
    [{"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}],
    tool_choice="required",
).text
# Where the fault is, and at which call: early and late enough that several streams are under way.
PLACES = {
    "taking what arrived": (LocalEngine, "_receive", 2),
    "looking at deadlines": (Sequence, "check_deadline", 9),
    "admission": (LocalEngine, "_admit", 3),
    "asking for room": (LocalEngine, "_has_room", 3),
    "choosing a slot": (SlotPool, "place", 3),
    "looking a prefix up": (SlotPool, "holds", 2),
    "starting": (Sequence, "start", 2),
    "fitting the cache": (LocalEngine, "_fit", 4),
    "planning": (Scheduler, "plan", 4),
    "drafting": (Sequence, "plan_draft", 4),
    "preparing a pass": (SlotCache, "prepare", 3),
    "computing": (LocalEngine, "_forward", 3),
    "noting what was computed": (Sequence, "note_prompt_computed", 3),
    "settling": (Sequence, "settle", 5),
    "sampling": (Sequence, "_sample", 5),
    "taking a token": (Sequence, "_take", 7),
    "detokenizing": (Detokenizer, "feed", 7),
    "noting costs": (Scheduler, "note", 3),
    "learning costs": (PassCosts, "note", 3),
    "releasing a slot": (SlotPool, "release", 1),
    "ending": (Sequence, "finish", 1),
    "ending the text": (Detokenizer, "flush", 1),
    "ending the stop strings": (StopScanner, "flush", 1),
}


def request(number, **options):
    return generation_request(
        (1, *range(200 + number, 240 + number)),
        sampling=SamplingParams(temperature=1.0),
        seed=number,
        max_tokens=24,
        constraint=CALL if number % 3 == 0 else None,
        **options,
    )


def plant(monkeypatch, owner, name, at, error):
    """Let the call of that number fail, once; return how often it was called."""
    work, calls = getattr(owner, name), []

    def failing(*args, **kwargs):
        calls.append(name)
        if len(calls) == at:
            raise error
        return work(*args, **kwargs)

    monkeypatch.setattr(owner, name, failing)
    return calls


def read_all(engine, count):
    """Read streams in threads of their own; return how each ended."""
    outcomes = {}

    def read(number):
        try:
            outcomes[number] = [delta.finish_reason for delta in engine.submit(request(number))][-1]
        except HermesError as error:
            outcomes[number] = error

    readers = [threading.Thread(target=read, args=(number,), daemon=True) for number in range(count)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(PATIENCE)
    assert len(outcomes) == count, "some streams never end"
    return list(outcomes.values())


@pytest.fixture
def engine():
    checkpoint = load_checkpoint("tiny-hermes", progress=False)
    made = LocalEngine(checkpoint, limits=EngineLimits(slots=4, waiting=64, chunk=64))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("place", "error"),
    [(place, RuntimeError("planted")) for place in PLACES]
    + [(place, MemoryError("planted")) for place in ("computing", "choosing a slot", "planning", "ending the text")],
)
def test_a_fault_ends_streams_with_an_error_and_never_leaves_them_waiting(engine, monkeypatch, place, error):
    with monkeypatch.context() as patch:
        owner, name, at = PLACES[place]
        calls = plant(patch, owner, name, at, error)
        outcomes = read_all(engine, 6)
    assert len(calls) >= at
    errors = [outcome for outcome in outcomes if outcome not in ("stop", "length")]
    assert all(isinstance(error, EngineError | DeviceMemoryError) for error in errors)
    if engine.is_closed:
        with pytest.raises(EngineError, match="is closed"):
            engine.submit(request(1))
    else:
        assert read_all(engine, 2)[0] in ("stop", "length")
    engine.close()


def test_a_device_that_failed_closes_the_engine_and_says_what_to_do(engine, monkeypatch):
    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    plant(monkeypatch, LocalEngine, "_forward", 3, error)
    outcomes = read_all(engine, 6)
    assert any(isinstance(outcome, EngineError) for outcome in outcomes)
    assert all("restart the process" in str(outcome) for outcome in outcomes if isinstance(outcome, EngineError))
    assert engine.is_closed


def test_a_failed_pass_keeps_no_memory_while_its_error_stands_unread(engine, monkeypatch):
    tensors = []
    forward = LocalEngine._forward

    def run_out(self, *args):
        planted = torch.empty(1000)
        tensors.append(weakref.ref(planted))
        raise torch.OutOfMemoryError(f"full of {len(planted)}")

    with monkeypatch.context() as patch:
        patch.setattr(engine_module.LocalEngine, "_forward", run_out)
        unread = [engine.submit(request(number)) for number in range(4)]
        for generation in unread[:1]:
            with pytest.raises(DeviceMemoryError):
                list(generation)
        for generation in unread[1:]:
            while generation._channel._error is None:
                threading.Event().wait(0.01)
        gc.collect()
        assert len(tensors) >= 4
        assert not [1 for tensor in tensors if tensor() is not None]
    assert LocalEngine._forward is forward
    assert read_all(engine, 1)[0] in ("stop", "length")
