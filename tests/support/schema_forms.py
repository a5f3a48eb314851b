"""Every form that a schema may have, with an answer and the value that it stands for; and what is no schema."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
from dataclasses import dataclass
from typing import Annotated, Any, Callable, List, Literal, NewType, Optional, TypedDict, TypeVar, Union  # noqa: UP035

import typing_extensions
from pydantic import BaseModel, ConfigDict, Field, RootModel
from pydantic.v1 import BaseModel as BaseModelV1


class Apple(BaseModel):
    """An apple."""

    weight: int


class Bread(BaseModel):
    """A loaf of bread."""

    flour: str


class Old(BaseModelV1):
    """A class of pydantic 1."""

    weight: int


class Day(BaseModel):
    """A strict class."""

    model_config = ConfigDict(strict=True)
    day: dt.date


class Row(TypedDict):
    """A row."""

    weight: Annotated[int, ..., "In grams."]
    kind: Annotated[str, "apple", "Of what."]


class Part(typing_extensions.TypedDict):
    """A part that may have parts."""

    name: str
    parts: typing_extensions.NotRequired[list[Part]]


class Color(enum.Enum):
    """A color."""

    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    """A size."""

    SMALL = 1
    LARGE = 2


@dataclass
class Pear:
    """A pear."""

    weight: int


Grams = NewType("Grams", int)
Fruits = typing_extensions.TypeAliasType("Fruits", list[Apple | Bread])
APPLE = {"type": "object", "properties": {"weight": {"type": "integer"}}, "required": ["weight"]}


@dataclass(frozen=True)
class Form:
    """A schema, JSON that follows it, and the value that this stands for; `broken` is JSON that does not."""

    schema: Any
    text: str
    value: Any
    broken: str = '{"no": "such thing"}'


_DICT = Form(APPLE, '{"weight": 3}', {"weight": 3})
FORMS = {
    "a class": Form(Apple, '{"weight": 3}', Apple(weight=3)),
    "a class of pydantic 1": Form(Old, '{"weight": 3}', Old(weight=3)),
    "a strict class with a date": Form(Day, '{"day": "2024-02-29"}', Day(day=dt.date(2024, 2, 29))),
    "a root model": Form(RootModel[list[int]], "[1, 2]", RootModel[list[int]]([1, 2])),
    "a TypedDict": Form(Row, '{"weight": 3}', {"weight": 3}),
    "a TypedDict that contains itself": Form(
        Part, '{"name": "a", "parts": [{"name": "b"}]}', {"name": "a", "parts": [{"name": "b"}]}
    ),
    "a dataclass": Form(Pear, '{"weight": 3}', Pear(3)),
    "an Enum": Form(Color, '"red"', Color.RED, broken='"green"'),
    "an IntEnum": Form(Size, "2", Size.LARGE, broken="3"),
    "list[A]": Form(list[Apple], '[{"weight": 3}, {"weight": 4}]', [Apple(weight=3), Apple(weight=4)]),
    "List[A]": Form(List[Apple], '[{"weight": 3}]', [Apple(weight=3)]),  # noqa: UP006
    "a list of a class of pydantic 1": Form(list[Old], '[{"weight": 3}]', [Old(weight=3)]),
    "a list of a TypedDict": Form(list[Row], '[{"weight": 3, "kind": "a"}]', [{"weight": 3, "kind": "a"}]),
    "list[Enum]": Form(list[Color], '["red", "blue"]', [Color.RED, Color.BLUE], broken='["green"]'),
    "a named list": Form(Fruits, '[{"flour": "rye"}, {"weight": 3}]', [Bread(flour="rye"), Apple(weight=3)]),
    "Union[A, B]": Form(Union[Apple, Bread], '{"flour": "rye"}', Bread(flour="rye")),  # noqa: UP007
    "A | B": Form(Apple | Bread, '{"weight": 3}', Apple(weight=3)),
    "Optional[A], given": Form(Optional[Apple], '{"weight": 3}', Apple(weight=3)),  # noqa: UP045
    "Optional[A], not given": Form(Optional[Apple], "null", None),  # noqa: UP045
    "Literal": Form(Literal["yes", "no"], '"yes"', "yes", broken='"maybe"'),
    "dict[str, int]": Form(dict[str, int], '{"a": 1, "b": 2}', {"a": 1, "b": 2}),
    "tuple": Form(tuple[int, str], '[1, "a"]', (1, "a")),
    "int": Form(int, "3", 3),
    "str": Form(str, '"a b"', "a b"),
    "float": Form(float, "2.5", 2.5),
    "bool": Form(bool, "true", True),
    "date": Form(dt.date, '"2024-02-29"', dt.date(2024, 2, 29)),
    "NewType": Form(Grams, "3", 3),
    "Annotated": Form(Annotated[int, Field(ge=1, le=5)], "3", 3, broken="9"),
    "a JSON Schema": _DICT,
    "a JSON Schema of a list": Form({"type": "array", "items": {"$ref": "#/$defs/a"}, "$defs": {"a": APPLE}},
                                    '[{"weight": 3}]', [{"weight": 3}]),
    "a JSON Schema of a list of itself": Form({"type": "array", "items": {"$ref": "#"}}, "[[], [[]]]", [[], [[]]]),
    "a JSON Schema of a word": Form({"enum": ["red", "blue"]}, '"red"', "red", broken='"green"'),
    "a JSON Schema with nulls": Form(
        {**APPLE, "title": None, "enum": None, "$defs": None, "additionalProperties": None},
        '{"weight": 3}',
        {"weight": 3},
    ),
    "an OpenAI function": dataclasses.replace(_DICT, schema={"name": "Apple", "parameters": APPLE}),
    "an OpenAI tool": dataclasses.replace(
        _DICT, schema={"type": "function", "function": {"name": "Apple", "description": "A.", "parameters": APPLE}}
    ),
    "a flat OpenAI tool": dataclasses.replace(_DICT, schema={"type": "function", "name": "A", "parameters": APPLE}),
    "OpenAI's response_format": dataclasses.replace(
        _DICT, schema={"type": "json_schema", "json_schema": {"name": "Apple", "strict": True, "schema": APPLE}}
    ),
    "the flat response_format": dataclasses.replace(
        _DICT, schema={"type": "json_schema", "name": "Apple", "strict": True, "schema": APPLE}
    ),
    "any JSON object": Form({"type": "json_object"}, '{"a": [1]}', {"a": [1]}, broken="[1]"),
}  # fmt: skip


class Egg(BaseModel):
    """An egg."""

    number: int = Field(ge=0, le=9)


# What a small model comes to the end of, whatever it writes.
SHORT = {
    "an Enum": Color,
    "a list": Annotated[list[Color], Field(max_length=2)],
    "a union": Egg | Color,
    "an optional": Optional[Egg],  # noqa: UP045
}


class Plain:
    """A class of which nothing can be told."""


class Unsayable(BaseModel):
    """A class with a field that JSON cannot hold."""

    run: Callable[[int], int]


class Unfinished(BaseModel):
    """A class with a field of an unknown type."""

    part: "Nowhere"  # noqa: F821, UP037


class Shy:
    """An instance that cannot be shown."""

    def __repr__(self):
        raise KeyError("no")


NO_SCHEMAS = {
    "a number": 5,
    "a text": "Apple",
    "a tuple": (Apple,),
    "a list of a class": [Apple],
    "an instance": Apple(weight=3),
    "an instance of a dataclass": Pear(3),
    "a member of an Enum": Color.RED,
    "an instance that cannot be shown": Shy(),
    "a function without a signature": max,
    "a part of a function": functools.partial(max, 1),
    "a class of no fields": Plain,
    "a class that JSON cannot hold": Unsayable,
    "a class of an unknown type": Unfinished,
    "a type variable": TypeVar("T"),
    "an unknown dict": {"no": "schema"},
    "a name": {"name": "Bob"},
    "a function without a name": {"function": {"parameters": APPLE}},
    "a type that JSON has not": {"type": "banana"},
    "properties that are none": {"type": "object", "properties": 5},
    "a reference to nothing": {"$ref": "#/$defs/nothing"},
    "a response_format without its schema": {"type": "json_schema", "json_schema": {"name": "x"}},
}
