"""LlamaIndex tools and tool choices -> what a turn takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatResponse, ChatResponseAsyncGen
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.tools.types import BaseTool

from hermes_runtime.messages import ToolChoice, ToolChoiceLike, ToolLike, ToolSpec, coerce_tools
from hermes_runtime.off_loop import off_loop
from hermes_runtime.schema.edits import with_plain_root


def tool_specs(tools: Sequence[BaseTool | ToolLike]) -> tuple[ToolSpec, ...]:
    """Convert tools; specs and OpenAI-style dicts pass too.

    A tool keeps its own name, whatever characters it has: the format reserves none, and agents look tools up by name.
    (`ToolMetadata.to_openai_tool` writes `Box[int]` as `Box_int_`, which no agent finds again.)

    Raises:
        InvalidRequestError: A tool has no name, or two have the same.
    """
    return coerce_tools([_tool_spec(tool) if isinstance(tool, BaseTool) else tool for tool in tools])


class ToolChats(FunctionCallingLLM):
    """Chats with tools in an event loop, which goes on while the schemas of the tools are made."""

    async def achat_with_tools(self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any) -> ChatResponse:
        """Answer a conversation that may call tools."""
        specs: Sequence[Any] = await off_loop(tool_specs, tools)
        return await super().achat_with_tools(specs, *args, **kwargs)

    async def astream_chat_with_tools(
        self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Stream the answer of `achat_with_tools`."""
        specs: Sequence[Any] = await off_loop(tool_specs, tools)
        return await super().astream_chat_with_tools(specs, *args, **kwargs)


def _tool_spec(tool: BaseTool) -> ToolSpec:
    metadata = tool.metadata
    parameters = metadata.get_parameters_dict()
    if metadata.fn_schema is not None and "type" not in parameters:  # it leaves out what the root refers to
        parameters = with_plain_root(metadata.fn_schema.model_json_schema())
    return ToolSpec(metadata.name or "", metadata.description or "", parameters)


def asked_choice(tool_choice: ToolChoiceLike, tools: Sequence[Any], *, tool_required: bool = False) -> ToolChoiceLike:
    """Bring a choice and the flag `tool_required` into one, as LlamaIndex's OpenAI class does.

    The flag is of use where no choice was made, and there are tools to call.
    """
    return "required" if tool_required and tool_choice is None and tools else tool_choice


def resolve_tool_choice(
    tool_choice: ToolChoiceLike, specs: Sequence[ToolSpec], *, tool_required: bool = False
) -> ToolChoice:
    """Return what was asked for among some tools; see `asked_choice`.

    Raises:
        ToolChoiceError: The choice does not fit the tools.
    """
    return ToolChoice.coerce(asked_choice(tool_choice, specs, tool_required=tool_required), specs)


def plain_tool_choice(choice: ToolChoice) -> Any:
    """Return the choice as OpenAI writes it, so that events that carry it stay plain data."""
    if not choice.names:
        return choice.mode
    if choice.mode == "required" and len(choice.names) == 1:
        return {"type": "function", "function": {"name": choice.names[0]}}
    return list(choice.names) if choice.mode == "required" else choice
