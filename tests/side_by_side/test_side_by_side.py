"""Whether other people's code returns the same with our classes as with hosted ones, and whether we would see it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("langchain_openai", reason="hosted classes have an environment of their own")
pytest.importorskip("llama_index.llms.openai", reason="hosted classes have an environment of their own")
pytest.importorskip("deepagents", reason="hosted classes have an environment of their own")

from tests.side_by_side.meant import MEANT
from tests.side_by_side.scenario import SCENARIOS, Scenario
from tests.side_by_side.script import BROKEN, OVERFLOW, Failure, call, value
from tests.side_by_side.sides import HOSTED_AND_OURS

# Other people's code is played as it is, what is deprecated in it included.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]
for path in sorted(Path(__file__).parent.glob("use_*.py")):
    import_module(f"tests.side_by_side.{path.stem}")


@pytest.mark.parametrize("name", SCENARIOS)
def test_ours_does_as_the_hosted_class_does(name):
    scenario = SCENARIOS[name]
    hosted, ours = scenario.play()
    if fault := scenario.fault(hosted, ours, is_meant=name in MEANT):
        pytest.fail(fault, pytrace=False)


@pytest.mark.parametrize("framework", HOSTED_AND_OURS)
def test_the_scenarios_are_there(framework):
    assert sum(scenario.framework == framework for scenario in SCENARIOS.values()) > 300


def test_every_difference_that_is_meant_belongs_to_a_scenario_and_has_a_reason():
    assert MEANT.keys() <= SCENARIOS.keys()
    assert all(reason.endswith(".") for reason in MEANT.values())


# Whether a difference would be seen.

OURS = tuple(ours for _, ours in HOSTED_AND_OURS.values())


def _ask(make):
    model = make()
    return (model.invoke if hasattr(model, "invoke") else model.complete)("Hello")


def _fault(run, replies=("One.", "Two."), *, framework="langchain", is_meant=False, raises=None):
    scenario = Scenario("a scenario", framework, replies, run, raises)
    return scenario.fault(*scenario.play(), is_meant=is_meant)


@pytest.mark.parametrize("framework", HOSTED_AND_OURS)
def test_what_is_the_same_has_no_fault(framework):
    assert _fault(lambda make: str(_ask(make)) and "said", framework=framework) is None


@pytest.mark.parametrize("framework", HOSTED_AND_OURS)
def test_another_result_is_seen(framework):
    assert "they differ" in _fault(lambda make: [_ask(make), isinstance(make, OURS)], framework=framework)


@pytest.mark.parametrize("framework", HOSTED_AND_OURS)
def test_one_more_request_is_seen(framework):
    def run(make):
        return "said" if isinstance(make, OURS) and _ask(make) and _ask(make) else bool(_ask(make)) and "said"

    assert "they differ" in _fault(run, framework=framework)


@pytest.mark.parametrize("framework", HOSTED_AND_OURS)
def test_another_error_is_seen(framework):
    def run(make):
        raise (KeyError if isinstance(make, OURS) else ValueError)("wrong")

    assert "they differ" in _fault(run, framework=framework, raises="ValueError")


@pytest.mark.parametrize("framework", HOSTED_AND_OURS)
@pytest.mark.parametrize("kind", ["context overflow", "timeout", "bad request", "engine"])
def test_failures_of_the_backend_are_of_one_kind_on_both_sides(framework, kind):
    assert _fault(_ask, [Failure(kind)], framework=framework, raises=kind) is None


def test_an_error_that_a_scenario_is_not_about_shows_nothing():
    assert "both fail" in _fault(_ask, [BROKEN])
    assert "both fail" in _fault(_ask, [BROKEN], raises="context overflow")
    assert "both fail" in _fault(_ask, ["One."], raises="engine")


def test_a_script_that_is_too_short_is_a_fault_even_where_code_swallows_it():
    def run(make):
        try:
            return _ask(make)
        except Exception:  # noqa: BLE001 - as careless code does
            return None

    assert "no reply 1" in _fault(run, [])


def test_a_difference_that_is_meant_is_none_until_it_is_gone():
    assert _fault(lambda make: isinstance(make, OURS), is_meant=True) is None
    assert "differ no more" in _fault(lambda make: "the same", is_meant=True)


def test_what_a_request_says_is_heard_on_both_sides():
    def run(make):
        return [_ask(make), "Hello" in make.heard]

    assert _fault(run) is None
    assert _fault(lambda make: [_ask(make), "Goodbye" in make.heard]) is None
    hosted, ours = Scenario("a scenario", "langchain", ["One."], run).play()
    assert hosted.result[1] is ours.result[1] is True


def test_an_object_comes_as_text_or_as_a_call_as_it_was_asked_for():
    tool = {"name": "person", "description": "A person.", "parameters": {"type": "object", "properties": {}}}

    def run(make):
        return [make().invoke("In JSON?"), make().bind_tools([tool], tool_choice="any").invoke("Call.")]

    scenario = Scenario("a scenario", "langchain", [value(name="Anna"), value(name="Anna")], run)
    hosted, ours = scenario.play()
    assert hosted == ours
    assert hosted.result[1]["calls"] == [["person", {"name": "Anna"}]]


def test_each_run_begins_anew():
    scenario = Scenario("a scenario", "langchain", [call("add", a=1), OVERFLOW], lambda make: _ask(make).tool_calls[0])
    assert scenario.play() == scenario.play()
