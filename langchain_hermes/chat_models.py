"""ChatHermes: a local Hermes model as a LangChain chat model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, MessageLikeRepresentation, convert_to_messages
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable

from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.literals.escapes import well_formed
from hermes_runtime.options.generation import merged
from hermes_runtime.turn import render
from langchain_hermes._call import Call
from langchain_hermes._chunks import TOKEN_USAGE, ChunkWriter, summed_usage
from langchain_hermes._errors import langchain_errors, model_call
from langchain_hermes._fields import HermesOptions
from langchain_hermes._messages import to_runtime_messages
from langchain_hermes._options import turn_request
from langchain_hermes._structured import (
    AnswerOrCallParser,
    CallArgumentsParser,
    Method,
    response_format_of,
    structured_chain,
    tracing_format,
)
from langchain_hermes._tools import Schema, Tool, answer_type, response_schema, tools_to_bind
from langchain_hermes.output_parsers import HermesJsonOutputParser


class ChatHermes(HermesOptions):
    """A Hermes model behind LangChain's chat-model interface; it runs in this process, or on a server you name.

    Setup:
        `pip install ".[langchain]"` in a checkout. There is no key to set and nothing to start: weights are loaded at
        the first call, once per process, and shared by all objects that name the same model and engine options.

    Key init args (completion):
        model: A hub id, a local folder, or `"tiny-hermes"`, the embedded toy checkpoint.
        temperature, top_p, top_k, min_p, repetition_penalty: Unset ones come from the checkpoint.
        frequency_penalty, presence_penalty, logit_bias: As hosted models have them.
        max_tokens, min_tokens, stop, seed, timeout, logprobs: Of one answer.
        dialect: How the model is told of tools; the wording that it was trained on.
        constrained: Whether a grammar makes malformed calls, and answers off the schema, impossible.

    Key init args (engine):
        device, kernel, context_window: How the model is run in this process.
        base_url, api_key, max_retries: Where a completion server runs it instead.

    Options of hosted models' classes are known by their own names; `hermes_runtime.options.hosted` says what they mean.

    Instantiate:
        >>> from langchain_hermes import ChatHermes
        >>> llm = ChatHermes(model="tiny-hermes", temperature=0, max_tokens=200)

    Invoke:
        >>> message = llm.invoke([("system", "Be brief."), ("human", "Hello!")])
        >>> message.type, message.text != ""
        ('ai', True)

    Stream:
        >>> "".join(chunk.text for chunk in llm.stream("Hello!")) == llm.invoke("Hello!").text
        True

        The sum of the chunks is the message of `invoke`, on every path: `stream`, `astream`, both event protocols, and
        agents that stream.

    Async:
        >>> import asyncio
        >>> asyncio.run(llm.ainvoke("Hello!")).text == llm.invoke("Hello!").text
        True

        `ainvoke`, `astream` and `abatch` run on the event loop without a thread per call; prompts and grammars are made
        beside it, in a few threads that all calls share. Cancelling a task or leaving a stream stops the computation.

    Tool calling:
        >>> def get_weather(city: str) -> str:
        ...     '''Get the weather in a city.'''
        ...     return f"rain in {city}"
        >>> bound = llm.bind_tools([get_weather], tool_choice="any")
        >>> call = bound.invoke("What is the weather in Bergen?").tool_calls[0]
        >>> call["name"], list(call["args"])
        ('get_weather', ['city'])

        With `constrained=True` (the default) a grammar makes malformed calls impossible. Arguments are streamed as soon
        as the tool's name is certain. A call that `max_tokens` cut off is an entry of `invalid_tool_calls` on every
        path and never runs. What a well-formed call breaks in its tool's schema stands in
        `response_metadata["tool_call_problems"]`, by call id.

    Structured output:
        >>> from pydantic import BaseModel
        >>> class Person(BaseModel):
        ...     name: str
        ...     age: int
        >>> type(llm.with_structured_output(Person).invoke("The name is Victor and the age is 34.")).__name__
        'Person'

    Usage:
        >>> usage = llm.invoke("Hello!").usage_metadata
        >>> usage["input_tokens"] == llm.get_num_tokens_from_messages([("human", "Hello!")])
        True
        >>> 0 <= usage["input_token_details"]["cache_read"] < usage["input_tokens"]
        True

        All counts are exact, on streams too; `cache_read` is the part of the prompt that was not computed again.

    Response metadata:
        >>> metadata = llm.invoke("Hello!").response_metadata
        >>> metadata["model_provider"], metadata["model_name"], metadata["finish_reason"] in ("stop", "length")
        ('hermes', 'tiny-hermes', True)

        Also `token_usage`, the counts by OpenAI's names, `logprobs` where asked for, `tool_call_problems` and `repairs`
        where there are any. `finish_reason` is `stop`, `length`, `tool_calls` or `cancelled`.
    """

    @property
    def _llm_type(self) -> str:
        return "hermes-chat"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call, writer = self._start(messages, stop, kwargs)
        return writer.result(list(call))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call, writer = self._start(messages, stop, kwargs)
        return writer.result([event async for event in call])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        call, writer = self._start(messages, stop, kwargs)
        for event in call:
            for chunk in writer.chunks(event):
                if run_manager:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        call, writer = self._start(messages, stop, kwargs)
        async for event in call:
            for chunk in writer.chunks(event):
                if run_manager:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None], /) -> dict[str, Any]:
        """Return what `generate` tells of a batch; streamed answers, as LangChain joins them, have no output of it."""
        told = [output for output in llm_outputs if output]
        names = [output["model_name"] for output in told]
        return {
            TOKEN_USAGE: summed_usage(output[TOKEN_USAGE] for output in told),
            "model_name": names[0] if names else self.model,
        }

    def _start(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> tuple[Call, ChunkWriter]:
        with model_call():
            options = merged(self._own, self._call_options(kwargs))
        engine_options = self._engine_options(options["model"], options["max_retries"])
        call = Call(
            engine_options,
            lambda: turn_request(to_runtime_messages(messages), options, stop),
            on_loaded=self._refresh_profile,
        )
        is_legacy = bool(kwargs.get("functions"))
        writer = ChunkWriter(options["model"], as_blocks=self.output_version == "v1", as_function_call=is_legacy)
        return call, writer

    def bind_tools(
        self,
        tools: Sequence[Tool],
        *,
        tool_choice: dict[str, Any] | str | bool | Sequence[str] | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        response_format: Schema | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools to the model.

        Args:
            tools: Functions, pydantic classes, TypedDicts, LangChain tools, or either vendor's dicts; may be empty.
            tool_choice: None, False or `"auto"`: the model decides. `"any"`, `"required"` or True: at least one call.
                `"none"`: no call. A tool's name, or either vendor's dict: a call of that tool. Several names: a call of
                one of them.
            strict: True refuses arguments that a schema does not list; a constrained call always follows its schema.
            parallel_tool_calls: False means at most one call in a turn.
            response_format: What a final answer must look like: a call *or* an answer of this form. Any schema that
                `with_structured_output` takes.
            **kwargs: Further options of the calls, such as `temperature`; `max_calls` bounds the calls of a turn, and
                `regex` or `choices` give the form of an answer that is no call.

        Raises:
            HermesInvalidRequestError: A tool that is no function, or has no name.
            HermesToolChoiceError: The choice names no given tool.
            HermesSchemaError: The response format has no known form.
        """
        with langchain_errors():
            converted = tools_to_bind(tools, tool_choice, strict=strict)
            response_schema(response_format)
            # By its content: a cache knows a class by its name alone.
            if response_format is not None and not isinstance(response_format, Mapping):
                response_format = response_format_of(response_format, strict=strict)
        options = {
            "tool_choice": tool_choice,
            "parallel_tool_calls": parallel_tool_calls,
            "response_format": response_format,
            **kwargs,
        }
        return self.bind(tools=converted, **{name: value for name, value in options.items() if value is not None})

    def with_structured_output(
        self,
        schema: Schema | None = None,
        *,
        method: Method = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        tools: Sequence[Tool] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Make answers values of a schema.

        Args:
            schema: A type: a pydantic class, TypedDict, dataclass or Enum, `list[A]`, `A | B`, `Literal[...]` and the
                like. Or a JSON Schema, an OpenAI function dict, OpenAI's whole `response_format`, or a tool.
            method: `"json_schema"`: the answer is JSON of the schema. `"function_calling"`: the arguments of one forced
                call are; what is no object is their one member, `value`. `"json_mode"`: as `"json_schema"`; the schema
                may be left out, and any JSON object is taken.
            include_raw: Return a dict of `raw` (the message), `parsed` and `parsing_error` instead of raising.
            strict: As in `bind_tools`.
            tools: Tools that the model may call instead, with `method="json_schema"`; there is no object then: None.
            **kwargs: Further options of the calls, such as `temperature`; here they win over what the method sets.

        Returns:
            A runnable that ends in the value: an instance of the class, a list of them, a member of the Enum; a dict
            for a TypedDict or a JSON Schema. It streams objects and lists while they grow.

        Raises:
            HermesInvalidRequestError: An unknown method or option, or no schema where one is needed.
            HermesSchemaError: No JSON Schema can be read from `schema`.
        """
        with langchain_errors():
            options = self._call_options(kwargs)
            if "response_format" in options:
                raise InvalidRequestError("response_format is made from the schema; leave it out")
            if schema is None and method != "json_mode":
                raise InvalidRequestError(f"method={method!r} needs a schema; json_mode alone works without one")
            options = {**tracing_format(schema, method), **options}
            if method in ("json_schema", "json_mode"):
                converted = tools_to_bind(tools or (), options.get("tool_choice"), strict=strict)
                offered = {"tools": converted} if converted else {}
                model = self.bind(response_format=response_format_of(schema, strict=strict), **offered, **options)
                parser = (AnswerOrCallParser if converted else HermesJsonOutputParser)(schema=schema)
                return structured_chain(model, parser, include_raw=include_raw)
            if method != "function_calling":
                raise InvalidRequestError(f"unknown method {method!r}; use json_schema, function_calling or json_mode")
            if tools:
                raise InvalidRequestError("tools beside the schema's need method='json_schema'")
            tool = answer_type(schema).tool
            # The parser sees that a call is missing, and reports it as it does all else.
            forced = {"tool_choice": tool.name, "parallel_tool_calls": False, "allow_unmet": True, **options}
            bound = self.bind_tools([tool.as_openai()["function"]], strict=strict, **forced)
            return structured_chain(bound, CallArgumentsParser(schema=schema), include_raw=include_raw)

    def get_token_ids(self, text: str) -> list[int]:
        """Return the ids of a text in the model's own vocabulary."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        with model_call():
            tokenizer = self._load_engine().tokenizer
        return list(tokenizer.encode(well_formed(text), add_special_tokens=False))

    def get_num_tokens_from_messages(
        self, messages: Sequence[MessageLikeRepresentation], tools: Sequence[Tool] | None = None
    ) -> int:
        """Return the length of the very prompt that would be sent for these messages and tools.

        The markup of turns and tools and the header of the answer are part of it. No messages count as 0. An image or
        another medium of a user, which a call refuses, counts as the note that stands for it elsewhere.
        """
        if not messages:
            return 0
        with model_call():
            conversation = to_runtime_messages(convert_to_messages(messages), omit_media=True)
            request = turn_request(conversation, {**self._own, "tools": tools or ()}, stop=None)
            return len(render(self._load_engine(), request).token_ids)
