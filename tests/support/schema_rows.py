"""Schemas that a grammar is tried on: as Python types write them, keyword by keyword, and as tools have them."""

from __future__ import annotations

import dataclasses
import json
from enum import Enum
from typing import Any, Literal, NotRequired

from pydantic import BaseModel, Field, TypeAdapter
from pydantic import v1 as pydantic_v1
from typing_extensions import TypedDict

from tests.support.places import DATA

ROWS = [json.loads(line) for line in (DATA / "tool_schemas.jsonl").read_text("utf-8").splitlines()]

# --- of Python types


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Leaf(BaseModel):
    """A leaf."""

    name: str = Field(description="Its name", examples=["oak"])
    color: Color = Color.RED


class Tree(BaseModel):
    title: str | None = None
    default: int = Field(3, ge=1, le=9)
    leaf: Leaf
    pair: tuple[int, str] = (1, "a")
    kids: list[Tree] = []
    kind: Literal["tree"] = "tree"


class LeafV1(pydantic_v1.BaseModel):
    name: str
    color: Color = Color.RED


class TreeV1(pydantic_v1.BaseModel):
    title: str | None = None
    default: int = pydantic_v1.Field(3, ge=1, le=9)
    leaf: LeafV1 = pydantic_v1.Field(..., description="A leaf")
    pair: tuple[int, str] = (1, "a")
    kids: list[TreeV1] = []
    kind: Literal["tree"] = "tree"


TreeV1.update_forward_refs()


class LeafDict(TypedDict):
    name: str


class TreeDict(TypedDict):
    title: NotRequired[str | None]
    default: NotRequired[int]
    leaf: LeafDict
    pair: NotRequired[tuple[int, str]]
    kids: NotRequired[list[TreeDict]]
    kind: NotRequired[Literal["tree"]]


@dataclasses.dataclass
class TreeClass:
    leaf: Leaf
    title: str | None = None
    default: int = 3
    kids: list[TreeClass] = dataclasses.field(default_factory=list)


EMITTED = {
    "pydantic v2": Tree.model_json_schema(),
    "pydantic v2, for output": Tree.model_json_schema(mode="serialization"),
    "pydantic v1": TreeV1.schema(),
    "TypedDict": TypeAdapter(TreeDict).json_schema(),
    "dataclass": TypeAdapter(TreeClass).json_schema(),
}

# --- keyword by keyword, and values of which jsonschema says whether they fit

ORACLE_SCHEMAS: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": ["string", "null"]},
    {"anyOf": [{"type": "string", "maxLength": 2}, {"type": "null"}]},
    {"type": "integer", "minimum": 1, "exclusiveMaximum": 5},
    {"type": "number", "minimum": 0, "maximum": 2.5},
    {"enum": ["a", 1, None, {"k": [1]}]},
    {"const": [1, "x"]},
    {"type": "string", "pattern": "^a.c$"},
    {"type": "string", "pattern": "b"},
    {"type": "string", "format": "date"},
    {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2},
    {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False, "minItems": 2},
    {"type": "object", "additionalProperties": {"type": "integer"}},
    {"type": "object", "properties": {"k": {"type": "integer"}}, "additionalProperties": False},
    {"type": "object", "patternProperties": {"^k": {"type": "integer"}}, "additionalProperties": False},
    {"allOf": [{"type": "integer"}, {"minimum": 2}]},
    {"oneOf": [{"type": "string"}, {"type": "integer", "maximum": 2}]},
    {
        "allOf": [
            {"type": "object", "properties": {"a": {}}, "required": ["a"]},
            {"properties": {"k": {"type": "integer"}}},
        ]
    },
    {"type": "object", "properties": {"a": {}, "k": {}}, "anyOf": [{"required": ["a"]}, {"required": ["k"]}]},
    {
        "$ref": "#/$defs/n",
        "$defs": {"n": {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"$ref": "#/$defs/n"}}]}},
    },
    True,
]  # type: ignore[list-item] # `true` is a schema too
ORACLE_VALUES: list[Any] = [
    None, True, 0, 1, 2, 5, -1, 2.5, 1.25, "", "a", "abc", "b", "xbx", "2024-02-29", "2024-13-01", 'name: "é" 😀\n',
    [], [1], [1, "x"], [1, 2], [1, 2, 3], [[1], [[]]], {}, {"k": 1}, {"k": "x"}, {"k": [1]}, {"a": 1}, {"a": 1, "k": 2},
    {"a": 1, "k": "x"}, {"k1": 1},
]  # fmt: skip
