"""Tools that demos are made of, asked for in the way people really speak. Always part of training, never held out."""

# ruff: noqa: E501 - a table is read by its rows

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiny_hermes.toolbox import Arguments, Parameter, Tool, make_spec
from tiny_hermes.vocabulary import CITIES, COUNTRIES, CURRENCIES, LANGUAGES, PEOPLE, Values

_Operation = tuple[str, str, str, str, Callable[[Any, Any], int | float]]
_OPERATIONS: tuple[_Operation, ...] = (
    ("add", "+", "plus", "add {} and {}", lambda a, b: a + b),
    ("add", "+", "plus", "add {1} to {0}", lambda a, b: a + b),
    ("multiply", "*", "times", "multiply {} by {}", lambda a, b: a * b),
    ("multiply", "x", "times", "multiply {} and {}", lambda a, b: a * b),
    ("subtract", "-", "minus", "subtract {1} from {0}", lambda a, b: a - b),
    ("divide", "/", "divided by", "divide {} by {}", lambda a, b: round(a / (b or 1), 2)),
)


def _arithmetic(values: Values) -> Tool:
    verb, sign, between, joined, calculate = values.rng.choice(_OPERATIONS)
    a, b = values.rng.choice((("a", "b"), ("a", "b"), ("x", "y"), ("first", "second"), ("left", "right")))
    whole = values.chance(0.75)
    make: Callable[[], int | float] = values.integer if whole else values.number
    kind = "integer" if whole else "number"
    parameters = (Parameter(a, kind, make), Parameter(b, kind, make))
    name = verb if values.chance(0.7) else f"{verb}_numbers"
    slots = "{" + a + "}", "{" + b + "}"
    asks = (
        *(f"*what is {slots[0]} {between} {slots[1]}", f"*what's {slots[0]} {sign} {slots[1]}", joined.format(*slots)),
        *(
            f"{slots[0]} {between} {slots[1]}",
            f"*how much is {slots[0]} {between} {slots[1]}",
            f"please {joined.format(*slots)}",
        ),
        *(
            f"compute {slots[0]} {sign} {slots[1]}",
            f"*what is {slots[0]} {sign} {slots[1]}",
            f"calculate {slots[0]} {between} {slots[1]}",
        ),
        f"*can you {joined.format(*slots)}",
    )
    summary = values.rng.choice(
        ("{} two numbers.", "{} two integers.", "{} a and b.", "{} two numbers together.")
    ).format(verb.capitalize())
    return Tool(
        make_spec(values, name, summary, parameters), verb, "", parameters, asks, lambda args: calculate(*args.values())
    )


def _weather(values: Values) -> Tool:
    place = values.rng.choice(("city", "city", "city", "location", "place", "town"))
    slot = "{" + place + "}"
    parameters = (Parameter(place, "string", lambda: values.one_of(CITIES)),)
    asks = (
        *(f"*what is the weather in {slot}", f"*what is the weather like in {slot}", f"*what's the weather in {slot}"),
        *(
            f"*how is the weather in {slot}",
            f"weather in {slot}",
            f"*is it raining in {slot}",
            f"*how warm is it in {slot}",
        ),
        *(
            f"tell me the weather in {slot}",
            f"show me the weather for {slot}",
            f"*what's the weather like in {slot} today",
        ),
        *(f"check the weather in {slot}", f"I need the weather for {slot}", f"*is it sunny in {slot}"),
    )
    summary = values.rng.choice(
        (f"Get the weather in a {place}.", "Get the current weather.", f"Get the weather for a given {place}.", f"Return the weather of a {place}.",
         f"Get weather for a {place}.", f"Look up the weather in a {place}.")
    )  # fmt: skip

    def result(_: Arguments) -> str:
        sky = values.rng.choice(("sunny", "cloudy", "rainy", "windy", "clear", "snow", "fog", "light rain"))
        degrees = values.rng.randint(-15, 39)
        return values.rng.choice(
            (f"{degrees} degrees", f"{degrees} degrees and {sky}", f"{sky}, {degrees} degrees", sky, f"{degrees} C")
        )

    name = values.rng.choice(
        ("get_weather", "get_weather", "get_weather", "weather", "check_weather", "get_current_weather")
    )
    return Tool(make_spec(values, name, summary, parameters), "get", "weather", parameters, asks, result)


def _from_table(values: Values) -> Tool:
    verb, noun, name, summary, fields, asks = values.rng.choice(_TABLE)
    makers: dict[str, tuple[str, Callable[[], str | int | float | bool]]] = {
        "city": ("string", lambda: values.one_of(CITIES)),
        "country": ("string", lambda: values.one_of(COUNTRIES)),
        "person": ("string", lambda: values.one_of(PEOPLE)),
        "currency": ("string", lambda: values.rng.choice(CURRENCIES)),
        "language": ("string", lambda: values.rng.choice(LANGUAGES)),
        "phrase": ("string", values.phrase),
        "ticker": ("string", values.ticker),
        "count": ("integer", values.count),
        "hour": ("integer", lambda: values.rng.randint(0, 23)),
        "number": ("number", values.number),
        "flag": ("boolean", lambda: values.chance(0.5)),
    }
    parameters = tuple(Parameter(key, *makers[maker]) for key, maker in fields.items())
    return Tool(make_spec(values, name, summary, parameters), verb, noun, parameters, asks)


