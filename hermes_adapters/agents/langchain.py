"""The LangChain agent of `hermes-adapters demo`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage

from hermes_adapters.scenarios import Called, DemoEvent, Returned, Said, Tool
from langchain_hermes import ChatHermes

NAME = "LangChain"
TITLE = 'LangChain  create_agent(ChatHermes(model="{model}"), tools)'


async def ask(model: str, tools: Sequence[Tool], question: str) -> AsyncIterator[DemoEvent]:
    """Ask a new agent with these tools, and yield what happens as it happens."""
    agent = create_agent(ChatHermes(model=model), list(tools))
    question_given: Any = {"messages": [HumanMessage(question)]}
    payload: Any  # its type goes by the mode
    async for mode, payload in agent.astream(question_given, stream_mode=["messages", "updates"]):
        if mode == "messages":
            message = payload[0]
            if isinstance(message, AIMessageChunk) and message.text:
                yield Said(message.text)
            continue
        for update in payload.values():
            for message in update["messages"]:
                if isinstance(message, AIMessage):
                    for call in message.tool_calls:
                        yield Called(call["name"], call["args"])
                elif isinstance(message, ToolMessage):
                    yield Returned(message.name or "", message.text)
