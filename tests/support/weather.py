"""The tool that most tests have, its call as a model writes it, and a model that calls it."""

from __future__ import annotations

import re

WEATHER = {"Bergen": "9 degrees and light rain", "Ostend": "17 degrees and windy", "Lisbon": "21 degrees and sunny"}
CITIES_ASKED: list[str] = []  # tests that read it take the fixture `cities_asked`, which empties it


def get_weather(city: str) -> str:
    """Get the weather in a city."""
    CITIES_ASKED.append(city)
    return WEATHER.get(city, f"rain in {city}")


def call_block(name="get_weather", /, **arguments):
    """Return a call in the words of the model's card."""
    return f"<tool_call>\n{{'arguments': {arguments!r}, 'name': {name!r}}}\n</tool_call>"


def weather_calls(*cities):
    """Return one call for each city."""
    return "\n".join(call_block(city=city) for city in cities)


def caller(prompt):
    """Call the tool for every city of the last question, then say what came back."""
    asked = prompt.rpartition("<|im_start|>")[0].rpartition("user\n")[2]
    results = re.findall(r'"content": "(.*?)"', asked)
    if results:
        return "So: " + ", ".join(results)
    return "Let me see.\n" + weather_calls(*asked.partition("<")[0].split(" and "))
