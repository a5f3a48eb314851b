"""Pydantic objects from the model, whole or while they are written."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any, Generic

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    ToolCallBlock,
)
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # public, not in __all__
from llama_index.core.instrumentation.events.llm import LLMStructuredPredictEndEvent, LLMStructuredPredictStartEvent
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.program.function_program import get_function_tool
from llama_index.core.program.utils import FlexibleModel, create_flexible_model
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.tools.types import BaseTool
from llama_index.core.types import Model, PydanticProgramMode
from pydantic import BaseModel

from hermes_runtime.json_answer import parse_json
from hermes_runtime.lost_calls import lost_calls
from hermes_runtime.option_fields import OptionFields
from hermes_runtime.partial import NOTHING, PartialValue
from llama_index_hermes._errors import StructuredOutputError
from llama_index_hermes._messages import calls_of
from llama_index_hermes._programs import aobject_responses, object_responses, only_make_objects
from llama_index_hermes._tools import tool_specs

_dispatcher = get_dispatcher(__name__)
_DECIDED_HERE = ("tools", "tool_choice", "tool_required", "parallel_tool_calls", "response_format")


class StructuredPrediction(OptionFields, FunctionCallingLLM):
    """`structured_predict` and its kin.

    In the default `pydantic_program_mode` the class's JSON Schema is shown to the model and, under the constraint, is
    the grammar of its answer. Streams yield partial objects (`FlexibleModel`: every field optional) as they grow, lists
    included, and the checked object last. In the mode `function` the model has to call one tool whose arguments are the
    object, and streams yield them as they grow. All other modes are LlamaIndex's own.
    """

    def structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Return an object of `output_cls`.

        Args:
            output_cls: The pydantic class.
            prompt: What is asked.
            llm_kwargs: Options of the call.
            **prompt_args: Values for the prompt's variables.

        Raises:
            StructuredOutputError: The answer was cut off, or is no such object.
        """
        if not self._has_own_way:
            output: Model = super().structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
            return output
        _announce(output_cls, prompt, prompt_args)
        response = self.chat(self._asked(prompt, prompt_args), **self._forcing(output_cls, llm_kwargs))
        return _conclude(_object_in(response, output_cls))

    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Return what `structured_predict` returns."""
        if not self._has_own_way:
            output: Model = await super().astructured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
            return output
        _announce(output_cls, prompt, prompt_args)
        response = await self.achat(self._asked(prompt, prompt_args), **self._forcing(output_cls, llm_kwargs))
        return _conclude(_object_in(response, output_cls))

    def _structured_stream_call(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Model | list[Model] | FlexibleModel | list[FlexibleModel], None, None]:
        if not self._has_own_way:
            return super()._structured_stream_call(output_cls, prompt, llm_kwargs, **prompt_args)
        responses = self.stream_chat(self._asked(prompt, prompt_args), **self._forcing(output_cls, llm_kwargs))
        return _objects(responses, _Growing(output_cls, in_call=self._is_in_call))

    async def _structured_astream_call(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Model | list[Model] | FlexibleModel | list[FlexibleModel], None]:
        if not self._has_own_way:
            return await super()._structured_astream_call(output_cls, prompt, llm_kwargs, **prompt_args)
        options = self._forcing(output_cls, llm_kwargs)
        responses = await self.astream_chat(self._asked(prompt, prompt_args), **options)
        return _aobjects(responses, _Growing(output_cls, in_call=self._is_in_call))

    def stream_chat_with_tools(self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any) -> ChatResponseGen:
        """Stream a chat with tools; for the tools of programs, their objects as they grow."""
        responses = super().stream_chat_with_tools(tools, *args, **kwargs)
        return object_responses(responses) if only_make_objects(tools) else responses

    async def astream_chat_with_tools(
        self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Stream what `stream_chat_with_tools` streams."""
        responses = await super().astream_chat_with_tools(tools, *args, **kwargs)
        return aobject_responses(responses) if only_make_objects(tools) else responses

    @property
    def _is_in_call(self) -> bool:
        return self.pydantic_program_mode == PydanticProgramMode.FUNCTION

    @property
    def _has_own_way(self) -> bool:
        return self._is_in_call or self.pydantic_program_mode == PydanticProgramMode.DEFAULT

    def _forcing(self, output_cls: type[BaseModel], llm_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the options of a chat whose answer is the object."""
        options = self._call_options(llm_kwargs or {})
        given = {name: value for name, value in options.items() if name not in _DECIDED_HERE}
        if not self._is_in_call:
            return {**given, "response_format": output_cls.model_json_schema()}
        (spec,) = tool_specs([get_function_tool(output_cls)])
        return {**given, "tools": [spec.as_openai()], "tool_required": True, "parallel_tool_calls": False}

    def _asked(self, prompt: BasePromptTemplate, prompt_args: Mapping[str, Any]) -> list[ChatMessage]:
        return self._extend_messages(prompt.format_messages(llm=self, **prompt_args))


class _Growing(Generic[Model]):
    """The object that a stream of responses spells, in its text or in the arguments of its only call."""

    def __init__(self, output_cls: type[Model], *, in_call: bool) -> None:
        self._output_cls = output_cls
        self._in_call = in_call
        self._arguments = ""
        self._partial_cls = create_flexible_model(output_cls)
        self._written = PartialValue()
        self._has_begun = False
        self._value: Any = NOTHING
        self._response: ChatResponse | None = None

    def add(self, response: ChatResponse) -> list[FlexibleModel]:
        """Return the object so far if it grew."""
        self._response = response
        new = self._new_arguments(response) if self._in_call else response.delta or ""
        if not self._has_begun:
            # Unconstrained models write words before it.
            _, brace, rest = new.partition("{")
            self._has_begun, new = bool(brace), brace + rest
        self._written.feed(new)
        before, self._value = self._value, self._written.value
        if self._value == before or not isinstance(self._value, dict):
            return []
        return [self._partial_cls.model_validate(self._value)]

    def _new_arguments(self, response: ChatResponse) -> str:
        shown = [block.tool_kwargs for block in response.message.blocks if isinstance(block, ToolCallBlock)]
        if not (shown and isinstance(shown[0], str)):
            return ""
        new = shown[0][len(self._arguments) :]
        self._arguments = shown[0]
        return new

    def whole(self) -> Model:
        """Return the finished object."""
        assert self._response is not None, "a stream has at least one response"
        return _object_in(self._response, self._output_cls)


def _objects(
    responses: Generator[ChatResponse, None, None], growing: _Growing[Model]
) -> Generator[Model | FlexibleModel, None, None]:
    with closing(responses):
        for response in responses:
            yield from growing.add(response)
    yield growing.whole()


async def _aobjects(
    responses: AsyncGenerator[ChatResponse, None], growing: _Growing[Model]
) -> AsyncGenerator[Model | FlexibleModel, None]:
    async with aclosing(responses):
        async for response in responses:
            for partial in growing.add(response):
                yield partial
    yield growing.whole()


def _announce(output_cls: type[Model], prompt: BasePromptTemplate, prompt_args: Mapping[str, Any]) -> None:
    _dispatcher.event(
        LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=dict(prompt_args))
    )


def _conclude(output: Model) -> Model:
    _dispatcher.event(LLMStructuredPredictEndEvent(output=output))
    return output


def parse_object(text: str, output_cls: type[Model]) -> Model:
    """Return the object that a text holds: alone, in a fence or between prose, as JSON or as a Python literal.

    Raises:
        StructuredOutputError: It holds none.
    """
    answer = parse_json(text, output_cls.model_json_schema())
    if answer.value is None and answer.problems:
        raise StructuredOutputError(f"the answer is no {output_cls.__name__}: {answer.problems[0]}")
    return _validated(answer.value, output_cls)


def _object_in(response: ChatResponse, output_cls: type[Model]) -> Model:
    calls, lost = calls_of(response.message)
    if lost and not calls:
        raise StructuredOutputError(f"the answer is no {output_cls.__name__}: {lost_calls(lost)}")
    raw: dict[str, Any] = response.raw or {}
    if raw["finish_reason"] == "length":
        raise StructuredOutputError(
            f"the answer was cut off after {raw['usage']['completion_tokens']} tokens, before the "
            f"{output_cls.__name__} was complete; raise max_tokens"
        )
    if calls:
        return _validated(calls[0].arguments, output_cls)
    return parse_object(response.message.content or "", output_cls)


def _validated(value: Any, output_cls: type[Model]) -> Model:
    try:
        return output_cls.model_validate_json(json.dumps(value))
    except ValueError as error:
        raise StructuredOutputError(f"the answer is no {output_cls.__name__}: {error}") from error
