"""LangChain's many forms of tools, tool choices and response formats, brought into one form each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.tools.base import create_schema_from_function
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from pydantic import BaseModel

from hermes_runtime.errors import InvalidRequestError, SchemaError
from hermes_runtime.json_schema import is_recursive, with_plain_root
from hermes_runtime.messages import EMPTY_PARAMETERS, ToolChoice, ToolChoiceLike, ToolSpec

Tool = Mapping[str, Any] | type | Callable[..., Any] | BaseTool | ToolSpec
Schema = Mapping[str, Any] | type

# None of these stands at the top of an OpenAI function dict, and one of them at the top of every schema worth the name.
_JSON_SCHEMA_KEYWORDS = frozenset(("type", "properties", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"))


def to_openai_tools(tools: Sequence[Tool], *, strict: bool | None = None) -> list[dict[str, Any]]:
    """Convert tools of every kind to OpenAI-style dicts, the form that LangChain expects in a bound model.

    Two tools of one name pass here, as everywhere in LangChain; the call that offers them is refused.

    Raises:
        InvalidRequestError: A tool that only its vendor's servers can run, or one without a name.
    """
    return [_to_openai_tool(tool, strict=strict) for tool in tools]


def _to_openai_tool(tool: Tool, *, strict: bool | None) -> dict[str, Any]:
    if isinstance(tool, ToolSpec):
        tool = tool.as_openai()
    if isinstance(tool, Mapping):
        tool = _function(tool)
    try:
        converted = convert_to_openai_tool(tool, strict=strict)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"{tool!r} cannot be shown to the model as a tool: {error}") from error
    if "function" not in converted:
        raise _no_function(converted)
    if (recursive := _recursive_schema(tool)) is not None:
        converted["function"]["parameters"] = recursive
    ToolSpec.coerce(converted)
    return converted


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


def check_tool_choice(choice: ToolChoiceLike, tools: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a tool choice that the tools cannot satisfy.

    Raises:
        ToolChoiceError: An unknown name or form, or a call is required and no tool was given.
    """
    ToolChoice.coerce(choice, [ToolSpec.coerce(tool) for tool in tools])


def response_schema(response_format: Schema | None) -> dict[str, Any] | None:
    """Return the JSON Schema that the answer must follow; `{}` for any JSON object, None for plain text.

    Args:
        response_format: OpenAI's `json_schema`, `json_object` and `text` dicts, or whatever `json_schema_of` takes.

    Raises:
        SchemaError: None of these.
    """
    if response_format is None:
        return None
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {}
    if isinstance(response_format, Mapping) and kind == "json_schema":
        # The Responses API has no inner dict.
        described = response_format.get("json_schema", response_format)
        if not isinstance(described, Mapping) or not isinstance(described.get("schema"), Mapping):
            raise SchemaError(f"response_format of type 'json_schema' needs a schema, got {dict(response_format)!r}")
        return dict(described["schema"])
    return json_schema_of(response_format)


def json_schema_of(schema: Schema) -> dict[str, Any]:
    """Return the JSON Schema of a pydantic class, a TypedDict, an OpenAI function dict or a JSON Schema.

    Raises:
        SchemaError: None of these.
    """
    if isinstance(schema, Mapping):
        if _JSON_SCHEMA_KEYWORDS & schema.keys() and "function" not in schema:
            return dict(schema)
        schema = dict(schema)
    if (recursive := _recursive_schema(schema)) is not None:
        return recursive
    try:
        return convert_to_json_schema(schema)
    except (TypeError, ValueError) as error:
        raise SchemaError(f"no JSON Schema can be read from {schema!r}: {error}") from error
