"""The system prompts that Hermes models were trained on, one `Dialect` each.

Sources: `card` is the model card of the first Hermes 2 Pro Mistral 7B (March 2024), which its AWQ copies carry;
`json_args_first` is that card's later revision; `name_first` is the order of the Hermes 3 templates; `scratch_pad` is
the reasoning prompt in the README of NousResearch's Hermes-Function-Calling. The wording, down to the white space, is
what the weights have seen, so nothing here is edited for taste.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hermes_runtime.errors import InvalidRequestError, SchemaError
from hermes_runtime.literals.escapes import well_formed
from hermes_runtime.messages import ToolCall, ToolSpec

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


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one generation of Hermes models is told of tools, and how it writes calls.

    Attributes:
        name: Key in `DIALECTS`.
        arguments_first: A call's JSON has `arguments` before `name`.
        python_literals: Tools, calls and results are written as Python literals, else as JSON.
        scratch_pad: The model reasons within `<scratch_pad>` before it calls.
        bare_single_tool: One tool stands alone; several (or, where False, any number) form a list.
        before_tools: System prompt up to the tools.
        after_tools: System prompt after the tools.
        schema_close: Tag after the schema of JSON mode. The card prints `<schema>` there, which reads like a slip; the
            code the model was evaluated with writes `</schema>`.
    """

    name: str
    arguments_first: bool
    python_literals: bool
    scratch_pad: bool
    bare_single_tool: bool
    before_tools: str
    after_tools: str
    schema_close: str = "</schema>"

    def literal(self, value: Any) -> str:
        """Write a JSON value in the dialect's notation.

        Raises:
            SchemaError: Something in it has no JSON form.
        """
        return _literal(value, python=self.python_literals)

    def tools_prompt(self, tools: Sequence[ToolSpec]) -> str:
        """Return the system prompt that offers these tools."""
        shown: list[Any] = [tool.as_openai() for tool in tools]
        signatures = self.literal(shown[0] if self.bare_single_tool and len(shown) == 1 else shown)
        return self.before_tools + _without_closing_tag(signatures, "tools") + self.after_tools

    def schema_prompt(self, schema: Mapping[str, Any]) -> str:
        """Return the system prompt of JSON mode; an empty schema asks for any JSON."""
        if not schema:
            return "You are a helpful assistant that answers in JSON."
        shown = _without_closing_tag(_literal(schema, python=False), "schema")
        return (
            "You are a helpful assistant that answers in JSON. Here's the json schema you must adhere to:\n"
            f"<schema>\n{shown}\n{self.schema_close}"
        )

    def call(self, call: ToolCall) -> str:
        """Return the `<tool_call>` block of one call."""
        arguments, name = ("arguments", call.arguments), ("name", call.name)
        return tool_call_block(self._shown(dict((arguments, name) if self.arguments_first else (name, arguments))))

    def response(self, name: str | None, content: Any) -> str:
        """Return the `<tool_response>` block of one result: JSON outside, the content in the dialect's notation."""
        named = "" if name is None else f'"name": {json.dumps(name, ensure_ascii=False)}, '
        shown = json.dumps(content, ensure_ascii=False) if isinstance(content, str) else self._shown(content)
        body = _without_closing_tag(f'{{{named}"content": {shown}}}', "tool_response")
        return f"<tool_response>\n{body}\n</tool_response>"

    def _shown(self, value: Any) -> str:
        # Dates and the like stand in a history for good, so they are shown as the text that they have.
        return _literal(value, python=self.python_literals, foreign=str)


def tool_call_block(body: str) -> str:
    """Wrap the text of one call in its tags."""
    return f"<tool_call>\n{body}\n</tool_call>"


def _literal(value: Any, *, python: bool, foreign: Callable[[Any], str] | None = None) -> str:
    try:
        plain = _plain(value, foreign)
        return repr(plain) if python else json.dumps(plain, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise SchemaError(f"not a JSON value: {error}") from error


def _plain(value: Any, foreign: Callable[[Any], str] | None) -> Any:
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, Mapping):
        return {well_formed(str(key)): _plain(item, foreign) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_plain(item, foreign) for item in value]
    if foreign is not None:
        return well_formed(foreign(value))
    raise TypeError(f"{type(value).__name__} has no JSON form: {value!r}")


def _without_closing_tag(text: str, tag: str) -> str:
    # Inside a JSON string `\/` means `/`, so the text keeps its meaning and cannot close the block around it.
    return text.replace(f"</{tag}>", f"<\\/{tag}>")


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


DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        Dialect(
            name="card",
            arguments_first=True,
            python_literals=True,
            scratch_pad=False,
            bare_single_tool=True,
            before_tools=_INTRODUCTION,
            after_tools=_instruction(_CARD_SCHEMA, "{'arguments': <args-dict>, 'name': <function-name>}"),
        ),
        Dialect(
            name="json_args_first",
            arguments_first=True,
            python_literals=False,
            scratch_pad=False,
            bare_single_tool=True,
            before_tools=_INTRODUCTION,
            after_tools=_instruction(
                _tool_call_schema("arguments", "name"), '{"arguments": <args-dict>, "name": <function-name>}'
            ),
        ),
        Dialect(
            name="name_first",
            arguments_first=False,
            python_literals=False,
            scratch_pad=False,
            bare_single_tool=True,
            before_tools=_INTRODUCTION,
            after_tools=_instruction(
                _tool_call_schema("name", "arguments"), '{"name": <function-name>, "arguments": <args-dict>}'
            ),
        ),
        Dialect(
            name="scratch_pad",
            arguments_first=False,
            python_literals=True,
            scratch_pad=True,
            bare_single_tool=False,
            before_tools=_SCRATCH_PAD_INTRODUCTION,
            after_tools=_SCRATCH_PAD_INSTRUCTION,
        ),
    )
}


def resolve_dialect(dialect: str | Dialect) -> Dialect:
    """Return the dialect of that name, or the given one.

    Raises:
        InvalidRequestError: No dialect has that name.
    """
    if isinstance(dialect, Dialect):
        return dialect
    if dialect not in DIALECTS:
        raise InvalidRequestError(f"unknown dialect {dialect!r}; choose one of {', '.join(DIALECTS)}")
    return DIALECTS[dialect]
