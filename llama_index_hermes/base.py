"""`HermesLLM`: a local Hermes model behind LlamaIndex's function-calling interface."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec

from llama_index.core.base.llms.generic_utils import messages_to_prompt as generic_messages_to_prompt
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW, DEFAULT_NUM_OUTPUTS
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection, default_completion_to_prompt
from llama_index.core.tools.types import BaseTool
from pydantic import BaseModel, PrivateAttr

from hermes_runtime.checkpoint.context_window import stated_context_window
from hermes_runtime.engines.base import Engine
from hermes_runtime.engines.registry import load_engine, loaded_engine
from hermes_runtime.errors import HermesError, InvalidRequestError
from hermes_runtime.messages import ToolLike
from hermes_runtime.off_loop import off_loop
from hermes_runtime.options.fields import validation_errors
from hermes_runtime.options.generation import merged
from hermes_runtime.options.hosted import names_server
from hermes_runtime.turn import RawTurn, Turn, TurnRequest, render
from hermes_runtime.turn.lost_calls import lost_calls
from hermes_runtime.turn.request import OF_MODELS, checked_options
from llama_index_hermes._endpoints import chat_endpoint, completion_endpoint, opened
from llama_index_hermes._errors import NoToolCallError
from llama_index_hermes._fields import HermesFields
from llama_index_hermes._messages import calls_of, to_hermes, tool_selections, with_first_call
from llama_index_hermes._options import OF_CALLS, turn_request
from llama_index_hermes._programs import GrowingObjects, growing_selections
from llama_index_hermes._responses import (
    RunningTurn,
    achat_response,
    achat_responses,
    chat_response,
    chat_responses,
    completion_response,
)
from llama_index_hermes._tokenizer import ModelTokenizer, pack_with
from llama_index_hermes._tools import plain_tool_choice, resolve_tool_choice, tool_specs

P = ParamSpec("P")


class HermesLLM(HermesFields):
    """A Hermes model that runs in this process, with tools, structured output, streaming and async.

    Setup:
        ```shell
        pip install ".[llama-index]"    # in a checkout
        ```

    Key init args:
        model: A hub id, a local folder, or `"tiny-hermes"`, the embedded toy checkpoint.
        temperature, top_p, top_k, min_p, repetition_penalty: Sampling; unset, the checkpoint's own. 0 is greedy.
        frequency_penalty, presence_penalty, logit_bias: As hosted models have them.
        max_tokens, min_tokens, stop, seed, timeout: Where an answer ends, how it repeats, how long it may take.
        constrained: Whether a grammar makes malformed calls and JSON that breaks its schema impossible.
        context_window, device, kernel: The engine's; LLMs that agree on them share one engine, and its weights.
        engine, base_url, api_key, engine_options: Another engine than transformers in this process, or a server.

    Weights are loaded at the first call. Every option that is not the engine's can also be given to a single call. An
    option that is unknown or cannot be honored raises, and nothing is computed. Options of hosted LLMs are known
    by their own names; `hermes_runtime.options.hosted` says what they mean.

    Instantiate:
        >>> from llama_index_hermes import HermesLLM
        >>> llm = HermesLLM(model="tiny-hermes", temperature=0, max_tokens=64)

    Chat:
        >>> from llama_index.core.llms import ChatMessage
        >>> ask = [ChatMessage("Be brief.", role="system"), ChatMessage("Hello")]
        >>> answer = llm.chat(ask).message.content
        >>> llm.complete("Hello", max_tokens=3).raw["usage"]["completion_tokens"]
        3

    Stream: each response has the message so far, and in `delta` what is new of its text. Calls that are being written
    show as blocks whose `tool_kwargs` is JSON text that grows; a call has a dict there once it is whole, and only then
    does `get_tool_calls_from_response` give it. Closing or dropping the stream stops the model.
        >>> "".join(response.delta for response in llm.stream_chat(ask)) == answer
        True

    Async: all of it, natively; cancelling the task stops the model.
        >>> import asyncio
        >>> asyncio.run(llm.achat(ask)).message.content == answer
        True

    Tool calling: `tool_required=True`, `tool_choice` (a tool's name, "none") and `allow_parallel_tool_calls` are kept
    while the model writes. Calls that were cut off are in `message.additional_kwargs["invalid_tool_calls"]`.
        >>> from llama_index.core.tools import FunctionTool
        >>> from pydantic import BaseModel, Field
        >>> def add(a: int, b: int) -> int:
        ...     "Add two numbers."
        ...     return a + b
        >>> class Numbers(BaseModel):
        ...     a: int = Field(ge=0, le=99)
        ...     b: int = Field(ge=0, le=99)
        >>> tools = [FunctionTool.from_defaults(add, fn_schema=Numbers)]
        >>> response = llm.chat_with_tools(tools, user_msg="What is 19 plus 23?", tool_required=True)
        >>> [(call.tool_name, sorted(call.tool_kwargs)) for call in llm.get_tool_calls_from_response(response)]
        [('add', ['a', 'b'])]

    Structured output: `structured_predict`, its async and streaming forms, `as_structured_llm`; or `response_format`,
    `regex` or `choices` as an option of any call.
        >>> from llama_index.core.prompts import PromptTemplate
        >>> class Person(BaseModel):
        ...     name: str = Field(max_length=20)
        ...     age: int = Field(ge=0, le=120)
        >>> prompt = PromptTemplate("Name is {name} and age is {age}")
        >>> type(llm.structured_predict(Person, prompt, name="Anna", age=31)).__name__
        'Person'
        >>> llm.complete("Is the sky blue?", choices=["yes", "no"]).text in ("yes", "no")
        True

    Agents:
        >>> from llama_index.core.agent.workflow import FunctionAgent
        >>> async def main() -> str:
        ...     return str(await FunctionAgent(llm=llm, tools=[add]).run("What is 19 plus 23?"))
        >>> text = asyncio.run(main())

    Usage: exact, in `raw` where LlamaIndex's token counters look, and in `additional_kwargs`; `count_tokens` tells it
    before. A prompt that does not fit raises `ContextWindowExceededError`.
        >>> llm.chat(ask).raw["usage"]["prompt_tokens"] == llm.count_tokens(ask)
        True

    Response metadata: `raw` has `model`, `finish_reason` (stop, length, tool_calls or cancelled), `usage`, `repairs`
    and, where a call breaks its tool's schema, `tool_call_problems` by call id. `logprobs=True` tells of each token.
        >>> sorted(llm.chat(ask).raw)
        ['finish_reason', 'model', 'repairs', 'usage']
    """

    _framework: ClassVar[type[BaseModel]] = FunctionCallingLLM
    _of_calls: ClassVar[frozenset[str]] = OF_CALLS

    _engine_window: int | None = PrivateAttr(default=None)

    if not TYPE_CHECKING:  # so that editors and type checkers see the options by name

        def __init__(self, model: str | None = None, **options: Any) -> None:
            options.pop("class_name", None)  # LlamaIndex writes it into what it serializes
            with validation_errors():
                super().__init__(**self._own_options({"model": model, **options}))
            self._check()

    def _check(self) -> None:
        """Refuse what cannot be honored: here and not in a validator, which would hide the error's type."""
        loaded_engine(**self._engine_arguments)
        if self.messages_to_prompt is not generic_messages_to_prompt:
            raise InvalidRequestError("messages_to_prompt cannot be set: messages are rendered in the Hermes format")
        checked_options(self._own)

    @classmethod
    def class_name(cls) -> str:
        """Return the name in serialized components."""
        return "HermesLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex plans with; loads nothing.

        An unset `context_window` is the loaded engine's, before that what the checkpoint's config.json on this machine
        says, and 3900 where there is none yet. `num_output` is `max_tokens`, 256 where unset, and 64 at least:
        LlamaIndex does not count the markup around a prompt, which has to fit too.

        Whoever plans counts tokens next. Where no tokenizer was set in LlamaIndex, the model's own becomes its global
        tokenizer, so that what is packed fits; the log says so.
        """
        pack_with(self.model, self._find_tokenizer)
        known = self.context_window or self._engine_window or stated_context_window(self.model)
        return LLMMetadata(
            context_window=known or DEFAULT_CONTEXT_WINDOW,
            num_output=max(self.max_tokens or DEFAULT_NUM_OUTPUTS, _LEAST_OUTPUT),
            is_chat_model=True,
            is_function_calling_model=True,
            model_name=self.model,
            system_role=MessageRole.SYSTEM,
        )

    def to_payload(self) -> dict[str, Any]:
        """Return what events tell of this LLM."""
        return {**super().to_payload(), "model": self.model, "temperature": self.temperature}

    @property
    def tokenizer(self) -> Callable[[str], list[int]]:
        """The model's own tokenizer as LlamaIndex wants one, for `set_global_tokenizer`; reads no weights."""
        return ModelTokenizer(self.model, self._find_tokenizer)

    def count_tokens(self, messages: Iterable[ChatMessage], tools: Sequence[BaseTool | ToolLike] = ()) -> int:
        """Return the exact length in tokens of the prompt that these messages and tools make; loads the model.

        An image or another medium of a user, which a call refuses, counts as the note that stands for it elsewhere.
        """
        request = turn_request(to_hermes(messages, omit_media=True), {**self._own, "tools": tools})
        return len(render(self._load(), request).token_ids)

    @chat_endpoint
    def chat(self, messages: Iterable[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation.

        Args:
            messages: The conversation, in any iterable; never changed.
            **kwargs: Any option of the class that is not the engine's, and `tools`, `tool_choice`,
                `tool_required`, `allow_parallel_tool_calls` (default True), `max_calls`; the form of an answer that is
                no call: `response_format` (a pydantic class, a JSON Schema or an OpenAI-style dict), `regex` or
                `choices`.

        Raises:
            InvalidRequestError: And its subclasses, for whatever cannot be honored.
            ContextWindowExceededError: The prompt does not fit.
            EngineError: The computation failed.
            UnmetDemandError: Without a grammar, the model answered without the call or the choice that was demanded.
        """
        return chat_response(self._chat(messages, kwargs), self.model)

    @chat_endpoint
    async def achat(self, messages: Iterable[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation; see `chat`. Cancelling the task stops the model."""
        turn = await self._made(self._chat, list(messages), kwargs)
        return await achat_response(turn, self.model)

    @chat_endpoint
    def stream_chat(self, messages: Iterable[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Stream the answer of `chat`: cumulative messages, new text in `delta`, usage last; closing stops it."""
        return chat_responses(self._chat(messages, kwargs), self.model)

    @chat_endpoint
    async def astream_chat(self, messages: Iterable[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Stream the answer of `chat` in an event loop."""
        turn = await self._made(self._chat, list(messages), kwargs)
        return achat_responses(turn, self.model)

    @completion_endpoint
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt.

        Args:
            prompt: One user turn; or, formatted, the text that the model reads as it is.
            formatted: Whether the prompt holds its own `<|im_start|>` turns.
            **kwargs: As in `chat`, without tools.
        """
        return completion_response(chat_response(self._completion(prompt, formatted, kwargs), self.model))

    @completion_endpoint
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt; see `complete`."""
        turn = await self._made(self._completion, prompt, formatted, kwargs)
        return completion_response(await achat_response(turn, self.model))

    @completion_endpoint
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Stream the answer of `complete`."""
        responses = chat_responses(self._completion(prompt, formatted, kwargs), self.model)
        return (completion_response(response) for response in responses)

    @completion_endpoint
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """Stream the answer of `complete` in an event loop."""
        turn = await self._made(self._completion, prompt, formatted, kwargs)
        return (completion_response(response) async for response in achat_responses(turn, self.model))

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Return the calls that a response, whole or partial, makes; malformed ones are none.

        Raises:
            NoToolCallError: There is none and `error_on_no_tool_call` is set; a ValueError, and says what became of a
                call that was cut off or is malformed.
        """
        if isinstance(response, GrowingObjects):
            return growing_selections(response.message)
        made = tool_selections(response.message)
        if not made and error_on_no_tool_call:
            _, lost = calls_of(response.message)
            raise NoToolCallError(f"Expected at least one tool call, but {lost_calls(lost) or 'the model made none'}.")
        return made

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool | ToolLike],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        messages = list(chat_history or ())
        if user_msg is not None:
            messages.append(ChatMessage(user_msg) if isinstance(user_msg, str) else user_msg)
        specs = tool_specs(tools)
        options = self._call_options(kwargs)
        choice = resolve_tool_choice(options.pop("tool_choice", None), specs, tool_required=tool_required)
        return {
            "messages": messages,
            "tools": [spec.as_openai() for spec in specs],
            "tool_choice": plain_tool_choice(choice),
            "parallel_tool_calls": allow_parallel_tool_calls,
            **options,
        }

    def _validate_chat_with_tools_response(
        self,
        response: ChatResponse,
        tools: Sequence[BaseTool],
        allow_parallel_tool_calls: bool = False,
        **kwargs: Any,
    ) -> ChatResponse:
        # The turn ends with its last call by itself; what an engine makes of its grammar is not relied on here.
        if self._call_options(kwargs).get("parallel_tool_calls", allow_parallel_tool_calls):
            return response
        return response.model_copy(update={"message": with_first_call(response.message)})

    @property
    def _own(self) -> dict[str, Any]:
        """The options that a call may give otherwise."""
        return {name: getattr(self, name) for name in OF_MODELS}

    def _chat_request(self, messages: Iterable[ChatMessage], options: dict[str, Any]) -> TurnRequest:
        return turn_request(to_hermes(messages), merged(self._own, self._call_options(options)))

    async def _made(self, make: Callable[P, RunningTurn], *args: P.args, **kwargs: P.kwargs) -> RunningTurn:
        """Make a turn while the event loop goes on; loading the engine first may take minutes."""
        is_loaded = loaded_engine(**self._engine_arguments) is not None
        return await (off_loop if is_loaded else asyncio.to_thread)(make, *args, **kwargs)

    def _chat(self, messages: Iterable[ChatMessage], options: dict[str, Any]) -> RunningTurn:
        return self._turn(self._chat_request(messages, options))

    def _turn(self, request: TurnRequest) -> RunningTurn:
        return opened(Turn(self._load(request.max_retries), request))

    def _completion(self, prompt: str, formatted: bool, options: dict[str, Any]) -> RunningTurn:
        request = self._chat_request([ChatMessage(prompt)], options)
        if request.tools:
            raise InvalidRequestError("a completion is text and cannot hold tool calls; use chat or chat_with_tools")
        to_prompt = self.completion_to_prompt
        if not formatted and to_prompt is not None and to_prompt is not default_completion_to_prompt:
            prompt, formatted = to_prompt(prompt), True
        if formatted:
            return opened(RawTurn(self._load(request.max_retries), prompt, request))
        return self._turn(request)

    @property
    def _is_remote(self) -> bool:
        return names_server(vars(self))

    @property
    def _engine_arguments(self) -> dict[str, Any]:
        options = {name: getattr(self, name) for name in _OF_ENGINE}
        if not self._is_remote:
            return options
        return {**options, "api_key": self.api_key and self.api_key.get_secret_value(), "max_retries": self.max_retries}

    def _find_tokenizer(self) -> Any:
        """Return the model's tokenizer, without its weights where it has files of its own."""
        engine = loaded_engine(**self._engine_arguments)
        if engine is not None:
            return engine.tokenizer
        from hermes_runtime.checkpoint.vocabulary import load_vocabulary  # noqa: PLC0415 - it imports transformers

        try:
            return load_vocabulary(self.model).tokenizer
        except HermesError:
            return self._load().tokenizer

    def _load(self, max_retries: int | None = None) -> Engine:
        asked = {"max_retries": max_retries} if self._is_remote and max_retries is not None else {}
        engine = load_engine(**{**self._engine_arguments, **asked})
        self._engine_window = engine.context_window
        return engine


_LEAST_OUTPUT = 64
_OF_ENGINE = ("model", "engine", "base_url", "device", "kernel", "context_window", "engine_options")
