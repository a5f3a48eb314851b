"""LangChain's many forms of tools, tool choices and response formats, brought into one form each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.tools.base import create_schema_from_function
from langchain_core.utils.function_calling import convert_to_openai_function, convert_to_openai_tool
from pydantic import BaseModel

from hermes_runtime.answers import answer_type as answers
from hermes_runtime.answers.answer_type import AnswerType, refused
from hermes_runtime.errors import HermesError, InvalidRequestError
from hermes_runtime.messages import EMPTY_PARAMETERS, ToolChoice, ToolChoiceLike, ToolSpec
from hermes_runtime.schema.edits import is_recursive, with_plain_root, without_null_keywords

Tool = Mapping[str, Any] | type | Callable[..., Any] | BaseTool | ToolSpec
# Whatever `answer_type` takes: type checkers have no word for `A | B` and the other forms of `typing`.
Schema = Any

_OF_OTHER_VENDORS = frozenset(("input_schema", "toolSpec"))
# Where dicts of tools hold others.
_FRAMES = frozenset(("function", "parameters", "input_schema", "toolSpec", "inputSchema", "json"))


def to_openai_tools(tools: Sequence[Tool], *, strict: bool | None = None) -> list[dict[str, Any]]:
    """Convert tools of every kind to OpenAI-style dicts, the form that LangChain expects in a bound model.

    Two tools of one name pass here, as everywhere in LangChain; the call that offers them is refused.

    Raises:
        InvalidRequestError: A tool that only its vendor's servers can run, or one without a name.
    """
    return [converted for converted, _ in _made(tools, strict)]


def tool_specs(tools: Sequence[Tool]) -> list[ToolSpec]:
    """Convert tools of every kind to what a turn takes.

    Raises:
        InvalidRequestError: As `to_openai_tools`.
    """
    return [spec for _, spec in _made(tools, None)]


def tools_to_bind(tools: Sequence[Tool], choice: ToolChoiceLike, *, strict: bool | None = None) -> list[dict[str, Any]]:
    """Return what `to_openai_tools` does, of tools that a choice is made among.

    Raises:
        InvalidRequestError: As `to_openai_tools`.
        ToolChoiceError: An unknown name or form, or a call is required and no tool was given.
    """
    made = _made(tools, strict)
    ToolChoice.coerce(choice, [spec for _, spec in made])
    return [converted for converted, _ in made]


def _made(tools: Sequence[Tool], strict: bool | None) -> list[tuple[dict[str, Any], ToolSpec]]:
    """Return each tool as OpenAI writes it and as a turn takes it."""
    converted = [_to_openai_tool(tool, strict=strict) for tool in tools]
    return [(tool, ToolSpec.coerce(tool)) for tool in converted]


def _to_openai_tool(tool: Tool, *, strict: bool | None) -> dict[str, Any]:
    if isinstance(tool, ToolSpec):
        tool = tool.as_openai()
    if isinstance(tool, Mapping):
        tool = _function(_without_nulls(tool))
    try:
        return _converted(tool, strict)
    except HermesError:
        raise
    except Exception as error:  # whatever the code and the annotations of a tool raise
        raise InvalidRequestError(f"{tool!r} cannot be shown to the model as a tool: {error}") from error


def _converted(tool: Any, strict: bool | None) -> dict[str, Any]:
    converted = convert_to_openai_tool(tool)
    if "function" not in converted:
        raise _no_function(converted)
    function = {"parameters": EMPTY_PARAMETERS, **_without_nulls(converted["function"])}
    if (recursive := _recursive_schema(tool)) is not None:
        function["parameters"] = recursive
    if strict is not None and "strict" not in function:
        function = convert_to_openai_function(function, strict=strict)
    return {**converted, "function": function}


def _without_nulls(tool: Mapping[str, Any]) -> dict[str, Any]:
    said = without_null_keywords(tool)
    return {
        key: _without_nulls(value) if key in _FRAMES and isinstance(value, Mapping) else value
        for key, value in said.items()
    }


def _recursive_schema(described: Any) -> dict[str, Any] | None:
    """Return the schema of a class, or of a tool's arguments, that contains itself; None for all others.

    LangChain writes every reference out, and where one comes back to itself it writes "anything".
    """
    if isinstance(described, BaseTool):
        described = described.tool_call_schema
    elif callable(described) and not isinstance(described, type):
        described = create_schema_from_function(
            described.__name__,
            described,
            filter_args=(),
            parse_docstring=True,
            error_on_invalid_docstring=False,
            include_injected=False,
        )
    if not isinstance(described, type) or not issubclass(described, BaseModel):
        return None
    schema = described.model_json_schema()
    return with_plain_root(schema) if is_recursive(schema) else None


def _function(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool dict with its parameters spelled out; the Responses API's flat form loses its type."""
    if tool.get("type") == "function" and "function" not in tool:
        tool = {key: value for key, value in tool.items() if key != "type"}
    if {"function", "parameters", "input_schema", "toolSpec", "title"} & tool.keys():
        return dict(tool)
    if "type" in tool:
        raise _no_function(tool)
    return {**tool, "parameters": EMPTY_PARAMETERS}


def _no_function(tool: Mapping[str, Any]) -> InvalidRequestError:
    return InvalidRequestError(
        f"a tool of type {tool.get('type')!r} runs on its vendor's servers or takes no JSON arguments; "
        "a local model can only call functions"
    )


def answer_type(schema: Schema) -> AnswerType:
    """Return what an answer must be: whatever `AnswerType.of` takes, and whatever is a tool.

    Raises:
        SchemaError: None of these.
    """
    is_tool = isinstance(schema, BaseTool | ToolSpec) or inspect.isroutine(schema)
    if is_tool or (isinstance(schema, Mapping) and schema.keys() & _OF_OTHER_VENDORS):
        try:
            schema = _to_openai_tool(schema, strict=None)
        except InvalidRequestError as error:
            raise refused(schema, error) from error
    return AnswerType.of(schema)


def response_schema(response_format: Schema) -> Mapping[str, Any] | None:
    """Return the JSON Schema that the answer must follow; a response format may have every form of `answer_type`."""
    return answers.response_schema(response_format, answer_type)
