"""Streams for LlamaIndex's function-calling programs, which read an object in a call while it is written.

Such a program asks for the calls of every response of its stream. Agents do so too, and what they are given they may
run: they get whole calls only. A program's tool does nothing but make the object of its arguments, so its calls are
given as far as they are written.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.program.function_program import get_function_tool
from llama_index.core.tools import FunctionTool

from hermes_runtime.turn.lost_calls import lost_calls
from llama_index_hermes._errors import StructuredOutputError
from llama_index_hermes._messages import calls_of
from llama_index_hermes._unfinished import arguments_so_far, is_unfinished


class GrowingObjects(ChatResponse):
    """A response with calls that are still being written, of tools that only make objects."""


def only_make_objects(tools: Sequence[Any]) -> bool:
    """Tell whether all tools are those that programs make of the classes they want objects of."""
    functions = [tool.real_fn for tool in tools if isinstance(tool, FunctionTool)]
    is_programs = all(function.__module__ == get_function_tool.__module__ for function in functions)
    return bool(functions) and len(functions) == len(tools) and is_programs


def growing_selections(message: ChatMessage) -> list[ToolSelection]:
    """Return the calls of a message, of those that are still being written what is certain."""
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    return [
        ToolSelection(tool_id=block.tool_call_id or "", tool_name=block.tool_name, tool_kwargs=arguments)
        for block in blocks
        if isinstance(arguments := arguments_so_far(block), dict)
    ]


def object_responses(responses: Generator[ChatResponse, None, None]) -> Generator[ChatResponse, None, None]:
    """Yield the responses of a stream of objects.

    Raises:
        StructuredOutputError: After the last response: the only call was cut off, or cannot be read. The last partial
            object would be taken for the whole one.
    """
    with closing(responses):
        for response in responses:
            yield _growing(response)
    _check_made(response.message)


async def aobject_responses(responses: AsyncGenerator[ChatResponse, None]) -> AsyncGenerator[ChatResponse, None]:
    """Yield what `object_responses` yields."""
    async with aclosing(responses):
        async for response in responses:
            yield _growing(response)
    _check_made(response.message)


def _growing(response: ChatResponse) -> ChatResponse:
    return GrowingObjects(**dict(response)) if any(map(is_unfinished, response.message.blocks)) else response


def _check_made(message: ChatMessage) -> None:
    calls, lost = calls_of(message)
    if lost and not calls:
        raise StructuredOutputError(f"the answer holds no object: {lost_calls(lost)}")
