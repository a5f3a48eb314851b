"""What every dialect must say, and that a family which nobody foresaw needs nothing but its own file."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass

import pytest

from hermes_runtime.dialects import _FAMILIES, DIALECTS, CallShape, Dialect
from hermes_runtime.engines.local.decoding.constraint import ConstraintCompiler
from hermes_runtime.grammar import build_grammar
from hermes_runtime.messages import Assistant, System, ToolCall, ToolResult, ToolSpec, User
from hermes_runtime.parser import parse_completion
from hermes_runtime.prompt import build_prompt
from hermes_runtime.tags import CALL_ALIASES, CALLS, REASONING, TOOL_CALL, Tag
from hermes_runtime.turn import Turn, TurnRequest
from tests.support import gbnf_oracle, grammar_oracle
from tests.support.places import DOCS
from tests.support.scripted_engine import ScriptedEngine
from tests.support.small_model import COLUMNS
from tests.support.toolsets import write_turn

CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 8}}, "required": ["city"]}
TOOLS = (
    ToolSpec("weather", "The weather", CITY),
    ToolSpec("tide", "The tide", {"type": "object", "properties": {"hour": {"enum": [0, 6, 12]}}}),
)
CALL = ToolCall("1", "weather", {"city": "Bonn"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain(Dialect):
    """Instructions before the tools, one tool a line, results told by the user."""

    def tools_prompt(self, tools):
        return "\n".join(["# Tools", *(json.dumps(tool.as_openai()) for tool in tools)])

    def schema_prompt(self, schema):
        return f"# Form\n{json.dumps(schema)}"

    def system_text(self, tools, schema, instructions):
        offered = [self.tools_prompt(tools)] if tools else []
        return "\n\n".join([*instructions, *offered, *([] if schema is None else [self.schema_prompt(schema)])])

    def call(self, call):
        return self.shape.block(json.dumps(self.shape.value(call), ensure_ascii=False))

    def results(self, results):
        return "user", "\n".join(f"<got>{json.dumps(content)}</got>" for _, content in results)


MADE_UP = [
    Plain(name="plain", shape=CallShape(arguments_first=False), reasoning=None),
    Plain(name="plain, arguments first", shape=CallShape(arguments_first=True), reasoning=Tag("think")),
    Plain(name="other tag", shape=CallShape(arguments_first=False, tag=Tag("function_call")), reasoning=None),
    Plain(name="other tag, reasons", shape=CallShape(arguments_first=True, tag=Tag("xml")), reasoning=Tag("think")),
]
ALL = [pytest.param(dialect, id=dialect.name) for dialect in (*DIALECTS.values(), *MADE_UP)]


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_the_parser_knows_the_tags_of_every_dialect(dialect):
    assert dialect.shape.tag in CALLS or dialect.shape.tag.name in CALL_ALIASES
    assert dialect.reasoning is None or dialect.reasoning.name in REASONING


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_the_model_is_told_of_the_tags_that_it_is_to_write(dialect):
    told = dialect.tools_prompt(TOOLS)
    for tag in (dialect.shape.tag, *filter(None, [dialect.reasoning])):
        assert tag.opening in told
        assert tag.closing in told


def test_no_two_dialects_share_a_name():
    assert [*DIALECTS.values()] == [dialect for family in _FAMILIES for dialect in family]


def test_the_page_on_langchain_lists_them():
    (row,) = re.findall(r"^\| `dialect` \| (.*) \|$", (DOCS / "langchain.md").read_text("utf-8"), re.MULTILINE)
    assert re.findall(r"`(\w+)`", row) == [*DIALECTS]


def test_a_family_that_leaves_something_out_is_no_dialect():
    class Half(Dialect):
        def tools_prompt(self, tools):
            return ""

    with pytest.raises(TypeError, match="call"):
        Half(name="half", shape=CallShape(arguments_first=False), reasoning=None)


def test_a_family_decides_how_the_prompt_is_written(mistral_tokenizer):
    conversation = [
        System("Be brief."),
        User("Bonn?"),
        Assistant("", (CALL,)),
        ToolResult("1", "rain"),
        Assistant("It rains."),
        User("Thanks"),
    ]
    prompt = build_prompt(conversation, tokenizer=mistral_tokenizer, tools=TOOLS, dialect=MADE_UP[2])
    offered = "\n".join(json.dumps(tool.as_openai()) for tool in TOOLS)
    assert prompt.text == (
        f"<s><|im_start|>system\nBe brief.\n\n# Tools\n{offered}<|im_end|>\n"
        "<|im_start|>user\nBonn?<|im_end|>\n"
        "<|im_start|>assistant\n<function_call>\n"
        '{"name": "weather", "arguments": {"city": "Bonn"}}\n</function_call><|im_end|>\n'
        '<|im_start|>user\n<got>"rain"</got><|im_end|>\n'
        "<|im_start|>assistant\nIt rains.<|im_end|>\n"
        "<|im_start|>user\nThanks<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def written(dialect, *calls):
    """Calls as the grammar lays them out, told from the shape's object alone."""
    blocks = [dialect.shape.block(grammar_oracle.dumps(dialect.shape.value(call))) for call in calls]
    return "\n".join(blocks)


