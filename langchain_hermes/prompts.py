"""The prompt of a Hermes model that sits behind another chat model or a plain text model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    convert_to_messages,
)
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from pydantic import ConfigDict, Field, field_validator

from hermes_runtime.dialects import resolve_dialect
from hermes_runtime.messages import coerce_tools
from hermes_runtime.prompt import turns
from hermes_runtime.prompt.conversation import coerce_messages
from hermes_runtime.tags import TURN_END, TURN_START
from langchain_hermes._errors import langchain_errors, made
from langchain_hermes._messages import to_runtime_messages
from langchain_hermes._tools import response_schema, to_openai_tools

_MARKER = re.compile(r"<\|([A-Za-z0-9_]+)\|>|<(/?s)>")


class HermesPromptValue(PromptValue):
    """A rendered conversation: messages for a chat model, or ChatML text for a plain text model."""

    messages: list[BaseMessage]
    type: Literal["HermesPromptValue"] = "HermesPromptValue"

    def to_messages(self) -> list[BaseMessage]:
        """Return one message per turn; the server's chat template puts the markers around them."""
        return self.messages

    def to_string(self) -> str:
        """Return ChatML up to and including the header of the answer; a tokenizer adds the BOS token."""
        said = "".join(f"{TURN_START}{_role(message)}\n{message.text}{TURN_END}\n" for message in self.messages)
        return f"{said}{TURN_START}assistant\n"


class HermesPrompt(RunnableSerializable[LanguageModelInput, HermesPromptValue]):
    """Renders tools, calls and their results into the text that Hermes models were trained on.

    For a model of the Hermes format that another chat model or a plain text model reaches. `ChatHermes` needs none of
    this. The tools become part of the system message, earlier calls become text of the answers, and tool results become
    turns of the role `tool`.

    Text that spells a control marker of the format, such as `<|im_end|>`, is written with spaces in it, so that it
    cannot open or close a turn where the server reads markers in text.

    Args:
        tools: What the model may call, in any form that `ChatHermes.bind_tools` takes.
        response_format: What the final answer must look like (JSON mode), in any form that `bind_tools` takes.
        dialect: How the model is told of tools: `card`, `json_args_first`, `name_first` or `scratch_pad`.
        tool_role: The role of tool results; `"user"` for servers that know no role `tool`.

    Raises:
        HermesInvalidRequestError: On construction: a tool that is no function, or an unknown dialect or option.

    Example:
        ```python
        chain = HermesPrompt(tools=[get_weather]) | other_model | HermesToolsOutputParser(tools=[get_weather])
        chain.invoke("How is the weather in Oslo?").tool_calls
        ```
    """

    tools: list[Any] = Field(default_factory=list)
    response_format: Any = None
    dialect: str = "card"
    tool_role: Literal["tool", "user"] = "tool"

    model_config = ConfigDict(extra="forbid")

    def __init__(self, **options: Any) -> None:
        with made():
            super().__init__(**options)

    @field_validator("tools", mode="after")
    @classmethod
    def _check_tools(cls, tools: list[Any]) -> list[Any]:
        converted = to_openai_tools(tools)
        coerce_tools(converted)
        return converted

    @field_validator("response_format", mode="after")
    @classmethod
    def _check_response_format(cls, response_format: Any) -> Any:
        response_schema(response_format)
        return response_format

    @field_validator("dialect", mode="after")
    @classmethod
    def _check_dialect(cls, dialect: str) -> str:
        return resolve_dialect(dialect).name

    def invoke(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> HermesPromptValue:
        """Render a conversation.

        Raises:
            HermesInvalidRequestError: An empty conversation, or content that is not text.
        """
        return self._call_with_config(self._render, input, config, run_type="prompt")

    async def ainvoke(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> HermesPromptValue:
        """Render a conversation; nothing waits, so there is no thread."""
        return self.invoke(input, config, **kwargs)

    def _render(self, given: LanguageModelInput) -> HermesPromptValue:
        with langchain_errors():
            rendered = turns(
                coerce_messages(to_runtime_messages(_messages(given))),
                coerce_tools(self.tools),
                response_schema(self.response_format),
                resolve_dialect(self.dialect),
            )
            return HermesPromptValue(messages=[self._message(role, body) for role, body, _ in rendered])

    def _message(self, role: str, body: str) -> BaseMessage:
        text = _MARKER.sub(lambda marker: f"< {marker[0][1:-1]} >", body)
        match role:
            case "system":
                return SystemMessage(text)
            case "assistant":
                return AIMessage(text)
            case "tool" if self.tool_role == "tool":
                return ChatMessage(content=text, role="tool")
        return HumanMessage(text)


def _messages(given: LanguageModelInput) -> Sequence[BaseMessage]:
    if isinstance(given, PromptValue):
        return given.to_messages()
    return [HumanMessage(given)] if isinstance(given, str) else convert_to_messages(given)


def _role(message: BaseMessage) -> str:
    if isinstance(message, ChatMessage):
        return message.role
    return {"system": "system", "ai": "assistant"}.get(message.type, "user")
