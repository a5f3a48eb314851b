"""What every language's grammar of a turn allows and refuses."""

from __future__ import annotations

import pytest

from hermes_runtime.messages import ToolChoice, ToolSpec

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
DAYS = {"type": "object", "properties": {"days": {"type": "integer", "minimum": 1}}, "required": ["days"]}
WEATHER, FORECAST = ToolSpec("weather", "", CITY), ToolSpec("forecast", "", DAYS)
TOOLS = [WEATHER, FORECAST]
WEATHER_CALL = '<tool_call>\n{"arguments": {"city": "Bonn"}, "name": "weather"}\n</tool_call>'
FORECAST_CALL = '<tool_call>\n{"arguments": {"days": 3}, "name": "forecast"}\n</tool_call>'
NAME_FIRST_CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bonn"}}\n</tool_call>'


class TurnGrammarContract:
    """Subclasses say what their language's grammars accept."""

    @staticmethod
    def accepts(text, tools=(), **options):
        """Whether the grammar that `build_grammar` makes of these matches the text as a whole."""
        raise NotImplementedError

    @pytest.mark.parametrize("dialect", ["card", "json_args_first", "name_first", "scratch_pad"])
    def test_the_dialect_fixes_the_key_order(self, dialect):
        arguments_first = dialect in ("card", "json_args_first")
        assert self.accepts(WEATHER_CALL, TOOLS, dialect=dialect) is arguments_first
        assert self.accepts(NAME_FIRST_CALL, TOOLS, dialect=dialect) is not arguments_first

    def test_required_is_calls_alone(self):
        assert self.accepts(WEATHER_CALL, TOOLS, tool_choice="any")
        assert self.accepts(f"{FORECAST_CALL}\n{WEATHER_CALL}", TOOLS, tool_choice="required")
        for text in ("", "Hello", f" {WEATHER_CALL}", f"{WEATHER_CALL}\n"):
            assert not self.accepts(text, TOOLS, tool_choice="required")

    def test_a_scratch_pad_may_precede_required_calls_and_holds_no_tag(self):
        def accepted(text: str) -> bool:
            return self.accepts(text, TOOLS, tool_choice="required", dialect="scratch_pad")

        assert accepted(NAME_FIRST_CALL)
        assert accepted(f"<scratch_pad>\nGoal: know {{}} </scratch>\n</scratch_pad>\n{NAME_FIRST_CALL}")
        assert accepted(f"<scratch_pad>\nGoal: know {{}} </scratch>\n</<</scratch_pad>\n{NAME_FIRST_CALL}")
        assert not accepted("<scratch_pad>\nGoal: know\n</scratch_pad>")
        assert not accepted(f"<scratch_pad>{NAME_FIRST_CALL}</scratch_pad>\n{NAME_FIRST_CALL}")
        assert not accepted(f"<scratch_pad></scratch_pad> or\n</scratch_pad>\n{NAME_FIRST_CALL}")

    def test_named_tools_are_the_only_ones(self):
        assert self.accepts(WEATHER_CALL, TOOLS, tool_choice="weather")
        assert not self.accepts(FORECAST_CALL, TOOLS, tool_choice="weather")
        allowed = ToolChoice("auto", ("forecast",))
        assert self.accepts("Hi", TOOLS, tool_choice=allowed)
        assert self.accepts(FORECAST_CALL, TOOLS, tool_choice=allowed)
        assert not self.accepts(WEATHER_CALL, TOOLS, tool_choice=allowed)

    def test_the_number_of_calls_is_bounded(self):
        two = f"{WEATHER_CALL}\n{FORECAST_CALL}"
        assert not self.accepts(two, TOOLS, parallel_tool_calls=False)
        assert self.accepts(two, TOOLS, max_calls=2)
        assert not self.accepts(f"{two}\n{WEATHER_CALL}", TOOLS, max_calls=2)

    def test_every_choice_is_accepted_whole(self):
        choices = ["New", "New York", "ö", 'a "b" \\ /.*/', "<tool_call>", "x\ny\x7f\x85\u2028z", "[^-]{2}\U000e0001"]
        assert all(self.accepts(choice, choices=choices) for choice in choices)

    def check_final_form(self, form, right, wrong):
        """Alone and beside calls."""
        assert self.accepts(right, **form)
        assert not self.accepts(wrong, **form)
        assert not self.accepts(f"Here: {right}", **form)
        for text, accepted in [(right, True), (wrong, False), (WEATHER_CALL, True), ("Hello", False)]:
            assert self.accepts(text, TOOLS, **form) is accepted
        assert not self.accepts(right, TOOLS, tool_choice="required", **form)
        assert self.accepts(WEATHER_CALL, TOOLS, tool_choice="required", **form)
        assert self.accepts(right, TOOLS, tool_choice="none", **form)
        assert not self.accepts(WEATHER_CALL, TOOLS, tool_choice="none", **form)
