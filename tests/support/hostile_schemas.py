"""Schemas that somebody made to exhaust whoever turns them into a grammar, and what each of them costs.

    python -m tests.support.hostile_schemas

prints one line of JSON for each, measured in a process of its own.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from hermes_runtime.engines.local.decoding.constraint import ConstraintCompiler
from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.grammar import build_grammar
from hermes_runtime.messages import ToolSpec


def _nested(depth: int, wrap: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = wrap(schema)
    return schema


def _doubling(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"anyOf": [schema, {"type": "array", "items": schema}]}
    return schema


def _one(value: Mapping[str, Any], **beside: Any) -> list[ToolSpec]:
    return [ToolSpec("f", "", {"type": "object", "properties": {"a": value}, "required": ["a"], **beside})]


def _wide(tools: int, properties: int, kind: Mapping[str, Any], *, required: bool = False) -> list[ToolSpec]:
    specs = []
    for index in range(tools):
        names = [f"p{index}_{number}" for number in range(properties)]
        schema = {"type": "object", "properties": dict.fromkeys(names, kind), "required": names if required else []}
        specs.append(ToolSpec(f"f{index}", "", schema))
    return specs


_NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "value": {"type": "string"}}}
_TWINS = {"anyOf": [{"$ref": "#/$defs/twins"}, {"type": "array", "items": {"$ref": "#/$defs/twins"}}]}

HOSTILE: Mapping[str, Callable[[], list[ToolSpec]]] = {
    "an enum of 5,000 words": lambda: _one({"enum": [f"value {index}" for index in range(5000)]}),
    "an enum of 70,000 words": lambda: _one({"enum": [f"value {index}" for index in range(70_000)]}),
    "an enum of 100,000 words": lambda: _one({"enum": [f"value {index}" for index in range(100_000)]}),
    "an enum of 2,000 texts of 1,000 characters": lambda: _one({"enum": [f"{'x' * 1000}{i}" for i in range(2000)]}),
    "an empty enum": lambda: _one({"enum": []}),
    "200 tools": lambda: _wide(200, 5, {"type": "string"}),
    "200 tools of 20 required properties": lambda: _wide(200, 20, {"type": ["string", "null"]}, required=True),
    "2,000 tools": lambda: _wide(2000, 5, {"type": "string"}),
    "1,000 optional properties": lambda: _wide(1, 1000, {"type": "integer"}),
    "1,500 optional properties": lambda: _wide(1, 1500, {"type": "integer"}),
    "10 tools of 900 optional properties": lambda: _wide(10, 900, {"type": "integer"}),
    "4,900 required properties": lambda: _wide(1, 4900, {"type": "integer"}, required=True),
    "490 tools of 9 patterns": lambda: _wide(490, 9, {"type": "string", "pattern": "^[a-z]{1,40}(foo|bar)[0-9]+$"}),
    "a list of itself": lambda: _one({"$ref": "#/$defs/node"}, **{"$defs": {"node": _NODE}}),
    "a value that is itself": lambda: _one({"$ref": "#/$defs/a"}, **{"$defs": {"a": {"$ref": "#/$defs/a"}}}),
    "a branch that is itself": lambda: _one({"$ref": "#/$defs/twins"}, **{"$defs": {"twins": _TWINS}}),
    "an object that requires itself": lambda: _one(
        {"$ref": "#/$defs/node"}, **{"$defs": {"node": {**_NODE, "required": ["next"]}}}
    ),
    "a chain of 1,200 references": lambda: _one(
        {"$ref": "#/$defs/n0"},
        **{"$defs": {**{f"n{i}": {"$ref": f"#/$defs/n{i + 1}"} for i in range(1200)}, "n1200": {"type": "null"}}},
    ),
    "1,100 required properties that refer to each other": lambda: [
        ToolSpec(
            "f",
            "",
            {
                "type": "object",
                "properties": {f"p{i}": {"$ref": f"#/properties/p{i + 1}"} for i in range(1100)} | {"p1100": {}},
                "required": [f"p{1100 - i}" for i in range(1101)],
            },
        )
    ],
    "60 objects deep": lambda: _one(_nested(60, lambda inner: {"type": "object", "properties": {"a": inner}})),
    "300 objects deep": lambda: _one(_nested(300, lambda inner: {"type": "object", "properties": {"a": inner}})),
    "50,000 lists deep": lambda: _one(_nested(50_000, lambda inner: {"items": inner})),
    "20 levels of two references each": lambda: _one(
        {"$ref": "#/$defs/n0"},
        **{
            "$defs": {
                **{f"n{i}": {"allOf": [{"$ref": f"#/$defs/n{i + 1}"}] * 2} for i in range(20)},
                "n20": {"type": "object", "properties": {"x": {"type": "string"}}},
            }
        },
    ),
    "12 levels of two branches each": lambda: _one(_doubling(12)),
    "a pattern that repeats a repetition": lambda: _one({"type": "string", "pattern": "^([a-z]{1,999}){1,999}$"}),
    "a pattern of long alternatives": lambda: _one(
        {"type": "string", "pattern": f"^({'|'.join(f'(a{{1,{n}}}b?){{1,{n}}}' for n in range(1, 300))})$"}
    ),
    "a pattern that counts back": lambda: _one({"type": "string", "pattern": "^(.*a.{30}|.*b.{31}|.*c.{32})$"}),
    "a pattern of letters beyond ASCII": lambda: _one({"type": "string", "pattern": r"^[\p{L}\p{N}\p{S}]{1,5000}$"}),
    "a string of a billion characters": lambda: _one({"type": "string", "minLength": 10**9}),
    "a string of up to a billion characters": lambda: _one({"type": "string", "maxLength": 10**9}),
    "a string of 100,000 to 200,000 characters": lambda: _one(
        {"type": "string", "minLength": 10**5, "maxLength": 2 * 10**5}
    ),
    "a list of a billion items": lambda: _one({"type": "array", "items": {"type": "integer"}, "minItems": 10**9}),
    "a list of up to a million items": lambda: _one(
        {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}, "maxItems": 10**6}
    ),
    "lists in lists of up to 1,000": lambda: _one(
        _nested(4, lambda inner: {"type": "array", "items": inner, "maxItems": 1000})
    ),
    "an object of a billion keys": lambda: _one({"type": "object", "minProperties": 10**9}),
    "2,000 branches": lambda: _one({"anyOf": [{"type": "string", "pattern": f"^a{i}+$"} for i in range(2000)]}),
    "300 branches of objects": lambda: _one(
        {"anyOf": [_wide(1, 5, {"type": "string"}, required=True)[0].parameters for _ in range(300)]}
    ),
    "500 branches, one of which must fit": lambda: _one(
        {
            "oneOf": [
                {"type": "object", "properties": {f"k{i}": {"const": i}}, "required": [f"k{i}"]} for i in range(500)
            ]
        }
    ),
    "4,900 constants": lambda: _one({"anyOf": [{"const": index} for index in range(4900)]}),
    "a multiple of a billionth": lambda: _one({"type": "number", "multipleOf": 1e-9}),
    "a multiple of a large prime": lambda: _one({"type": "integer", "multipleOf": 999_983}),
    "multiples of several primes": lambda: _one({"allOf": [{"type": "integer", "multipleOf": n} for n in (991, 997)]}),
    "450 multiples": lambda: _wide(1, 450, {"type": "number", "multipleOf": 0.997}, required=True),
    "200 keys by pattern": lambda: _one(
        {"type": "object", "patternProperties": {f"^{'[a-z]' * 3}{i}.*$": {"type": "integer"} for i in range(200)}}
    ),
    "what is not": lambda: _one({"not": {"type": "object", "properties": {"a": {"not": {"type": "string"}}}}}),
}


def measured(compiler: ConstraintCompiler) -> Iterator[dict[str, Any]]:
    """Build, compile and mask for each in a forked process: outcome, CPU seconds, and MB that were needed at most."""
    context = multiprocessing.get_context("fork")
    for name, tools in HOSTILE.items():
        receiving, sending = context.Pipe(duplex=False)
        child = context.Process(target=_measure, args=(name, tools, compiler, sending))
        child.start()
        sending.close()
        try:
            yield receiving.recv()
        except EOFError:
            child.join()
            yield {"name": name, "outcome": f"died with {child.exitcode}", "seconds": 0.0, "megabytes": 0.0}
        child.join()


def _measure(name: str, tools: Callable[[], list[ToolSpec]], compiler: ConstraintCompiler, answer: Any) -> None:
    # A process that needs more is a failure, and must not take the machine with it.
    resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
    row = torch.zeros(compiler.vocab_columns)
    given = tools()
    Path("/proc/self/clear_refs").write_text("5")
    before, started = _peak(), time.process_time()
    try:
        state = compiler.compile(build_grammar(given, tool_choice="required").lark)
        compiled = time.process_time() - started
        state.mask(row)
        while forced := state.forced():
            state.accept(forced)
            state.mask(row)
        outcome = "works"
    except InvalidRequestError as error:
        compiled = time.process_time() - started
        outcome = f"{type(error).__name__}: {str(error)[:100]}"
    spent = time.process_time() - started
    answer.send(
        {
            "name": name,
            "outcome": outcome,
            "compile": compiled,
            "seconds": spent,
            "megabytes": (_peak() - before) / 1024,
        }
    )


def _peak() -> int:
    """Most memory that this process had at once, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    from tests.support.mistral import load_mistral_tokenizer
    from tests.support.small_model import COLUMNS

    for figures in measured(ConstraintCompiler(load_mistral_tokenizer(), COLUMNS)):
        sys.stdout.write(f"{json.dumps(figures)}\n")
        sys.stdout.flush()
