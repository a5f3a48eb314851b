"""The LlamaIndex agent of `hermes-adapters demo`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from llama_index.core.agent.workflow import AgentOutput, AgentStream, FunctionAgent, ToolCallResult

from hermes_adapters.scenarios import Called, DemoEvent, Returned, Said, Tool
from llama_index_hermes import HermesLLM

NAME = "LlamaIndex"
TITLE = 'LlamaIndex  FunctionAgent(llm=HermesLLM(model="{model}"), tools=tools)'


async def ask(model: str, tools: Sequence[Tool], question: str) -> AsyncIterator[DemoEvent]:
    """Ask a new agent with these tools, and yield what happens as it happens."""
    agent = FunctionAgent(llm=HermesLLM(model=model), tools=list(tools))
    handler = agent.run(user_msg=question)
    async for event in handler.stream_events():
        if isinstance(event, AgentStream):
            if event.delta:
                yield Said(event.delta)
        elif isinstance(event, AgentOutput):
            for call in event.tool_calls:
                yield Called(call.tool_name, call.tool_kwargs)
        elif isinstance(event, ToolCallResult):
            yield Returned(event.tool_name, event.tool_output.content)
    await handler
