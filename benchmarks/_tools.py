"""Six ordinary tools with bounded arguments, so that a random model writes calls of ordinary size."""

from __future__ import annotations

from typing import Any


def _tool(name: str, description: str, **properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


_CITY = {"type": "string", "enum": ["Brest", "Lorient", "Roscoff", "Saint-Malo"]}
_DATE = {"type": "string", "format": "date", "description": "Day in ISO form, for example 2026-05-17."}

TOOLS = [
    _tool(
        "get_weather_forecast",
        "Get the weather forecast of a city for the next days: temperature, wind, rain and a short summary.",
        city=_CITY,
        days={"type": "integer", "minimum": 1, "maximum": 9, "description": "Days to look ahead."},
        unit={"type": "string", "enum": ["celsius", "fahrenheit"]},
    ),
    _tool(
        "search_ferries",
        "Search ferry connections between two harbors. Returns departure and arrival times and the fare of each.",
        origin=_CITY,
        destination=_CITY,
        date=_DATE,
        passengers={"type": "integer", "minimum": 1, "maximum": 8},
    ),
    _tool(
        "convert_currency",
        "Convert an amount of money from one currency to another at the rate of today's close.",
        amount={"type": "integer", "minimum": 1, "maximum": 9999},
        source={"type": "string", "enum": ["EUR", "GBP", "USD", "CHF"]},
        target={"type": "string", "enum": ["EUR", "GBP", "USD", "CHF"]},
    ),
    _tool(
        "create_calendar_event",
        "Create an event in the user's calendar. Events never overlap: a conflict is reported and nothing is created.",
        calendar={"type": "string", "enum": ["work", "family", "travel"]},
        date=_DATE,
        start_hour={"type": "integer", "minimum": 0, "maximum": 23},
        is_private={"type": "boolean", "description": "Whether others see only that the time is taken."},
    ),
    _tool(
        "get_tide_table",
        "Get high and low water of a harbor for one day, with heights in meters above chart datum and the coefficient.",
        harbor=_CITY,
        date=_DATE,
    ),
    _tool(
        "book_hotel_room",
        "Book a room in a hotel near the harbor. The booking can be cancelled without charge until the day before.",
        city=_CITY,
        check_in=_DATE,
        nights={"type": "integer", "minimum": 1, "maximum": 14},
        room={"type": "string", "enum": ["single", "double", "family"]},
        breakfast={"type": "boolean"},
    ),
]

SYSTEM = (
    "You plan journeys along the coast of Brittany for people who travel without a car. Look things up before you "
    "answer, use one tool at a time, keep the traveler's budget in mind, and never guess a departure or a tide."
)
QUESTION = "I would like to sail from Roscoff with two friends next weekend. What do I need to know, and what to book?"
REPORT = (
    '{{"status": "ok", "request": {number}, "source": "harbor office", "valid_until": "2026-05-{day:02}T18:00:00", '
    '"items": [{{"time": "06:40", "value": 4.2, "note": "light wind from the west"}}, {{"time": "13:05", "value": 7.9, '
    '"note": "rain after noon"}}], "remark": "confirm by telephone before departure"}}'
)
"""What a tool answers, about a hundred tokens; to be formatted with `number` and `day`."""