_TABLE: tuple[tuple[str, str, str, str, dict[str, str], tuple[str, ...]], ...] = (
    ("get", "time", "get_time", "Get the current time in a city.", {"city": "city"},
     ("*what time is it in {city}", "*what is the time in {city}", "time in {city}", "tell me the time in {city}")),
    ("get", "time", "get_current_time", "Get the current time.", {}, ("*what time is it", "*what is the time", "tell me the time")),
    ("get", "population", "get_population", "Get the population of a country.", {"country": "country"},
     ("*how many people live in {country}", "*what is the population of {country}", "population of {country}")),
    ("get", "capital", "get_capital", "Get the capital of a country.", {"country": "country"},
     ("*what is the capital of {country}", "capital of {country}", "tell me the capital of {country}")),
    ("get", "stock price", "get_stock_price", "Get the stock price for a ticker symbol.", {"symbol": "ticker"},
     ("*what is the stock price of {symbol}", "*what does {symbol} trade at", "stock price of {symbol}", "*how much is {symbol} stock")),
    ("convert", "currency", "convert_currency", "Convert an amount from one currency to another.",
     {"amount": "number", "source": "currency", "target": "currency"},
     ("convert {amount} {source} to {target}", "*how much is {amount} {source} in {target}", "*what is {amount} {source} in {target}",
      "*can you convert {amount} {source} to {target}", "change {amount} {source} into {target}", "please convert {amount} {source} to {target}")),
    ("set", "alarm", "set_alarm", "Set an alarm.", {"hour": "hour", "label": "phrase"},
     ("set an alarm at {hour} called {label}", "set an alarm for {hour} with label {label}", "wake me at {hour} for {label}",
      "*can you set an alarm for {hour} called {label}", "set the alarm to {hour}, label {label}", "set an alarm at {hour} for {label}")),
    ("set", "timer", "set_timer", "Set a timer for a number of minutes.", {"minutes": "count"},
     ("set a timer for {minutes} minutes", "*can you set a timer for {minutes} minutes", "start a timer of {minutes} minutes")),
    ("create", "reminder", "create_reminder", "Create a reminder.", {"text": "phrase", "hour": "hour"},
     ("remind me to {text} at {hour}", "create a reminder to {text} at {hour}", "*can you remind me to {text} at {hour}")),
    ("send", "message", "send_message", "Send a message to a person.", {"recipient": "person", "text": "phrase"},
     ("send {recipient} the message {text}", "tell {recipient} {text}", "send a message to {recipient} saying {text}", "write to {recipient}: {text}")),
    ("translate", "text", "translate", "Translate a text into a language.", {"text": "phrase", "language": "language"},
     ("translate {text} to {language}", "translate {text} into {language}", "*how do you say {text} in {language}", "*what is {text} in {language}")),
    ("search", "web", "search", "Search the web.", {"query": "phrase"},
     ("search for {query}", "look for {query}", "search the web for {query}", "*can you search for {query}")),
    ("search", "ports", "search_ports", "Search ports by name.", {"query": "phrase"},
     ("search the ports for {query}", "find ports named {query}", "search ports for {query}")),
    ("book", "ferry", "book_ferry", "Book a ferry.", {"route": "phrase", "passengers": "count", "return_trip": "flag"},
     ("book the ferry {route} for {passengers} passengers, return trip {return_trip}",
      "book a ferry on route {route} for {passengers} passengers with return trip {return_trip}")),
    ("book", "hotel", "book_hotel", "Book a hotel.", {"city": "city", "nights": "count"},
     ("book a hotel in {city} for {nights} nights", "*can you book a hotel in {city} for {nights} nights", "I need a hotel in {city} for {nights} nights")),
    ("get", "distance", "get_distance", "Get the distance between two cities.", {"origin": "city", "destination": "city"},
     ("*how far is it from {origin} to {destination}", "*what is the distance from {origin} to {destination}",
      "distance between {origin} and {destination}")),
    ("add", "item", "add_item", "Add an item to the shopping list.", {"item": "phrase", "quantity": "count"},
     ("add {quantity} {item} to the list", "put {quantity} {item} on my list", "add {quantity} {item} to my shopping list")),
    ("list", "files", "list_files", "List the files.", {}, ("list the files", "show me the files", "*which files are there")),
    ("roll", "dice", "roll_dice", "Roll a dice.", {"sides": "count"}, ("roll a dice with {sides} sides", "roll a {sides} sided dice")),
)  # fmt: skip


def everyday_tool(values: Values) -> Tool:
    """Make one of the tools of this module, with a random description form."""
    return values.rng.choices((_weather, _arithmetic, _from_table), (3, 3, 10))[0](values)
