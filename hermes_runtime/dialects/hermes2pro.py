"""Hermes 2 Pro and what came after it: ChatML, tools in the system prompt, calls and results within tags.

Sources: `card` is the model card of the first Hermes 2 Pro Mistral 7B (March 2024), which its AWQ copies carry;
`json_args_first` is that card's later revision; `name_first` is the order of the Hermes 3 templates; `scratch_pad` is
the reasoning prompt in the README of NousResearch's Hermes-Function-Calling. The wording, down to the white space, is
what the weights have seen, so nothing here is edited for taste.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hermes_runtime.dialects.base import CallShape, Dialect
from hermes_runtime.dialects.notation import literal, without_closing
from hermes_runtime.messages import ToolCall, ToolSpec
from hermes_runtime.tags import SCHEMA, SCRATCH_PAD, TOOL_RESPONSE, TOOLS

_INTRODUCTION = (
    "You are a function calling AI model. You are provided with function signatures within <tools></tools> XML tags. "
    "You may call one or more functions to assist with the user query. Don't make assumptions about what values to "
    "plug into functions. Here are the available tools: <tools> "
)
_INSTRUCTION = (
    " </tools> Use the following pydantic model json schema for each tool call you will make: {schema} For each "
    "function call return a json object with function name and arguments within <tool_call></tool_call> XML tags as "
    "follows:\n"
    "<tool_call>\n{form}\n</tool_call>"
)
_SCRATCH_PAD_INTRODUCTION = (
    "You are a function calling AI model. You are provided with function signatures within <tools> </tools> XML tags. "
    "You may call one or more functions to assist with the user query. If available tools are not relevant in "
    "assisting with user query, just respond in natural conversational language. Don't make assumptions about what "
    "values to plug into functions. After calling & executing the functions, you will be provided with function "
    "results within <tool_response> </tool_response> XML tags.\n<tools>\n"
)
_SCRATCH_PAD_INSTRUCTION = """
</tools>
For each function call return a JSON object, with the following pydantic model json schema:
{'title': 'FunctionCall', 'type': 'object', 'properties': {'name': {'title': 'Name', 'type': 'string'}, \
'arguments': {'title': 'Arguments', 'type': 'object'}}, 'required': ['arguments', 'name']}
Each function call should be enclosed within <tool_call> </tool_call> XML tags. You must use <scratch_pad> \
</scratch_pad> XML tags to record your reasoning and planning before you call the functions as follows.
Example:
<scratch_pad>
Goal: <state task assigned by user>
Actions:
<if tool calls need to be generated:>
- {result_var_name1} = functions.{function_name1}({param1}={value1},...)
- {result_var_name2, result_var_name3} = ...
<if no tool call needs to be generated:> None
Observation: <set observation 'None' with tool calls; plan final tools results summary when provided>
Reflection: <evaluate query-tool relevance and required parameters when tools called; analyze overall task status when \
observations made>
</scratch_pad>
<tool_call>
{'name': <function-name>, 'arguments': <args-dict>}
</tool_call>"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hermes2Pro(Dialect):
    """One generation of Hermes models.

    Attributes:
        python_literals: Tools, calls and results are written as Python literals, else as JSON.
        bare_single_tool: One tool stands alone; several (or, where False, any number) form a list.
        before_tools: System prompt up to the tools.
        after_tools: System prompt after the tools.
        schema_close: Tag after the schema of JSON mode. The card prints `<schema>` there, which reads like a slip; the
            code the model was evaluated with writes `</schema>`.
    """

    python_literals: bool
    bare_single_tool: bool
    before_tools: str
    after_tools: str
    schema_close: str = SCHEMA.closing

    def tools_prompt(self, tools: Sequence[ToolSpec]) -> str:
        """Return the system prompt that offers these tools."""
        shown: list[Any] = [tool.as_openai() for tool in tools]
        signatures = self.literal(shown[0] if self.bare_single_tool and len(shown) == 1 else shown)
        return self.before_tools + without_closing(signatures, TOOLS) + self.after_tools

    def schema_prompt(self, schema: Mapping[str, Any]) -> str:
        """Return the system prompt of JSON mode; an empty schema asks for any JSON."""
        if not schema:
            return "You are a helpful assistant that answers in JSON."
        return (
            "You are a helpful assistant that answers in JSON. Here's the json schema you must adhere to:\n"
            f"{SCHEMA.opening}\n{without_closing(literal(schema), SCHEMA)}\n{self.schema_close}"
        )

    def system_text(
        self, tools: Sequence[ToolSpec], schema: Mapping[str, Any] | None, instructions: Sequence[str]
    ) -> str:
        """Return tools, schema and instructions, in this order.

        The fixed, long part goes first: agents that share tools but not instructions then share the longest prefix.
        """
        parts = [self.tools_prompt(tools)] if tools else []
        if schema is not None:
            parts.append(self.schema_prompt(schema))
        return "\n\n".join([*parts, *instructions])

    def call(self, call: ToolCall) -> str:
        """Return the block of one call."""
        return self.shape.block(self._shown(self.shape.value(call)))

    def results(self, results: Sequence[tuple[str | None, Any]]) -> tuple[str, str]:
        """Return a turn of the role `tool` with a block for each result."""
        return "tool", "".join(f"{self._result(name, content)}\n" for name, content in results)

    def literal(self, value: Any) -> str:
        """Write a JSON value in the dialect's notation.

        Raises:
            SchemaError: Something in it has no JSON form.
        """
        return literal(value, python=self.python_literals)

    def _result(self, name: str | None, content: Any) -> str:
        # JSON outside, the content in the dialect's notation.
        named = "" if name is None else f'"name": {json.dumps(name, ensure_ascii=False)}, '
        shown = json.dumps(content, ensure_ascii=False) if isinstance(content, str) else self._shown(content)
        body = without_closing(f'{{{named}"content": {shown}}}', TOOL_RESPONSE)
        return f"{TOOL_RESPONSE.opening}\n{body}\n{TOOL_RESPONSE.closing}"

    def _shown(self, value: Any) -> str:
        # Dates and the like stand in a history for good, so they are shown as the text that they have.
        return literal(value, python=self.python_literals, foreign=str)


