"""Random tool sets, the worst model there is, and a reading of its turns that shares no code with the parser."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jsonschema import Draft202012Validator

from hermes_runtime.grammar import build_grammar
from hermes_runtime.messages import ToolSpec

WORDS = (
    "city",
    "query",
    "days",
    "unit",
    "path",
    "naïve",
    "größe",
    "a b",
    'quo"te',
    "back\\slash",
    "名前",
    "x",
    "limit",
    "tags",
)


def random_schema(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    """One property's schema; nested, with every keyword that the grammar enforces strictly."""
    simple = [
        {"type": "string"},
        {"type": "string", "maxLength": rng.randint(0, 12), "description": "short"},
        {"type": "string", "minLength": 1, "maxLength": 5},
        {"type": "string", "enum": rng.sample(WORDS, 3)},
        {"type": "string", "pattern": "^[a-z]{2,4}-[0-9]+$"},
        {"type": "string", "format": rng.choice(["date", "time", "uuid", "ipv4", "email", "date-time"])},
        {"type": "integer"},
        {"type": "integer", "minimum": -5, "maximum": rng.randint(-5, 5000)},
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        {"type": "integer", "multipleOf": 5},
        {"type": "number"},
        {"type": "boolean", "title": "Flag", "default": False},
        {"const": rng.choice(WORDS)},
        {"enum": [1, None, "two", True, [3]]},
        {"type": ["string", "null"]},
        {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        {"type": "null"},
    ]
    if depth >= 3 or rng.random() < 0.55:
        return rng.choice(simple)
    inner = [random_schema(rng, depth + 1) for _ in range(rng.randint(1, 3))]
    nested = [
        {"type": "array", "items": inner[0], "maxItems": 3},
        {"type": "array", "items": inner[0], "minItems": 1},
        {"type": "array", "prefixItems": inner, "items": False, "minItems": len(inner)},
        {"type": "object", "additionalProperties": inner[0], "maxProperties": 2},
        {"anyOf": inner},
        random_object(rng, depth + 1),
        random_object(rng, depth + 1),
    ]
    return rng.choice(nested)


def random_object(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    names = rng.sample(WORDS, rng.randint(0 if depth == 0 else 1, 4))
    schema = {
        "type": "object",
        "properties": {name: random_schema(rng, depth) for name in names},
        "required": [name for name in names if rng.random() < 0.6],
    }
    if rng.random() < 0.3:
        schema["additionalProperties"] = rng.choice([False, True, {"type": "integer"}])
    return schema


def bounded(schema: Any) -> Any:
    """Copy a random schema with a bound on every string and list, so that a random model comes to its end."""
    if isinstance(schema, list):
        return [bounded(child) for child in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {key: value if key in ("enum", "const") else bounded(value) for key, value in schema.items()}
    kind = copy.get("type")
    if kind in ("string", ["string", "null"]) and not copy.keys() & {"enum", "pattern", "format"}:
        copy.setdefault("maxLength", 12)
    if kind == "array" and "prefixItems" not in copy:
        copy.setdefault("maxItems", 3)
    if "pattern" in copy:
        copy["pattern"] = copy["pattern"].replace("+", "{1,3}")
    if "properties" in copy:
        copy.pop("additionalProperties", None)
    return copy


def random_tools(rng: random.Random) -> list[ToolSpec]:
    """Between 1 and 12 tools; some share a schema, some share keys."""
    tools: list[ToolSpec] = []
    for index in range(rng.randint(1, 12)):
        copied = bool(tools) and rng.random() < 0.2
        parameters = rng.choice(tools).parameters if copied else random_object(rng)
        tools.append(ToolSpec(f"{rng.choice(WORDS)}_{index}", "A tool.", parameters))
    return tools


@dataclass(frozen=True, slots=True)
class Turn:
    """What a model wrote: its ids and text, and whether it ended the turn itself."""

    ids: tuple[int, ...]
    text: str
    finished: bool


CLOSING = ('"', "}", "]", "]}", '"}', '",', '"]', "},", "<", ">", "0", "1", ",", "<0x0A>")


def write_turn(
    constraint: Any, tokenizer: Any, rng: random.Random, *, max_tokens: int = 400, text_tokens: int | None = None
) -> Turn:
    """Sample almost uniformly over what the constraint allows: a model of random weights, without its cost.

    Such a model seldom closes a string or ends a turn, so every fourth token is one of those that may close something,
    where one is allowed.

    Args:
        constraint: A fresh state.
        tokenizer: Tokenizer of the ids.
        rng: Source of all choices.
        max_tokens: Where the turn is cut.
        text_tokens: Write the opening tag of a call after about this many tokens of text.
    """
    end = tokenizer.eos_token_id
    closing = [*tokenizer.convert_tokens_to_ids(list(CLOSING)), end]
    tag = tokenizer.convert_tokens_to_ids(["<", "tool", "_", "call", ">"])
    ids: list[int] = []
    while len(ids) < max_tokens:
        # Not in the middle of a character's bytes.
        if text_tokens is not None and len(ids) >= text_tokens and constraint.allowed(tag) == len(tag):
            constraint.accept(tag)
            ids += tag
            text_tokens = None
        row = torch.zeros(constraint.vocab_columns)
        constraint.mask(row)
        allowed = np.flatnonzero(row.numpy() == 0)
        closers = [token for token in closing if row[token] == 0] if rng.random() < 0.25 else []
        token = rng.choice(closers) if closers else int(rng.choice(allowed))
        constraint.accept([token])
        if token == end:
            return Turn(tuple(ids), tokenizer.decode(ids), finished=True)
        ids.append(token)
    return Turn(tuple(ids), tokenizer.decode(ids), finished=False)


def read_calls(text: str) -> tuple[list[dict[str, Any]], bool]:
    """Every whole call of a turn, read with the standard library alone, and whether no call is left unfinished.

    Raises:
        ValueError: Something that opens like a call is none.
    """
    calls, position = [], text.find("<tool_call>")
    decoder = json.JSONDecoder()
    while position >= 0:
        start = position + len("<tool_call>\n")
        try:
            call, end = decoder.raw_decode(text, start)
        except json.JSONDecodeError:
            return calls, False
        if "\n</tool_call>".startswith(text[end:]):
            return (calls, False) if text[end:] != "\n</tool_call>" else ([*calls, call], True)
        if text[position:start] != "<tool_call>\n" or not text.startswith("\n</tool_call>", end):
            raise ValueError(f"a call's frame is broken: {text[position : end + 20]!r}")
        calls.append(call)
        position = text.find("<tool_call>", end)
    return calls, True


def problems_of(calls: list[dict[str, Any]], tools: list[ToolSpec]) -> list[str]:
    """What the calls break in the tools' own schemas, as jsonschema sees it."""
    known = {tool.name: tool for tool in tools}
    found = []
    for call in calls:
        if set(call) != {"name", "arguments"} or call["name"] not in known:
            found.append(f"not a call of a known tool: {call!r}")
            continue
        validator = Draft202012Validator(dict(known[call["name"]].parameters))
        found += [
            f"{call['name']}: {error.json_path}: {error.message}" for error in validator.iter_errors(call["arguments"])
        ]
    return found


def random_turn(seed: int, tokenizer: Any, compiler: Any) -> tuple[str, Turn, list[dict[str, Any]], list[str]]:
    """One turn of a random model over random tools: what was asked, what was written, what is wrong with it."""
    rng = random.Random(seed)
    tools = random_tools(rng)
    asked = rng.choice(["any", "name", "parallel", "none", "auto"])
    name = rng.choice(tools).name
    parallel = asked == "parallel" or rng.random() < 0.5
    grammar = build_grammar(
        tools,
        tool_choice={"any": "required", "parallel": "required", "name": name}.get(asked, asked),
        parallel_tool_calls=parallel,
        dialect=rng.choice(["card", "json_args_first", "name_first", "scratch_pad"]),
    )
    text_tokens = rng.randint(0, 15) if asked == "auto" and rng.random() < 0.7 else None
    turn = write_turn(compiler.compile(grammar.lark), tokenizer, rng, max_tokens=300, text_tokens=text_tokens)
    if not turn.finished:
        return asked, turn, [], []
    calls, complete = read_calls(turn.text)
    wrong = ["a call without its end"] * (not complete) + problems_of(calls, tools)
    wrong += ["no call"] * (asked in ("any", "name", "parallel") and not calls)
    wrong += ["a call"] * (asked == "none" and bool(calls))
    wrong += ["several calls"] * (not parallel and len(calls) > 1)
    wrong += ["another tool"] * (asked == "name" and any(call["name"] != name for call in calls))
    return asked, turn, calls, wrong
