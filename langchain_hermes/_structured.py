"""Chains that end in a value instead of a message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any, Literal

from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableMap
from langchain_core.runnables.utils import AddableDict
from langchain_core.utils.function_calling import convert_to_json_schema
from langchain_core.utils.pydantic import is_basemodel_subclass
from typing_extensions import is_typeddict

from langchain_hermes._objects import CallReader, TextOrCallReader
from langchain_hermes._reading import Reader
from langchain_hermes._tools import Schema, answer_type
from langchain_hermes.output_parsers import HermesJsonOutputParser

Method = Literal["json_schema", "function_calling", "json_mode"]


class CallArgumentsParser(HermesJsonOutputParser):
    """Reads the value in the arguments of a message's first call."""

    def _reader(self) -> Reader[Any]:
        return CallReader(self._target_type)


class AnswerOrCallParser(HermesJsonOutputParser):
    """Reads the object in a message's text; None where the message calls tools."""

    def _reader(self) -> Reader[Any]:
        return TextOrCallReader(self._target_type)


def response_format_of(schema: Schema | None, *, strict: bool | None) -> dict[str, Any]:
    """Return OpenAI's `response_format` for a schema; None means any JSON object.

    Raises:
        SchemaError: No JSON Schema can be read from it.
    """
    target = answer_type(schema)
    if not target.schema:
        return {"type": "json_object"}
    given = {} if strict is None else {"strict": strict}
    return {"type": "json_schema", "json_schema": {"name": target.name, "schema": target.schema, **given}}


def tracing_format(schema: Schema | None, method: Method) -> dict[str, Any]:
    """Return what tracers are told of the wanted form, as a keyword of `bind`."""
    if schema is None:
        return {}
    target = answer_type(schema)
    shown = {**(target.schema or {}), "title": target.name}  # by the title LangChain knows a schema
    if is_typeddict(schema) or (isinstance(schema, type) and is_basemodel_subclass(schema)):
        with suppress(Exception):  # its own form of these classes; it has none of those that contain themselves
            shown = convert_to_json_schema(schema)
    return {"ls_structured_output_format": {"kwargs": {"method": method}, "schema": shown}}


def structured_chain(
    model: Runnable[LanguageModelInput, Any], parser: HermesJsonOutputParser, *, include_raw: bool
) -> Runnable[LanguageModelInput, Any]:
    """Return the model and its parser in a row; with `include_raw` a dict of raw, parsed and parsing_error.

    Streams of the latter yield the message's chunks as `raw`, then the other two.
    """
    if not include_raw:
        return model | parser

    def parsed(raw: BaseMessage | None) -> AddableDict:
        try:
            return AddableDict(parsed=parser.invoke(raw or ""), parsing_error=None)
        except OutputParserException as error:
            return AddableDict(parsed=None, parsing_error=error)

    def report(given: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        raw = None
        for part in given:
            raw = _sum(raw, part["raw"])
            yield part
        yield parsed(raw)

    async def areport(given: AsyncIterator[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        raw = None
        async for part in given:
            raw = _sum(raw, part["raw"])
            yield part
        yield parsed(raw)

    return RunnableMap(raw=model) | RunnableGenerator(report, areport)


def _sum(left: Any, right: Any) -> Any:
    return right if left is None else left + right