@pytest.mark.parametrize("dialect", ALL)
@pytest.mark.parametrize("accepts", [grammar_oracle.accepts, gbnf_oracle.accepts], ids=["lark", "gbnf"])
def test_what_a_dialect_writes_its_grammar_takes_and_the_parser_reads(dialect, accepts):
    other = ToolCall("2", "tide", {"hour": 6})
    for text in (written(dialect, CALL), written(dialect, CALL, other)):
        assert accepts(text, TOOLS, dialect=dialect)
        assert accepts(text, TOOLS, tool_choice="required", dialect=dialect)
        assert accepts(f"Let me look.\n{text}", TOOLS, dialect=dialect)
        assert not accepts(f"Let me look.\n{text}", TOOLS, tool_choice="required", dialect=dialect)
        assert not accepts(text, TOOLS, tool_choice="none", dialect=dialect)
        reasoned = f"<{dialect.reasoning.name if dialect.reasoning else 'think'}>\nHm.\n"
        reasoned += f"</{dialect.reasoning.name if dialect.reasoning else 'think'}>\n"
        assert accepts(reasoned + text, TOOLS, tool_choice="required", dialect=dialect) is bool(dialect.reasoning)
        read = parse_completion(text, TOOLS)
        assert [(call.name, call.arguments, call.problems) for call in read.tool_calls] == [
            (call.name, call.arguments, ()) for call in (CALL, other)[: len(read.tool_calls)]
        ]
        assert len(read.tool_calls) == text.count(dialect.shape.tag.opening)
        assert (read.content, read.invalid_tool_calls) == ("", ())
    wrong_order = CallShape(arguments_first=not dialect.shape.arguments_first, tag=dialect.shape.tag)
    assert not accepts(wrong_order.block(grammar_oracle.dumps(wrong_order.value(CALL))), TOOLS, dialect=dialect)


@pytest.mark.parametrize("dialect", ALL)
@pytest.mark.parametrize("accepts", [grammar_oracle.accepts, gbnf_oracle.accepts], ids=["lark", "gbnf"])
def test_no_text_holds_a_tag_that_the_parser_takes_for_a_call(dialect, accepts):
    for tag in {TOOL_CALL, dialect.shape.tag}:
        for spelled in (tag.opening, f"<{tag.name}s>", f"< {tag.name.upper()}\t>", f"<{tag.name} {{"):
            assert not accepts(f"I write {spelled} and no call", TOOLS, tool_choice="none", dialect=dialect)
        assert accepts(f"I write <{tag.name}_id>", TOOLS, dialect=dialect)
        assert accepts(f"I write <{tag.name[:-1]}", TOOLS, dialect=dialect)


@pytest.mark.parametrize("dialect", MADE_UP, ids=[dialect.name for dialect in MADE_UP])
def test_a_random_model_writes_calls_in_it(dialect, mistral_tokenizer):
    compiler = ConstraintCompiler(mistral_tokenizer, COLUMNS)
    lark = build_grammar(TOOLS, tool_choice="required", max_calls=2, dialect=dialect).lark
    finished = 0
    for seed in range(5):
        turn = write_turn(compiler.compile(lark), mistral_tokenizer, random.Random(seed), max_tokens=200)
        if turn.finished:
            finished += 1
            read = parse_completion(turn.text, TOOLS)
            assert read.tool_calls, turn.text
            assert not read.invalid_tool_calls, turn.text
            assert not any(call.problems for call in read.tool_calls), turn.text
    assert finished


@pytest.mark.parametrize("dialect", ALL)
def test_a_turn_shows_a_wrong_call_with_the_tags_to_write(dialect, mistral_tokenizer):
    wrong = dialect.call(ToolCall("", "weather", {"town": "Bonn"}))
    engine = ScriptedEngine(mistral_tokenizer, [wrong, dialect.call(CALL)])
    request = TurnRequest([User("Bonn?")], tools=TOOLS, dialect=dialect, constrained=False, max_repairs=1)
    turn = Turn(engine, request)
    list(turn)
    assert [(call.name, call.arguments) for call in turn.result.tool_calls] == [("weather", {"city": "Bonn"})]
    tag = dialect.shape.tag
    role, _ = dialect.results([])
    _, _, shown = engine.prompts[1].rpartition("<|im_start|>" + role)
    assert f"with correct arguments within XML tags {tag.opening}{tag.closing}" in shown
