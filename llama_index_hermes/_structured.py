"""Pydantic objects, and values of other types, from the model, whole or while they are written."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing, contextmanager
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    ToolCallBlock,
)
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # public, not in __all__
from llama_index.core.instrumentation.events.llm import (
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictInProgressEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.program.utils import FlexibleModel, create_flexible_model
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.tools.types import BaseTool
from llama_index.core.types import Model, PydanticProgramMode
from pydantic import BaseModel, RootModel

from hermes_runtime.answers.answer_type import AnswerType, UnreadableAnswerError
from hermes_runtime.literals.partial_value import PartialValue
from hermes_runtime.literals.scanner import NOTHING
from hermes_runtime.options.fields import OptionFields
from hermes_runtime.turn.lost_calls import lost_calls
from llama_index_hermes._errors import StructuredOutputError
from llama_index_hermes._messages import calls_of
from llama_index_hermes._programs import aobject_responses, object_responses, only_make_objects
from llama_index_hermes._tools import ToolChats

_dispatcher = get_dispatcher(__name__)
_OBJECT, _OBJECT_OR_LIST = re.compile(r"\{"), re.compile(r"[{\[]")
_DECIDED_HERE = ("tools", "tool_choice", "tool_required", "parallel_tool_calls", "response_format")


class StructuredPrediction(OptionFields, ToolChats):
    """`structured_predict` and its kin.

    In the default `pydantic_program_mode` the class's JSON Schema is shown to the model and, under the constraint, is
    the grammar of its answer. Streams yield partial objects (`FlexibleModel`: every field optional) as they grow, lists
    included, and the checked object last. In the mode `function` the model has to call one tool whose arguments are the
    object, and streams yield them as they grow. All other modes are LlamaIndex's own. Values of types that are no
    pydantic class come out as `list[A]` and the like make them, in lists that grow.
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
            output_cls: The pydantic class; another type, such as `list[A]`, an Enum or `A | B`, gives its own value.
            prompt: What is asked.
            llm_kwargs: Options of the call.
            **prompt_args: Values for the prompt's variables.

        Raises:
            SchemaError: `output_cls` is no type that has a JSON Schema.
            StructuredOutputError: The answer was cut off, or is no such object.
        """
        if not self._has_own_way:
            output: Model = super().structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
            return output
        target = AnswerType.of(output_cls)
        _announce(output_cls, prompt, prompt_args)
        response = self.chat(self._asked(prompt, prompt_args), **self._forcing(target, llm_kwargs))
        value: Model = _value_in(response, target)
        return _conclude(value)

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
        target = AnswerType.of(output_cls)
        _announce(output_cls, prompt, prompt_args)
        response = await self.achat(self._asked(prompt, prompt_args), **self._forcing(target, llm_kwargs))
        value: Model = _value_in(response, target)
        return _conclude(value)

    @_dispatcher.span
    def stream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Model | FlexibleModel, None, None]:
        """Yield what `structured_predict` returns while it grows, and the checked value last; lists too.

        (LlamaIndex's own ends with an `AssertionError` at a list.)
        """
        _announce(output_cls, prompt, prompt_args)
        value: Any = None
        for value in self._structured_stream_call(output_cls, prompt, llm_kwargs, **prompt_args):
            _dispatcher.event(LLMStructuredPredictInProgressEvent(output=value))
            yield value
        _conclude(value)

    @_dispatcher.span
    async def astream_structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Model | FlexibleModel, None]:
        """Yield what `stream_structured_predict` yields."""

        async def values() -> AsyncGenerator[Any, None]:
            _announce(output_cls, prompt, prompt_args)
            value: Any = None
            async for value in await self._structured_astream_call(output_cls, prompt, llm_kwargs, **prompt_args):
                _dispatcher.event(LLMStructuredPredictInProgressEvent(output=value))
                yield value
            _conclude(value)

        return values()

    def _structured_stream_call(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Model | list[Model] | FlexibleModel | list[FlexibleModel], None, None]:
        if not self._has_own_way:
            return super()._structured_stream_call(output_cls, prompt, llm_kwargs, **prompt_args)
        target = AnswerType.of(output_cls)
        responses = self.stream_chat(self._asked(prompt, prompt_args), **self._forcing(target, llm_kwargs))
        return _objects(responses, _Growing(target, in_call=self._is_in_call))

    async def _structured_astream_call(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Model | list[Model] | FlexibleModel | list[FlexibleModel], None]:
        if not self._has_own_way:
            return await super()._structured_astream_call(output_cls, prompt, llm_kwargs, **prompt_args)
        target = AnswerType.of(output_cls)
        options = self._forcing(target, llm_kwargs)
        responses = await self.astream_chat(self._asked(prompt, prompt_args), **options)
        return _aobjects(responses, _Growing(target, in_call=self._is_in_call))

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

    def _forcing(self, target: AnswerType, llm_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the options of a chat whose answer is the value."""
        options = self._call_options(llm_kwargs or {})
        given = {name: value for name, value in options.items() if name not in _DECIDED_HERE}
        if not self._is_in_call:
            return {**given, "response_format": target.schema}
        return {**given, "tools": [target.tool.as_openai()], "tool_required": True, "parallel_tool_calls": False}

    def _asked(self, prompt: BasePromptTemplate, prompt_args: Mapping[str, Any]) -> list[ChatMessage]:
        return self._extend_messages(prompt.format_messages(llm=self, **prompt_args))


class _Growing:
    """The value that a stream of responses spells, in its text or in the arguments of its only call."""

    def __init__(self, target: AnswerType, *, in_call: bool) -> None:
        self._target = target
        self._in_call = in_call
        self._arguments = ""
        self._partial_cls = _flexible(target.described)
        self._written = PartialValue()
        self._has_begun = False
        self._value: Any = NOTHING
        self._response: ChatResponse | None = None

    def add(self, response: ChatResponse) -> list[Any]:
        """Return the value so far if it grew."""
        self._response = response
        new = self._new_arguments(response) if self._in_call else response.delta or ""
        if not self._has_begun:
            # Unconstrained models write words before it.
            begin = (_OBJECT if self._in_call or self._partial_cls else _OBJECT_OR_LIST).search(new)
            self._has_begun, new = begin is not None, new[begin.start() :] if begin else ""
        self._written.feed(new)
        before, self._value = self._value, self._part()
        return [] if self._value is NOTHING or self._value == before else [self._value]

    def _part(self) -> Any:
        value = self._written.value
        if self._in_call:
            value = self._target.in_arguments(value)
        if self._partial_cls is None:
            return self._target.part_of(value)
        return self._partial_cls.model_validate(value) if isinstance(value, dict) else NOTHING

    def _new_arguments(self, response: ChatResponse) -> str:
        shown = [block.tool_kwargs for block in response.message.blocks if isinstance(block, ToolCallBlock)]
        if not (shown and isinstance(shown[0], str)):
            return ""
        new = shown[0][len(self._arguments) :]
        self._arguments = shown[0]
        return new

    def whole(self) -> Any:
        """Return the finished value."""
        assert self._response is not None, "a stream has at least one response"
        return _value_in(self._response, self._target)


def _flexible(output_cls: Any) -> type[FlexibleModel] | None:
    """Return the class of partial objects; None where parts are the type's own values."""
    is_model = (
        inspect.isclass(output_cls) and issubclass(output_cls, BaseModel) and not issubclass(output_cls, RootModel)
    )
    return create_flexible_model(output_cls) if is_model else None


def _objects(responses: Generator[ChatResponse, None, None], growing: _Growing) -> Generator[Any, None, None]:
    with closing(responses):
        for response in responses:
            yield from growing.add(response)
    yield growing.whole()


async def _aobjects(responses: AsyncGenerator[ChatResponse, None], growing: _Growing) -> AsyncGenerator[Any, None]:
    async with aclosing(responses):
        async for response in responses:
            for partial in growing.add(response):
                yield partial
    yield growing.whole()


def _announce(output_cls: Any, prompt: BasePromptTemplate, prompt_args: Mapping[str, Any]) -> None:
    _dispatcher.event(
        LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=dict(prompt_args))
    )


