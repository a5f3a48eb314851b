"""LLMs that break one rule each, most of them as a published one does."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, TextBlock, ToolCallBlock
from llama_index.core.llms.callbacks import llm_chat_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection

from hermes_runtime.errors import HermesError
from llama_index_hermes import HermesLLM
from tests.llama_index_contract.hermes import ScriptedLLM

Responses = Iterable[ChatResponse]


def changed(response: ChatResponse, **update: Any) -> ChatResponse:
    """Return a response with other fields, `blocks` those of its message."""
    blocks = update.pop("blocks", None)
    if blocks is not None:
        update["message"] = response.message.model_copy(update={"blocks": blocks})
    return response.model_copy(update=update)


def streaming(change: Callable[[Responses], Iterator[ChatResponse]]) -> type[ScriptedLLM]:
    """Return HermesLLM with other streams."""

    class Broken(ScriptedLLM):
        def stream_chat(self, messages: Any, **options: Any) -> Any:
            return change(super().stream_chat(messages, **options))

        async def astream_chat(self, messages: Any, **options: Any) -> Any:
            whole = [response async for response in await super().astream_chat(messages, **options)]

            async def responses() -> Any:
                for response in change(whole):
                    yield response

            return responses()

    return Broken


def repeats_text(responses: Responses) -> Iterator[ChatResponse]:
    for response in responses:
        yield changed(response, delta=response.message.content or "")


def withholds_text(responses: Responses) -> Iterator[ChatResponse]:
    *earlier, last = responses
    for response in earlier:
        yield changed(response, blocks=[])
    yield last


def joins_pieces_by_newlines(responses: Responses) -> Iterator[ChatResponse]:
    blocks: list[TextBlock] = []
    for response in responses:
        blocks = [*blocks, TextBlock(text=response.delta)] if response.delta else blocks
        yield changed(response, blocks=blocks)


def drops_chunks_without_text(responses: Responses) -> Iterator[ChatResponse]:
    return (response for response in responses if response.delta)


def shares_its_message(responses: Responses) -> Iterator[ChatResponse]:
    shared = ChatMessage(role="assistant")
    for response in responses:
        shared.blocks[:] = response.message.blocks
        yield response.model_copy(update={"message": shared})


def shows_syntax(responses: Responses) -> Iterator[ChatResponse]:
    shown = ""
    for response in responses:
        calls = "".join(block.model_dump_json() for block in response.message.blocks if block.block_type == "tool_call")
        yield changed(response, delta=(response.delta or "") + calls.removeprefix(shown))
        shown = calls


def drops_equal_calls(responses: Responses) -> Iterator[ChatResponse]:
    for response in responses:
        seen: dict[str, Any] = {}
        for block in response.message.blocks:
            seen.setdefault(json.dumps(getattr(block, "tool_kwargs", "text"), default=str), block)
        yield changed(response, blocks=list(seen.values()))


def flickers(responses: Responses) -> Iterator[ChatResponse]:
    for number, response in enumerate(responses):
        blocks = [
            block.model_copy(update={"tool_kwargs": {} if number % 2 else {"a": number}})
            if isinstance(block, ToolCallBlock) and isinstance(block.tool_kwargs, str)
            else block
            for block in response.message.blocks
        ]
        yield changed(response, blocks=blocks)


def has_the_users_role(responses: Responses) -> Iterator[ChatResponse]:
    for response in responses:
        yield response.model_copy(update={"message": response.message.model_copy(update={"role": "user"})})


def tells_thinking_in_the_message(responses: Responses) -> Iterator[ChatResponse]:
    for response in responses:
        message = response.message.model_copy(update={"additional_kwargs": dict(response.additional_kwargs)})
        yield response.model_copy(update={"message": message, "additional_kwargs": {}})


def tells_no_usage(responses: Responses) -> Iterator[ChatResponse]:
    for response in responses:
        yield response.model_copy(update={"raw": None, "additional_kwargs": {}})


def hands_on_its_own_objects(responses: Responses) -> Iterator[ChatResponse]:
    for response in responses:
        yield response.model_copy(update={"raw": {"tensor": object()}})


def has_blocks_only(responses: Responses) -> Iterator[ChatResponse]:
    for response in responses:
        yield response.model_copy(update={"message": response.message.model_copy(update={"additional_kwargs": {}})})


def keeps_cut_calls_in_the_older_form(responses: Responses) -> Iterator[ChatResponse]:
    shown: list[Any] = []
    for response in responses:
        shown = response.message.additional_kwargs.get("tool_calls") or shown
        message = response.message.model_copy(update={"additional_kwargs": {"tool_calls": shown}})
        yield response.model_copy(update={"message": message})


def swallows_failures(responses: Responses) -> Iterator[ChatResponse]:
    try:
        yield from responses
    except HermesError:
        return


class ReturnsAnIterator(ScriptedLLM):
    def stream_chat(self, messages: Any, **options: Any) -> Any:
        return iter(list(super().stream_chat(messages, **options)))


class AnswersOtherwiseWhenAsync(ScriptedLLM):
    async def achat(self, messages: Any, **options: Any) -> Any:
        response = await super().achat(messages, **options)
        return changed(response, blocks=[*response.message.blocks, TextBlock(text="?")])


class ParsesWhatItCan(ScriptedLLM):
    def get_tool_calls_from_response(self, response: Any, error_on_no_tool_call: bool = True, **_: Any) -> Any:
        blocks = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
        return [
            ToolSelection(
                tool_id=block.tool_call_id or "",
                tool_name=block.tool_name,
                tool_kwargs=block.tool_kwargs if isinstance(block.tool_kwargs, dict) else {},
            )
            for block in blocks
        ]


class RunsCutCalls(ScriptedLLM):
    def get_tool_calls_from_response(self, response: Any, error_on_no_tool_call: bool = True, **_: Any) -> Any:
        cut = response.message.additional_kwargs.get("invalid_tool_calls", ())
        made = super().get_tool_calls_from_response(response, error_on_no_tool_call=False)
        return made + [ToolSelection(tool_id=call["id"], tool_name=call["name"] or "", tool_kwargs={}) for call in cut]


class SaysThatNoneWasMade(ScriptedLLM):
    def get_tool_calls_from_response(self, response: Any, error_on_no_tool_call: bool = True, **_: Any) -> Any:
        made = super().get_tool_calls_from_response(response, error_on_no_tool_call=False)
        if not made and error_on_no_tool_call:
            raise ValueError("Expected at least one tool call, but got 0 tool calls.")
        return made


class KeepsSilent(ScriptedLLM):
    def chat(self, messages: Any, **options: Any) -> Any:
        logger = logging.getLogger("hermes_runtime.turn.lost_calls")
        logger.disabled = True
        try:
            return super().chat(messages, **options)
        finally:
            logger.disabled = False


class UsesCoresOwnToolStream(ScriptedLLM):
    stream_chat_with_tools = FunctionCallingLLM.stream_chat_with_tools
    astream_chat_with_tools = FunctionCallingLLM.astream_chat_with_tools


class NeverMissesACall(ScriptedLLM):
    def get_tool_calls_from_response(self, response: Any, error_on_no_tool_call: bool = True, **_: Any) -> Any:
        return super().get_tool_calls_from_response(response, error_on_no_tool_call=False)


class NamesAreIds(ScriptedLLM):
    def get_tool_calls_from_response(self, *args: Any, **options: Any) -> Any:
        made = super().get_tool_calls_from_response(*args, **options)
        return [call.model_copy(update={"tool_id": call.tool_name}) for call in made]


class NeverTrims(ScriptedLLM):
    def _validate_chat_with_tools_response(self, response: Any, *_: Any, **__: Any) -> Any:
        return response


class AppendsToTheHistory(ScriptedLLM):
    def _prepare_chat_with_tools(
        self, tools: Any, user_msg: Any = None, chat_history: Any = None, **options: Any
    ) -> Any:
        messages = chat_history if chat_history is not None else []
        if user_msg:
            messages.append(user_msg if isinstance(user_msg, ChatMessage) else ChatMessage(user_msg))
        return super()._prepare_chat_with_tools(tools, None, messages, **options)


class DropsMessages(ScriptedLLM):
    def _prepare_chat_with_tools(
        self, tools: Any, user_msg: Any = None, chat_history: Any = None, **options: Any
    ) -> Any:
        message = user_msg if isinstance(user_msg, str) else None
        return super()._prepare_chat_with_tools(tools, message, chat_history, **options)


class ChangesMessages(ScriptedLLM):
    def chat(self, messages: Any, **options: Any) -> Any:
        messages[0].additional_kwargs["seen"] = True
        return super().chat(messages, **options)


class NeedsText(ScriptedLLM):
    def chat(self, messages: Any, **options: Any) -> Any:
        assert all(len(message.content) >= 0 for message in messages)
        return super().chat(messages, **options)


class KeepsTheOrderOfResults(ScriptedLLM):
    def chat(self, messages: Any, **options: Any) -> Any:
        plain = [
            ChatMessage(message.content, role="user") if message.role == "tool" else message for message in messages
        ]
        return super().chat(plain, **options)


class CountsTwice(ScriptedLLM):
    @llm_chat_callback()
    def chat(self, messages: Any, **options: Any) -> Any:
        return super().chat(messages, **options)


class IgnoresOptions(ScriptedLLM):
    def chat(self, messages: Any, **options: Any) -> Any:
        return super().chat(messages)


class FailsAsIfItHadParsed(ScriptedLLM):
    def chat(self, messages: Any, **options: Any) -> Any:
        try:
            return super().chat(messages, **options)
        except HermesError as error:
            raise ValueError(str(error)) from error

    async def achat(self, messages: Any, **options: Any) -> Any:
        return self.chat(messages, **options)


class RemembersOptions(ScriptedLLM):
    def chat(self, messages: Any, **options: Any) -> Any:
        self.max_tokens = options.get("max_tokens")
        return super().chat(messages, **options)


class SendsSecrets(HermesLLM):
    def to_payload(self) -> dict[str, Any]:
        return {**super().to_payload(), "headers": {"key": "sk-secret"}}


class AsksTheServerForItsWindow(HermesLLM):
    @property
    def metadata(self) -> Any:
        with suppress(OSError):
            socket.create_connection(("server", 1))
        return super().metadata


class BlocksTheLoop(HermesLLM):
    async def achat(self, messages: Any, **options: Any) -> Any:
        return self.chat(messages, **options)


class LetsTheModelRun(ScriptedLLM):
    def stream_chat(self, messages: Any, **options: Any) -> Any:
        running = super().stream_chat(messages, **options)
        KEPT_STREAMS.append(running)

        def responses() -> Any:
            while (response := next(running, None)) is not None:
                yield response

        return responses()


KEPT_STREAMS: list[Any] = []


class UsesCoresOwnStructuredStream(ScriptedLLM):
    _structured_stream_call = FunctionCallingLLM._structured_stream_call
    _structured_astream_call = FunctionCallingLLM._structured_astream_call


class KeepsAsciiOnly(ScriptedLLM):
    def structured_predict(self, output_cls: Any, *args: Any, **variables: Any) -> Any:
        output = super().structured_predict(output_cls, *args, **variables)
        return output.model_copy(update={"name": output.name.encode("ascii", "replace").decode()})


class ForgetsTheSystemPrompt(HermesLLM):
    def _extend_messages(self, messages: Any) -> Any:
        return messages


class MakesNoEvents(HermesLLM):
    def structured_predict(self, output_cls: Any, prompt: Any, llm_kwargs: Any = None, **variables: Any) -> Any:
        response = self.chat(prompt.format_messages(**variables), response_format=output_cls, **(llm_kwargs or {}))
        return output_cls.model_validate_json(response.message.content)


class FillsHoles(ScriptedLLM):
    def structured_predict(self, output_cls: Any, *args: Any, **variables: Any) -> Any:
        try:
            return super().structured_predict(output_cls, *args, **variables)
        except HermesError:
            return output_cls.model_construct()


class ClobbersTheChoice(HermesLLM):
    def _prepare_chat_with_tools(self, *args: Any, **options: Any) -> Any:
        clobbering = {name: value for name, value in options.items() if name == "tool_choice"}
        return {**super()._prepare_chat_with_tools(*args, **options), **clobbering}


class NeverForces(HermesLLM):
    def _prepare_chat_with_tools(self, tools: Any, user_msg: Any = None, **options: Any) -> Any:
        return super()._prepare_chat_with_tools(tools, user_msg, options.get("chat_history"))


class WritesNamesForTheWire(HermesLLM):
    def get_tool_calls_from_response(self, *args: Any, **options: Any) -> Any:
        made = super().get_tool_calls_from_response(*args, **options)
        return [call.model_copy(update={"tool_name": call.tool_name.replace(" ", "_")}) for call in made]
