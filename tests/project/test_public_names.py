"""The names that others may count on, written down: whoever adds or removes one does so here too."""

from __future__ import annotations

import importlib

import pytest

from tests.support.places import ROOT

PACKAGES = ("hermes_adapters", "hermes_runtime", "langchain_hermes", "llama_index_hermes")
PUBLIC = {
    "hermes_adapters": [
        "main",
    ],
    "hermes_runtime": [
        "Assistant",
        "CheckpointError",
        "Completion",
        "ContextWindowExceededError",
        "DIALECTS",
        "DeviceMemoryError",
        "Dialect",
        "Engine",
        "EngineError",
        "Generation",
        "GenerationOptions",
        "GenerationRequest",
        "GenerationTimeoutError",
        "HermesError",
        "InvalidRequestError",
        "InvalidToolCall",
        "ModelNotFoundError",
        "Problem",
        "Prompt",
        "SamplingParams",
        "SchemaError",
        "StreamParser",
        "System",
        "TokenDelta",
        "ToolCall",
        "ToolChoice",
        "ToolChoiceError",
        "ToolResult",
        "ToolSpec",
        "Turn",
        "TurnRequest",
        "TurnResult",
        "UnmetDemandError",
        "Usage",
        "User",
        "__version__",
        "build_prompt",
        "load_engine",
        "parse_completion",
    ],
    "hermes_runtime.dialects": [
        "CallShape",
        "DIALECTS",
        "Dialect",
        "resolve_dialect",
    ],
    "hermes_runtime.grammar": [
        "DEFAULT_MAX_CALLS",
        "Grammar",
        "build_grammar",
    ],
    "hermes_runtime.literals": [
        "LiteralError",
        "LiteralScanner",
        "MAX_NESTING",
        "parse_value",
        "scan_value",
    ],
    "hermes_runtime.parser": [
        "Completion",
        "Event",
        "InvalidToolCallEvent",
        "ReasoningDelta",
        "StreamParser",
        "TextDelta",
        "ToolCallDelta",
        "ToolCallEvent",
        "parse_completion",
    ],
    "hermes_runtime.prompt": [
        "ChatMLEncoder",
        "Prompt",
        "build_prompt",
        "turns",
    ],
    "hermes_runtime.turn": [
        "RawTurn",
        "RunningTurn",
        "Turn",
        "TurnFinishReason",
        "TurnRequest",
        "TurnResult",
        "render",
        "turn_request",
    ],
    "langchain_hermes": [
        "ChatHermes",
        "HermesCheckpointError",
        "HermesContextOverflowError",
        "HermesDeviceMemoryError",
        "HermesEngineError",
        "HermesInvalidRequestError",
        "HermesJsonOutputParser",
        "HermesModelNotFoundError",
        "HermesPrompt",
        "HermesSchemaError",
        "HermesTimeoutError",
        "HermesToolChoiceError",
        "HermesToolsOutputParser",
        "HermesUnmetDemandError",
        "__version__",
        "register_provider",
    ],
    "llama_index_hermes": [
        "HermesLLM",
        "HermesOutputParser",
        "NoToolCallError",
        "StructuredOutputError",
        "__version__",
    ],
}


def test_every_package_that_has_a_face_is_written_down():
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")]
    faces = {path for path in files if "__all__" in path.read_text(encoding="utf-8")}
    assert {".".join(path.parent.relative_to(ROOT).parts) for path in faces} == set(PUBLIC)


@pytest.mark.parametrize("package", PUBLIC)
def test_its_names_are_these_and_no_others(package):
    module = importlib.import_module(package)
    assert sorted(module.__all__) == PUBLIC[package]
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize(("package", "name"), [(package, name) for package, names in PUBLIC.items() for name in names])
def test_every_name_is_there(package, name):
    module = importlib.import_module(package)
    assert getattr(module, name) is not None
    assert name in dir(module)


def test_what_is_imported_from_the_runtime_at_first_use_is_its_modules_own():
    import hermes_runtime
    from hermes_runtime import _public

    assert all(getattr(hermes_runtime, name) is getattr(_public, name) for name in _public.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hermes_runtime.nothing
