"""The `hermes-adapters` command as people and scripts use it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from importlib import metadata
from typing import Any

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from hermes_adapters import app as app_module
from hermes_adapters import doctor as doctor_module
from hermes_adapters.app import app
from hermes_adapters.scenarios import SCENARIOS, Called, Returned, Run, Said, Scenario, recorded, shortcomings
from hermes_adapters.tools import LocalTool, load_tool
from hermes_adapters.transcript import Transcript, printable
from hermes_runtime.errors import InvalidRequestError, ModelNotFoundError
from hermes_runtime.messages import ToolCall
from hermes_runtime.weights.kernels.table import choose_kernel
from tests.support.scripted_engine import ScriptedEngine

WEATHER_CALL = '<tool_call>\n{"arguments": {"city": "Faro"}, "name": "weather"}\n</tool_call>'
CITIES_ASKED: list[str] = []


def weather(city: str, days: int = 1) -> str:
    """Get the weather in a city."""
    CITIES_ASKED.append(city)
    return f"{city}: {20 + days} degrees"


def broken(city: str) -> str:
    """Fail always."""
    raise RuntimeError(f"no sensor in {city}")


class Scripted:
    """Runs `hermes-adapters` with an engine that says what the test wrote down."""

    def __init__(self, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self._tokenizer = tokenizer
        self._monkeypatch = monkeypatch
        self.engine: ScriptedEngine

    def script(self, *replies: str, **options: Any) -> ScriptedEngine:
        self.engine = ScriptedEngine(self._tokenizer, replies, **options)
        self._monkeypatch.setattr(app_module, "load_engine", lambda *_, **__: self.engine)
        return self.engine

    def chat(self, *lines: str, options: tuple[str, ...] = ()) -> Any:
        return CliRunner().invoke(app, ["chat", *options], input="".join(f"{line}\n" for line in lines))


@pytest.fixture
def scripted(mistral_tokenizer, monkeypatch):
    return Scripted(mistral_tokenizer, monkeypatch)


def test_chat_streams_answers_and_keeps_the_history(scripted):
    engine = scripted.script("Hello Ada!", "Your name is Ada.")
    result = scripted.chat("I am Ada.", "Who am I?")
    assert result.exit_code == 0, result.output
    assert (
        result.output.index("Hello Ada!") < result.output.index("Who am I?") < result.output.index("Your name is Ada.")
    )
    assert "I am Ada." in engine.prompts[1]
    assert "Hello Ada!" in engine.prompts[1]


def test_chat_runs_the_tool_and_shows_call_and_result(scripted):
    engine = scripted.script(WEATHER_CALL, "It is 21 degrees in Faro.")
    CITIES_ASKED.clear()
    result = scripted.chat("How is Faro?", options=("--tools", "tests.command.test_command:weather"))
    assert result.exit_code == 0, result.output
    assert CITIES_ASKED == ["Faro"]
    assert 'weather(city="Faro")' in result.output
    assert "Faro: 21 degrees" in result.output
    assert "It is 21 degrees in Faro." in result.output
    assert "Faro: 21 degrees" in engine.prompts[1]
    assert "<tool_call>" not in result.output


def test_chat_takes_several_tools_after_one_option(scripted):
    engine = scripted.script("Hello!")
    result = scripted.chat(
        "Hello", options=("--tools", "tests.command.test_command:weather", "tests.command.test_command:broken")
    )
    assert result.exit_code == 0, result.output
    assert "'name': 'weather'" in engine.prompts[0]
    assert "'name': 'broken'" in engine.prompts[0]


def test_chat_tells_the_model_what_a_tool_raised(scripted):
    call = WEATHER_CALL.replace('"weather"', '"broken"')
    engine = scripted.script(call, "The sensor is missing.")
    result = scripted.chat("How is Faro?", options=("--tools", "tests.command.test_command:broken"))
    assert result.exit_code == 0, result.output
    assert "RuntimeError: no sensor in Faro" in engine.prompts[1]


def test_chat_never_runs_a_call_that_cannot_be_read(scripted):
    engine = scripted.script('<tool_call>\n{"arguments": {"city": }\n</tool_call>', "I am sorry.")
    CITIES_ASKED.clear()
    result = scripted.chat("How is Faro?", options=("--tools", "tests.command.test_command:weather"))
    assert result.exit_code == 0, result.output
    assert CITIES_ASKED == []
    assert "Error: malformed" in engine.prompts[1]
    assert "I am sorry." in result.output


def test_chat_stops_a_model_that_calls_tools_forever(mistral_tokenizer, monkeypatch):
    engine = ScriptedEngine(mistral_tokenizer, lambda _: WEATHER_CALL)
    monkeypatch.setattr(app_module, "load_engine", lambda *_, **__: engine)
    result = CliRunner().invoke(app, ["chat", "--tools", "tests.command.test_command:weather"], input="How is Faro?\n")
    assert result.exit_code == 0, result.output
    assert "Stopped after 8 rounds" in result.output
    assert len(engine.requests) == 8


def test_reset_forgets_and_quit_ends_the_chat(scripted):
    engine = scripted.script("Hello Ada!", "I do not know.")
    result = scripted.chat("I am Ada.", "/reset", "/what", "Who am I?", "/quit", "Never asked.")
    assert result.exit_code == 0, result.output
    assert "Ada" not in engine.prompts[1]
    assert "/reset forgets the conversation" in result.output
    assert len(engine.requests) == 2


def test_the_system_prompt_and_sampling_options_reach_the_engine(scripted):
    engine = scripted.script("Ahoy!")
    options = ("--system", "Talk like a pirate.", "--temperature", "0.5", "--top-p", "0.9", "--seed", "7")
    result = scripted.chat("Hello", options=(*options, "--max-tokens", "50"))
    assert result.exit_code == 0, result.output
    request = engine.requests[0]
    assert "Talk like a pirate." in engine.prompts[0]
    asked = request.options
    assert (asked.sampling.temperature, asked.sampling.top_p, asked.seed, asked.max_tokens) == (0.5, 0.9, 7, 50)


def test_ctrl_c_stops_the_answer_and_not_the_program(scripted):
    engine = scripted.script("one two three four five six seven eight", "Back again.", pause_after=3)
    before = signal.getsignal(signal.SIGINT)
    submit = engine.submit

    def interrupt() -> None:
        engine.runs[0].wait_stalled()
        os.kill(os.getpid(), signal.SIGINT)

    def watched(request: Any) -> Any:
        if engine.runs:
            engine.pause_after = None  # the second answer runs to its end
            return submit(request)
        generation = submit(request)
        threading.Thread(target=interrupt, daemon=True).start()
        return generation

    engine.submit = watched  # type: ignore[method-assign]
    result = scripted.chat("Count.", "Are you there?")
    assert result.exit_code == 0, result.output
    assert "Stopped." in result.output
    assert "eight" not in result.output
    assert "Back again." in result.output
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def interruptible():
    """Python's own handler of Ctrl-C, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_in_a_tool_forgets_the_question_and_goes_on(scripted, monkeypatch):
    engine = scripted.script(WEATHER_CALL, "Back again.")
    monkeypatch.setattr(LocalTool, "run", lambda *_: signal.raise_signal(signal.SIGINT))
    result = scripted.chat("How is Faro?", "Are you there?", options=("--tools", "tests.command.test_command:weather"))
    assert result.exit_code == 0, result.output
    assert "Back again." in result.output
    assert "Faro" not in engine.prompts[1]


