"""Reads what a Hermes model wrote, whoever ran it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools.types import BaseTool
from llama_index.core.types import BaseOutputParser

from hermes_runtime.answers.answer_type import AnswerType
from hermes_runtime.dialects import Dialect, resolve_dialect
from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.messages import ToolLike
from hermes_runtime.parser import parse_completion
from llama_index_hermes._messages import assistant_message, tool_selections
from llama_index_hermes._structured import parse_value_of
from llama_index_hermes._tools import tool_specs


class HermesOutputParser(BaseOutputParser):
    """An output parser for text in the Hermes format, for use with any LLM that writes it.

    With `output_cls` an answer becomes an object of that class: alone, in a fence or between prose, as JSON or as a
    Python literal. Otherwise it becomes a message whose `<tool_call>`s are `ToolCallBlock`s.

    Args:
        tools: What may be called.
        output_cls: The pydantic class of JSON mode, or another type such as `list[A]`.
        dialect: How `format` tells the model of either; see `hermes_runtime.DIALECTS`.

    Raises:
        InvalidRequestError: Both tools and a class are given, or a tool, the class or the dialect is unusable.

    Example:
        >>> parser = HermesOutputParser()
        >>> text = "<tool_call>{'arguments': {'a': 1}, 'name': 'add'}</tool_call>"
        >>> [(call.tool_name, call.tool_kwargs) for call in parser.tool_selections(text)]
        [('add', {'a': 1})]
    """

    def __init__(
        self,
        tools: Sequence[BaseTool | ToolLike] = (),
        output_cls: Any = None,
        *,
        dialect: str | Dialect = "card",
    ) -> None:
        if tools and output_cls is not None:
            raise InvalidRequestError(
                "an answer is read either for tool calls or as an object; give tools or output_cls"
            )
        self._tools = tool_specs(tools)
        self._target = None if output_cls is None else AnswerType.of(output_cls)
        self._dialect = resolve_dialect(dialect)

    def parse(self, output: str) -> Any:
        """Return the object, or the message that the text is.

        Raises:
            StructuredOutputError: The text holds no object of `output_cls`. A text read for calls never raises: what is
                malformed stands in `additional_kwargs["invalid_tool_calls"]`.
        """
        if self._target is not None:
            return parse_value_of(output, self._target)
        return self._message(output)

    def tool_selections(self, output: str) -> list[ToolSelection]:
        """Return the calls that a text makes; malformed ones are none."""
        return tool_selections(self._message(output))

    def format(self, query: str) -> str:
        """Put what the model has to know of the tools or the schema before a prompt, in the words it was trained on."""
        if self._target is not None:
            return f"{self._dialect.schema_prompt(self._target.schema or {})}\n\n{query}"
        return f"{self._dialect.tools_prompt(self._tools)}\n\n{query}" if self._tools else query

    def _message(self, output: str) -> ChatMessage:
        read = parse_completion(output, self._tools)
        return assistant_message(read.content, read.reasoning, read.tool_calls, read.invalid_tool_calls)
