"""Schemas for JSON mode, and texts that say what to fill in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hermes_runtime.messages import ToolSpec
from tiny_hermes.vocabulary import CITIES, COLORS, COUNTRIES, PEOPLE, Scalar, Values

Field = tuple[str, str, Callable[[], Scalar], tuple[str, ...]]


def _field(values: Values) -> Field:
    rng = values.rng
    makers: tuple[tuple[str, str, Callable[[], Scalar], tuple[str, ...]], ...] = (
        ("name", "string", lambda: values.one_of(PEOPLE), ()),
        ("city", "string", lambda: values.one_of(CITIES), ()),
        ("country", "string", lambda: values.one_of(COUNTRIES), ()),
        ("age", "integer", values.count, ()),
        ("count", "integer", values.integer, ()),
        ("price", "number", values.number, ()),
        ("title", "string", values.phrase, ()),
        ("product", "string", values.phrase, ()),
        ("date", "string", values.date, ()),
        ("email", "string", values.email, ()),
        ("id", "string", values.code, ()),
        ("active", "boolean", lambda: values.chance(0.5), ()),
        ("color", "string", lambda: rng.choice(COLORS[:5]), COLORS[:5]),
        ("temperature", "number", values.number, ()),
        ("condition", "string", values.word, ()),
        ("year", "integer", values.integer, ()),
    )
    name, kind, make, choices = rng.choice(makers)
    return (values.draw(values.made_up_word) if values.chance(0.1) else name), kind, make, choices


def make_schema(values: Values) -> tuple[dict[str, Any], list[Field]]:
    """Make a flat object schema, in pydantic's form or written by hand."""
    fields = {
        field[0]: field
        for field in (_field(values) for _ in range(values.rng.choices((1, 2, 3, 4, 5), (2, 4, 4, 2, 1))[0]))
    }
    titled = values.chance(0.6)
    properties: dict[str, Any] = {}
    for name, kind, _, choices in fields.values():
        entry: dict[str, Any] = {"description": f"The {name}"} if values.chance(0.15) else {}
        if choices:
            entry["enum"] = list(choices)
        if titled:
            entry["title"] = name.title()
        properties[name] = {**entry, "type": kind} if titled else {"type": kind, **entry}
    schema: dict[str, Any] = {"properties": properties, "required": list(fields)}
    if titled:
        schema["title"] = (
            values.made_up_word().capitalize()
            if values.chance(0.5)
            else values.rng.choice(("Person", "Answer", "Item", "Order"))
        )
        schema["type"] = "object"
    else:
        schema = {"type": "object", **schema}
    if titled and values.chance(0.3):
        schema = {"description": "What was said.", **schema}
    return schema, list(fields.values())


def extraction_tool(values: Values) -> tuple[ToolSpec, list[Field]]:
    """Make the tool that a framework derives from a class, and the fields it takes."""
    schema, fields = make_schema(values)
    rng = values.rng
    noun = (
        rng.choice(("person", "answer", "item", "order", "user", "product", "event", "city"))
        if values.chance(0.5)
        else values.noun()
    )
    name = "".join(word.capitalize() for word in noun.split()) + rng.choice(("", "", "", "Info", "Data"))
    description = rng.choice((f"A {noun}.", f"Information about a {noun}.", f"The {noun}.", ""))
    parameters = {key: schema[key] for key in ("properties", "required")} | {"type": "object"}
    return ToolSpec(name, description, parameters), fields


def json_turn(values: Values, fields: list[Field]) -> tuple[str, dict[str, Scalar]]:
    """Return a text and the object that it describes."""
    rng = values.rng
    filled = {name: make() for name, _, make, _ in fields}
    item, joint = rng.choice(
        (
            ("{} {}", ", "),
            ("{} is {}", " and "),
            ("{}: {}", ", "),
            ("the {} is {}", ", "),
            ("{} = {}", ", "),
            ("{} {}", " and "),
        )
    )
    opening = rng.choice(("", "", "Give me an answer with ", "Fill in: ", "It has ", "Extract: "))
    if set(filled) == {"name", "age"} and values.chance(0.5):
        return f"{filled['name']} is {filled['age']} years old.", filled
    if set(filled) == {"name", "city"} and values.chance(0.5):
        return f"{filled['name']} lives in {filled['city']}.", filled
    yes, no = rng.choice((("yes", "no"), ("true", "false")))
    said = [
        item.format(name, (yes if value else no) if isinstance(value, bool) else value)
        for name, value in filled.items()
    ]
    if values.chance(0.2):
        rng.shuffle(said)
    text = opening + joint.join(said)
    return text[0].upper() + text[1:] if values.chance(0.5) else text + rng.choice(("", ".")), filled