def test_an_answer_cut_by_its_length_is_kept_and_named(scripted):
    engine = scripted.script("one two three four five six", "seven", pause_after=None)
    result = scripted.chat("Count.", "Go on.", options=("--max-tokens", "3"))
    assert result.exit_code == 0, result.output
    assert "length limit" in result.output
    assert "one two three" in engine.prompts[1]


def test_a_failing_turn_is_one_red_line_and_the_chat_goes_on(scripted):
    scripted.script("Short and fine.", context_window=60)
    result = scripted.chat("word " * 100, "Hello")
    assert "ContextWindowExceededError: the prompt has" in result.output
    assert "Short and fine." in result.output
    assert "Traceback" not in result.output
    assert result.exit_code == 1, "a script must see that a question was not answered"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chat", "--temperature", "-1"], "temperature must be at least 0"),
        (["chat", "--tools", "weather"], "module:function"),
        (["chat", "--tools", "no_such_module:weather"], "no_such_module"),
        (["chat", "--tools", "tests.command.test_command:no_such_function"], "no_such_function"),
        (["chat", "--tools", "tests.command.test_command:CITIES_ASKED"], "no function but a list"),
        (["demo", "--framework", "haystack"], "unknown framework 'haystack'"),
        (["doctor", "--kernel", "abacus"], "unknown kernel 'abacus'"),
        (["doctor", "--model", "./nowhere"], "./nowhere"),
    ],
)
def test_bad_options_are_one_line_before_anything_is_loaded(arguments, message, monkeypatch):
    monkeypatch.setattr(app_module, "load_engine", lambda *_, **__: pytest.fail("nothing should be loaded"))
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_doctor_names_versions_device_kernels_and_the_models_need():
    result = CliRunner().invoke(app, ["doctor", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    default = choose_kernel(None, torch.device("cpu"))
    for part in (
        "torch",
        "llguidance",
        "cpu",
        "✓ the default",
        "tiny-hermes: 4-bit AWQ",
        f"to load with kernel {default}",
    ):
        assert part in result.output


def test_doctor_fails_where_the_model_does_not_fit(monkeypatch):
    monkeypatch.setattr(doctor_module, "free_bytes", lambda _: 1_000_000)
    result = CliRunner().invoke(app, ["doctor", "--device", "cpu"])
    assert result.exit_code == 1
    assert "too little" in result.output


def test_doctor_fails_where_a_package_is_missing_and_says_what_to_install(monkeypatch):
    def version(name: str) -> str:
        if name == "llguidance":
            raise metadata.PackageNotFoundError(name)
        return metadata.version(name)

    monkeypatch.setattr(doctor_module, "installed_version", version)
    monkeypatch.setenv("COLUMNS", "160")
    result = CliRunner().invoke(app, ["doctor", "--device", "cpu"])
    assert result.exit_code == 1
    assert "pip install 'llguidance>=" in result.output


def test_doctor_weighs_a_model_that_is_not_here_without_downloading_it(monkeypatch, fake_hub):
    monkeypatch.setattr(doctor_module, "weigh_download", lambda _: 4_150_000_000)
    monkeypatch.setattr(doctor_module, "free_bytes", lambda _: 8_000_000_000)
    result = CliRunner().invoke(app, ["doctor", "--device", "cpu", "--model", "someone/something"])
    assert result.exit_code == 0, result.output
    assert "the first use downloads 4.15 GB" in result.output
    monkeypatch.setattr(doctor_module, "free_bytes", lambda _: 4_900_000_000)
    assert CliRunner().invoke(app, ["doctor", "--device", "cpu", "--model", "someone/something"]).exit_code == 1
    assert fake_hub.asked == []


def test_a_missing_model_is_one_line_without_a_traceback(monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise ModelNotFoundError("no folder and no hub model is called 'nowhere/nothing'")

    monkeypatch.setattr(app_module, "load_engine", fail)
    result = CliRunner().invoke(app, ["chat", "--model", "nowhere/nothing"])
    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["ModelNotFoundError: no folder and no hub model is called 'nowhere/nothing'"]


def test_a_tool_is_described_by_its_hints_and_docstring():
    tool = load_tool("tests.command.test_command:weather")
    assert tool.spec.name == "weather"
    assert tool.spec.description == "Get the weather in a city."
    assert tool.spec.parameters == {
        "properties": {"city": {"type": "string"}, "days": {"default": 1, "type": "integer"}},
        "required": ["city"],
        "type": "object",
    }


def test_a_tool_checks_its_arguments_before_it_runs():
    tool = load_tool("tests.command.test_command:weather")
    CITIES_ASKED.clear()
    wrong = tool.run(ToolCall("1", "weather", {"city": "Faro", "days": "many"}))
    unknown = tool.run(ToolCall("2", "weather", {"city": "Faro", "unit": "K"}))
    assert wrong.is_error
    assert "days" in wrong.content
    assert unknown.is_error
    assert "unit" in unknown.content
    assert CITIES_ASKED == []
    assert tool.run(ToolCall("3", "weather", {"city": "Faro"})).content == "Faro: 21 degrees"


def test_a_parameter_may_have_any_name():
    def tool(schema: str, model_config: int, _private: bool = True) -> str:
        """Take names that pydantic keeps for itself."""
        return f"{schema} {model_config} {_private}"

    local = LocalTool.of(tool)
    assert list(local.spec.parameters["properties"]) == ["schema", "model_config", "_private"]
    assert local.run(ToolCall("1", "tool", {"schema": "a", "model_config": 2})).content == "a 2 True"


def test_a_signature_without_names_is_refused():
    def tool(*values: int) -> int:
        """Add."""
        return sum(values)

    with pytest.raises(InvalidRequestError, match="values"):
        LocalTool.of(tool)


def test_what_a_model_writes_cannot_steer_the_terminal():
    assert printable("red \x1b[31m bell \x07 line\nnext\x9b1A") == "red [31m bell  line\nnext1A"
    console = Console(record=True, width=60)
    transcript = Transcript(console)
    transcript.said("[bold]not markup[/bold] \x1b[2J")
    transcript.end_of_text()
    assert "[bold]not markup[/bold] [2J" in console.export_text()


WEATHER_SCENARIO = Scenario("weather", "How is Faro?", (Called("weather", {"city": "Faro"}),), ("21",))
GOOD_RUN = (Called("weather", {"city": "Faro"}), Returned("weather", "21 degrees"), Said("It is "), Said("21 degrees."))


def test_a_run_that_did_it_lacks_nothing():
    assert shortcomings(WEATHER_SCENARIO, Run(GOOD_RUN, (Called("weather", {"city": "Faro"}),))) == []


@pytest.mark.parametrize(
    ("events", "executed", "message"),
    [
        ((Said("It is 21 degrees."),), (), "expected the call"),
        (GOOD_RUN, (), "ran []"),
        (GOOD_RUN, (Called("weather", {"city": "Rome"}),), "unexpected call weather"),
        (GOOD_RUN, (Called("weather", {"city": "Faro"}),) * 2, "unexpected call weather"),
        (GOOD_RUN[:1] + GOOD_RUN[2:], (Called("weather", {"city": "Faro"}),), "0 results came back"),
        (GOOD_RUN[:2], (Called("weather", {"city": "Faro"}),), "no answer"),
        (GOOD_RUN[:3], (Called("weather", {"city": "Faro"}),), "the answer lacks '21'"),
        (GOOD_RUN[:2] + GOOD_RUN, (Called("weather", {"city": "Faro"}),) * 2, "not made in one turn"),
        ((GOOD_RUN[3], *GOOD_RUN[:2], GOOD_RUN[2]), (Called("weather", {"city": "Faro"}),), "the answer lacks '21'"),
    ],
)
def test_a_run_that_only_looks_right_is_found_out(events, executed, message):
    assert any(message in lack for lack in shortcomings(WEATHER_SCENARIO, Run(events, executed)))


def test_recorded_tools_keep_their_name_signature_and_result():
    import inspect

    executed: list[Called] = []
    (tool,) = recorded([weather], executed)
    assert tool(city="Faro") == "Faro: 21 degrees"
    assert executed == [Called("weather", {"city": "Faro"})]
    assert (tool.__name__, tool.__doc__) == (weather.__name__, weather.__doc__)
    assert inspect.signature(tool) == inspect.signature(weather)


class FakeAgent:
    """An agent of no framework that calls what it is told to."""

    NAME = "Fake"
    TITLE = 'fake("{model}")'

    def __init__(self, *, knows: bool) -> None:
        self._knows = knows

    async def ask(self, _model: str, tools: Any, question: str) -> Any:
        functions = {tool.__name__: tool for tool in tools}
        scenario = next(scenario for scenario in SCENARIOS if scenario.question == question)
        for call in scenario.calls:
            yield call
        for call in scenario.calls:
            yield Returned(call.name, str(functions[call.name](**call.arguments)))
        yield Said("Hello! " + " ".join(scenario.answer_has) if self._knows else "I do not know.")


def test_the_demo_says_what_to_install_where_a_framework_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "langchain.agents", None)
    monkeypatch.delitem(sys.modules, "hermes_adapters.agents.langchain", raising=False)
    result = CliRunner().invoke(app, ["demo", "--framework", "langchain"])
    assert result.exit_code == 1
    assert "the demo needs langchain" in result.stderr
    assert "pip install 'hermes-adapters[all]'" in result.stderr


@pytest.mark.parametrize(("knows", "exit_code"), [(True, 0), (False, 1)])
def test_the_demo_succeeds_only_if_every_answer_is_right(knows, exit_code, scripted, monkeypatch):
    scripted.script()
    monkeypatch.setattr(app_module, "load_agent", lambda _: FakeAgent(knows=knows))
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == exit_code, result.output
    assert ("✗" in result.output) == (not knows)
    for scenario in SCENARIOS:
        assert scenario.question in result.output
        assert scenario.title in result.output


def test_the_version_is_that_of_the_distribution():
    result = CliRunner().invoke(app, ["--version"])
    assert result.output.strip() == f"hermes-adapters {metadata.version('hermes-adapters')}"


def test_scenarios_show_one_call_two_calls_and_none():
    assert {len(scenario.calls) for scenario in SCENARIOS} == {0, 1, 2}


def test_the_demo_runs_with_the_embedded_model():
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 0, result.output
    assert result.output.count("✓") == 2 * len(SCENARIOS)