def _tool_call_schema(first: str, second: str) -> str:
    fields = {
        "arguments": {"title": "Arguments", "type": "object"},
        "name": {"title": "Name", "type": "string"},
    }
    return json.dumps(
        {
            "properties": {first: fields[first], second: fields[second]},
            "required": [first, second],
            "title": "FunctionCall",
            "type": "object",
        }
    )


_CARD_SCHEMA = (
    "{'title': 'FunctionCall', 'type': 'object', 'properties': {'arguments': {'title': 'Arguments', 'type': 'object'}, "
    "'name': {'title': 'Name', 'type': 'string'}}, 'required': ['arguments', 'name']}"
)


def _instruction(schema: str, form: str) -> str:
    return _INSTRUCTION.replace("{schema}", schema).replace("{form}", form)


CARD = Hermes2Pro(
    name="card",
    shape=CallShape(arguments_first=True),
    reasoning=None,
    python_literals=True,
    bare_single_tool=True,
    before_tools=_INTRODUCTION,
    after_tools=_instruction(_CARD_SCHEMA, "{'arguments': <args-dict>, 'name': <function-name>}"),
)
HERMES_2_PRO = (
    CARD,
    Hermes2Pro(
        name="json_args_first",
        shape=CallShape(arguments_first=True),
        reasoning=None,
        python_literals=False,
        bare_single_tool=True,
        before_tools=_INTRODUCTION,
        after_tools=_instruction(
            _tool_call_schema("arguments", "name"), '{"arguments": <args-dict>, "name": <function-name>}'
        ),
    ),
    Hermes2Pro(
        name="name_first",
        shape=CallShape(arguments_first=False),
        reasoning=None,
        python_literals=False,
        bare_single_tool=True,
        before_tools=_INTRODUCTION,
        after_tools=_instruction(
            _tool_call_schema("name", "arguments"), '{"name": <function-name>, "arguments": <args-dict>}'
        ),
    ),
    Hermes2Pro(
        name="scratch_pad",
        shape=CallShape(arguments_first=False),
        reasoning=SCRATCH_PAD,
        python_literals=True,
        bare_single_tool=False,
        before_tools=_SCRATCH_PAD_INTRODUCTION,
        after_tools=_SCRATCH_PAD_INSTRUCTION,
    ),
)
