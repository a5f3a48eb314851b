"""Chains that end in an object instead of a message."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Literal

from langchain_core.language_models import LanguageModelInput
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.pydantic import is_basemodel_subclass

from langchain_hermes._tools import Schema, json_schema_of

Method = Literal["json_schema", "function_calling", "json_mode"]
Parser = Runnable[Any, Any]


def answer_parser(schema: Schema | None) -> Parser:
    """Return what reads an object from an answer in JSON: an instance of a pydantic class, else a dict."""
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return PydanticOutputParser(pydantic_object=schema)
    return JsonOutputParser()


def call_parser(schema: Schema, tool_name: str) -> Parser:
    """Return what reads an object from the arguments of a call of the tool that stands for the schema."""
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return PydanticToolsParser(tools=[schema], first_tool_only=True)
    return JsonOutputKeyToolsParser(key_name=tool_name, first_tool_only=True)


def response_format_of(schema: Schema | None, *, strict: bool | None) -> dict[str, Any]:
    """Return OpenAI's `response_format` for a schema; None means any JSON object.

    Raises:
        SchemaError: No JSON Schema can be read from it.
    """
    if schema is None:
        return {"type": "json_object"}
    described = json_schema_of(schema)
    name = described.get("title", "answer")
    given = {} if strict is None else {"strict": strict}
    return {"type": "json_schema", "json_schema": {"name": name, "schema": described, **given}}


def tracing_format(schema: Schema | None, method: Method) -> dict[str, Any]:
    """Return what tracers are told of the wanted form, as a keyword of `bind`."""
    if schema is None:
        return {}
    shown = dict(schema) if isinstance(schema, Mapping) else schema
    return {"ls_structured_output_format": {"kwargs": {"method": method}, "schema": shown}}


def structured_chain(
    model: Runnable[LanguageModelInput, Any], parser: Parser, *, include_raw: bool
) -> Runnable[LanguageModelInput, Any]:
    """Return the model and its parser in a row; with `include_raw` a dict of raw, parsed and parsing_error."""
    if not include_raw:
        return model | parser
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=model) | parsed.with_fallbacks([failed], exception_key="parsing_error")
