"""Chains that end in an object instead of a message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Literal

from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableMap
from langchain_core.runnables.utils import AddableDict

from langchain_hermes._objects import CallReader, TextOrCallReader
from langchain_hermes._reading import Reader
from langchain_hermes._tools import Schema, json_schema_of
from langchain_hermes.output_parsers import HermesJsonOutputParser

Method = Literal["json_schema", "function_calling", "json_mode"]


class CallArgumentsParser(HermesJsonOutputParser):
    """Reads the object in the arguments of a message's first call."""

    def _reader(self) -> Reader[Any]:
        return CallReader(self._object_target)


class AnswerOrCallParser(HermesJsonOutputParser):
    """Reads the object in a message's text; None where the message calls tools."""

    def _reader(self) -> Reader[Any]:
        return TextOrCallReader(self._object_target)


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
