"""ChatHermes: a local Hermes model as a LangChain chat model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import AIMessage, BaseMessage, MessageLikeRepresentation, convert_to_messages
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import AliasChoices, ConfigDict, Field, SecretStr, ValidationError, model_validator

from hermes_runtime.engines.registry import load_engine
from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.turn import render
from langchain_hermes._call import Call
from langchain_hermes._chunks import PROVIDER, ChunkWriter
from langchain_hermes._errors import HermesInvalidRequestError, langchain_errors
from langchain_hermes._options import CallOptions
from langchain_hermes._profile import profile_of
from langchain_hermes._structured import (
    Method,
    answer_parser,
    call_parser,
    response_format_of,
    structured_chain,
    tracing_format,
)
from langchain_hermes._tools import Schema, Tool, check_tool_choice, response_schema, to_openai_tools
from langchain_hermes._version import __version__


class ChatHermes(BaseChatModel):
    """A local Hermes model behind LangChain's chat-model interface.

    Setup:
        `pip install "hermes-adapters[langchain]"`. Weights are loaded at the first call, once per process, and shared
        by all objects that name the same model and engine options.

    Key init args:
        model: A hub id, a local folder, or `"tiny-hermes"`, the embedded toy checkpoint.
        temperature, top_p, top_k, min_p, repetition_penalty: Unset ones come from the checkpoint.
        max_tokens, stop, seed, timeout: Of one answer.
        device, kernel, context_window: Of the engine.

    Invoke:
        ```python
        from langchain_hermes import ChatHermes

        llm = ChatHermes(model="tiny-hermes")
        llm.invoke("Hello").content
        ```

    Stream:
        ```python
        for chunk in llm.stream("Hello"):
            print(chunk.text, end="")
        ```

    Async:
        `ainvoke`, `astream` and `abatch` run on the event loop without a thread per call; cancelling one stops the
        computation.

    Tool calling:
        ```python
        llm.bind_tools([get_weather]).invoke("How is the weather in Oslo?").tool_calls
        ```

        With `constrained=True` (the default) a grammar makes malformed calls impossible. A call that `max_tokens` cut
        off is an entry of `invalid_tool_calls` on every path and never runs. What a well-formed call breaks in its
        tool's schema stands in `response_metadata["tool_call_problems"]`, by call id.

    Structured output:
        ```python
        llm.with_structured_output(Forecast).invoke("Oslo tomorrow: 12 degrees, rain.")
        ```

    Usage and response metadata:
        `usage_metadata` counts tokens exactly, on streams too; `input_token_details["cache_read"]` is the part of the
        prompt that was not computed again. `response_metadata` has model_name, model_provider, finish_reason (`stop`,
        `length`, `tool_calls` or `cancelled`), and logprobs where asked for.
    """

    model: str = Field(validation_alias=AliasChoices("model", "model_name"))
    """A hub id, a local folder, or `"tiny-hermes"`, the embedded toy checkpoint."""
    engine: str = "local"
    """What computes: `"local"` runs in this process."""
    base_url: str | None = None
    """Address of a completion server; refused, since no engine of this version talks to one."""
    api_key: SecretStr | None = Field(default=None, exclude=True, repr=False)
    """Accepted so that a hosted model can be swapped by its name alone; nothing here leaves the machine."""
    dialect: str = "card"
    """How the model is told of tools: `card`, `json_args_first`, `name_first` or `scratch_pad`."""
    temperature: float | None = None
    """0 is greedy; None is the checkpoint's own."""
    top_p: float | None = None
    """Nucleus mass in (0, 1]."""
    top_k: int | None = None
    """Number of candidates; 0 keeps all."""
    min_p: float | None = None
    """Least probability relative to the best candidate's, in [0, 1]."""
    repetition_penalty: float | None = None
    """Above 0; 1 is none."""
    max_tokens: int | None = None
    """Upper bound on the tokens of an answer; None is what is left of the context window."""
    stop: list[str] | str | None = None
    """Strings that end the answer; they are no part of it."""
    seed: int | None = None
    """Makes sampling reproducible."""
    timeout: float | None = None
    """Seconds for one answer, waiting included; past it `HermesTimeoutError` is raised and the computation stops."""
    max_retries: int = 0
    """How often a request is submitted again when the engine failed before its first output. Bad input, timeouts and
    answers that have begun are never retried."""
    device: str | None = None
    """Where the weights live; None is the engine's choice."""
    kernel: str | None = None
    """Which int4 kernel multiplies; None is the engine's choice."""
    context_window: int | None = None
    """Prompt and answer together, in tokens; None is what the checkpoint allows."""
    constrained: bool = True
    """Whether a grammar makes malformed calls and answers off the schema impossible."""
    max_repairs: int = 0
    """How often the model is shown a call that is malformed or breaks its schema, and asked again."""
    logprobs: bool | None = None
    """Report each token's log-probability in `response_metadata["logprobs"]`."""
    top_logprobs: int | None = None
    """How many alternatives to report beside each token (0 to 20)."""
    streaming: bool = False
    """`True` streams under `invoke` too; an explicit `False` makes `stream` yield one whole message."""

    model_config = ConfigDict(extra="forbid")

    if not TYPE_CHECKING:  # type checkers read the arguments off the fields

        def __init__(self, **options: Any) -> None:
            try:
                super().__init__(**options)
            except ValidationError as error:
                raise HermesInvalidRequestError(_told(error)) from error

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        if self.base_url is not None:
            raise InvalidRequestError(
                f"base_url={self.base_url!r}: engine {self.engine!r} runs in this process and talks to no server; "
                "leave base_url out"
            )
        CallOptions(self, {}).check()
        return self

    @model_validator(mode="after")
    def _set_hermes_version(self) -> Self:
        self._add_version("langchain-hermes", __version__)
        return self

    def _resolve_model_profile(self) -> ModelProfile:
        return profile_of(self._engine_options(self.model), constrained=self.constrained, dialect=self.dialect)

    @property
    def model_name(self) -> str:
        """The model, under the name that some middleware reads."""
        return self.model

    @property
    def _llm_type(self) -> str:
        return "hermes-chat"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        """Everything that changes an answer: the key of LangChain's cache."""
        return {name: getattr(self, name) for name in _IDENTIFYING}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = PROVIDER
        if stop is None and self.stop:
            params["ls_stop"] = [self.stop] if isinstance(self.stop, str) else self.stop
        return params

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
            chunk = writer.chunk(event)
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
            chunk = writer.chunk(event)
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _start(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> tuple[Call, ChunkWriter]:
        with langchain_errors():
            options = CallOptions(self, kwargs)
            request = options.turn_request(messages, stop)
        call = Call(self._engine_options(options["model"]), request, max_retries=options["max_retries"])
        return call, ChunkWriter(options["model"], as_blocks=self.output_version == "v1")

    def _engine_options(self, model: str) -> dict[str, Any]:
        return {"model": model, **{name: getattr(self, name) for name in _OF_ENGINE}}

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
            response_format: What a final answer must look like: a call *or* an answer of this form.
            **kwargs: Further options of the calls, such as `temperature`; `max_calls` bounds the calls of a turn, and
                `regex` or `choices` give the form of an answer that is no call.

        Raises:
            HermesInvalidRequestError: A tool that is no function, or has no name.
            HermesToolChoiceError: The choice names no given tool.
            HermesSchemaError: The response format has no known form.
        """
        with langchain_errors():
            converted = to_openai_tools(tools, strict=strict)
            check_tool_choice(tool_choice, converted)
            response_schema(response_format)
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
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Make answers objects of a schema.

        Args:
            schema: A pydantic class, TypedDict, JSON Schema or OpenAI function dict.
            method: `"json_schema"`: the answer is JSON of the schema. `"function_calling"`: the arguments of one forced
                call are. `"json_mode"`: as `"json_schema"`; the schema may be left out, and any JSON object is taken.
            include_raw: Return a dict of `raw` (the message), `parsed` and `parsing_error` instead of raising.
            strict: As in `bind_tools`.
            **kwargs: None is known; they raise.

        Returns:
            A runnable that ends in an instance of a pydantic class, else in a dict; it streams partial dicts.

        Raises:
            HermesInvalidRequestError: An unknown method or option, or no schema where one is needed.
            HermesSchemaError: No JSON Schema can be read from `schema`.
        """
        with langchain_errors():
            if kwargs:
                raise InvalidRequestError(f"unknown options {', '.join(map(repr, sorted(kwargs)))}")
            if schema is None and method != "json_mode":
                raise InvalidRequestError(f"method={method!r} needs a schema; json_mode alone works without one")
            tracing = tracing_format(schema, method)
            if method in ("json_schema", "json_mode"):
                model = self.bind(response_format=response_format_of(schema, strict=strict), **tracing)
                return structured_chain(model, answer_parser(schema), include_raw=include_raw)
            if method != "function_calling" or schema is None:
                raise InvalidRequestError(f"unknown method {method!r}; use json_schema, function_calling or json_mode")
            tool_name = to_openai_tools([schema])[0]["function"]["name"]
            bound = self.bind_tools(
                [schema], tool_choice=tool_name, strict=strict, parallel_tool_calls=False, **tracing
            )
            return structured_chain(bound, call_parser(schema, tool_name), include_raw=include_raw)

    def get_token_ids(self, text: str) -> list[int]:
        """Return the ids of a text in the model's own vocabulary."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        with langchain_errors():
            tokenizer = load_engine(**self._engine_options(self.model)).tokenizer
        return list(tokenizer.encode(text, add_special_tokens=False))

    def get_num_tokens_from_messages(
        self, messages: Sequence[MessageLikeRepresentation], tools: Sequence[Tool] | None = None
    ) -> int:
        """Return the length of the very prompt that would be sent for these messages and tools.

        The markup of turns and tools and the header of the answer are part of it. No messages count as 0.
        """
        if not messages:
            return 0
        with langchain_errors():
            request = CallOptions(self, {"tools": tools}).turn_request(convert_to_messages(messages), stop=None)
            return len(render(load_engine(**self._engine_options(self.model)), request).token_ids)


_OF_ENGINE = ("engine", "device", "kernel", "context_window")
_IDENTIFYING = (
    "model",
    *_OF_ENGINE,
    "dialect",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "max_tokens",
    "stop",
    "seed",
    "constrained",
    "max_repairs",
    "logprobs",
    "top_logprobs",
    "output_version",
)


def _told(error: ValidationError) -> str:
    """Return what was wrong with each argument, in one line each, without pydantic's links."""
    lines = []
    for problem in error.errors():
        where = ".".join(map(str, problem["loc"]))
        lines.append(f"{where}: {problem['msg']}" if where else problem["msg"].removeprefix("Value error, "))
    return "\n".join(lines)