def _conclude(output: Model) -> Model:
    _dispatcher.event(LLMStructuredPredictEndEvent(output=output))
    return output


def parse_value_of(text: str, target: AnswerType) -> Any:
    """Return the value that a text holds: alone, in a fence or between prose, as JSON or as a Python literal.

    Raises:
        StructuredOutputError: The text holds no such value.
    """
    with _as_structured_output_error(target):
        return target.read(text)


def _value_in(response: ChatResponse, target: AnswerType) -> Any:
    calls, lost = calls_of(response.message)
    if lost and not calls:
        raise StructuredOutputError(f"the answer is no {target}: {lost_calls(lost)}")
    raw: dict[str, Any] = response.raw or {}
    if raw["finish_reason"] == "length":
        raise StructuredOutputError(
            f"the answer was cut off after {raw['usage']['completion_tokens']} tokens, before the "
            f"{target} was complete; raise max_tokens"
        )
    if not calls:
        return parse_value_of(response.message.content or "", target)
    with _as_structured_output_error(target):
        return target.value_of(target.in_arguments(calls[0].arguments))


@contextmanager
def _as_structured_output_error(target: AnswerType) -> Iterator[None]:
    try:
        yield
    except UnreadableAnswerError as error:
        raise StructuredOutputError(f"the answer is no {target}: {error}") from error
