"""Rules seen from LlamaIndex's agents."""

from __future__ import annotations

import asyncio
import json

import pytest
from llama_index.core.agent.workflow import (
    AgentStream,
    AgentWorkflow,
    CodeActAgent,
    FunctionAgent,
    ReActAgent,
    ToolCallResult,
)
from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from tests.llama_index_contract.base import Subject
from tests.llama_index_contract.harness import add
from tests.llama_index_contract.replies import Call, Reply

ADD = Call("add", {"a": 19, "b": 23})
ANSWER = Reply("It is 42.")
streaming = pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "whole"])


class Sum(BaseModel):
    """A sum."""

    value: int


async def _events(handler):
    seen = [event async for event in handler.stream_events()]
    return seen, await handler


class AgentRules(Subject):
    """Agents, workflows and memories that run on the LLM."""

    @streaming
    def test_function_agent(self, streaming):
        """`FunctionAgent` runs the calls of an answer and ends with the text of the next; streamed text comes once."""
        self.need_tools()
        llm = self.saying(Reply("I add.", (ADD,)), ANSWER)

        async def main():
            return await _events(FunctionAgent(llm=llm, tools=[add], streaming=streaming).run("19 + 23?"))

        events, output = asyncio.run(main())
        (result,) = [event for event in events if isinstance(event, ToolCallResult)]
        assert (result.tool_kwargs, result.tool_output.raw_output) == ({"a": 19, "b": 23}, 42)
        assert str(output) == "It is 42."
        if streaming:
            text = "".join(event.delta for event in events if isinstance(event, AgentStream))
            assert text == "I add.It is 42."

    @streaming
    def test_parallel_calls_that_end_out_of_order(self, streaming):
        """Two calls of one tool run at once, end the other way round, and the agent goes on."""
        self.need_tools()
        llm = self.saying(Reply("", tuple(Call("visit", {"port": port}) for port in ("Brest", "Oslo"))), Reply("Both."))

        async def main():
            oslo_is_done = asyncio.Event()

            async def visit(port: str) -> str:
                """Visit a port."""
                await oslo_is_done.wait() if port == "Brest" else oslo_is_done.set()
                return f"{port} was fine"

            return await _events(FunctionAgent(llm=llm, tools=[visit], streaming=streaming).run("Visit both."))

        events, output = asyncio.run(main())
        finished = [event.tool_kwargs["port"] for event in events if isinstance(event, ToolCallResult)]
        assert finished == ["Oslo", "Brest"]
        assert str(output) == "Both."

    @streaming
    def test_a_call_that_was_cut_off_is_not_run(self, streaming):
        """An agent runs nothing of a call that the token limit broke off."""
        self.need_tools()
        llm = self.saying(Reply("", (Call("add", {"a": 19, "b": 23}, broken_off=9),)))
        ran = []

        def spy(a: int = 0, b: int = 0) -> int:
            """Add two numbers."""
            ran.append((a, b))
            return a + b

        async def main():
            tool = FunctionTool.from_defaults(spy, name="add")
            return await FunctionAgent(llm=llm, tools=[tool], streaming=streaming).run("19 + 23?")

        asyncio.run(main())
        assert ran == []

    def test_a_tool_that_raises(self):
        """The error of a tool is the next thing the model is told, and the agent goes on."""
        self.need_tools()
        llm = self.saying(Reply("", (Call("sink", {"ship": "Ava"}),)), Reply("It floats."))

        def sink(ship: str) -> str:
            """Sink a ship."""
            raise RuntimeError(f"{ship} floats")

        async def main():
            return await FunctionAgent(llm=llm, tools=[sink]).run("Sink Ava.")

        assert str(asyncio.run(main())) == "It floats."
        assert "Ava floats" in self.shown(llm)[1]

    def test_handoff_and_back(self):
        """Two agents of a workflow hand over to each other: each sees calls of tools that it does not have."""
        self.need_tools()
        llm = self.saying(
            Reply("", (Call("handoff", {"to_agent": "sailor", "reason": "ships"}),)),
            Reply("", (Call("handoff", {"to_agent": "clerk", "reason": "sums"}),)),
            Reply("", (ADD,)),
            ANSWER,
        )

        def sail(port: str) -> str:
            """Sail to a port."""
            return port

        async def main():
            clerk = FunctionAgent(llm=llm, tools=[add], name="clerk", description="Adds.")
            sailor = FunctionAgent(llm=llm, tools=[sail], name="sailor", description="Sails.")
            return await AgentWorkflow(agents=[clerk, sailor], root_agent="clerk").run("19 + 23?")

        output = asyncio.run(main())
        assert (str(output), output.current_agent_name) == ("It is 42.", "clerk")
        assert "handoff" in self.shown(llm)[1]

    def test_early_stop(self):
        """Out of steps, an agent asks for an answer with a system message at the end and no tools."""
        self.need_tools()
        llm = self.saying(Reply("", (ADD,)), Reply("", (ADD,)), Reply("I stop."))

        async def main():
            agent = FunctionAgent(llm=llm, tools=[add], early_stopping_method="generate")
            return await agent.run("Add for ever.", max_iterations=2)

        assert str(asyncio.run(main())) == "I stop."

    def test_memory_keeps_calls(self):
        """A second run with the same memory sends the calls of the first, as `ToolCallBlock`s."""
        self.need_tools()
        llm = self.saying(Reply("", (ADD,)), ANSWER, Reply("Of 19 and 23."))

        async def main():
            memory, agent = ChatMemoryBuffer.from_defaults(llm=llm), FunctionAgent(llm=llm, tools=[add])
            await agent.run("19 + 23?", memory=memory)
            kept = memory.get_all()
            return kept, await agent.run("Of what?", memory=memory)

        kept, output = asyncio.run(main())
        made = [block for message in kept for block in message.blocks if isinstance(block, ToolCallBlock)]
        arguments = [json.loads(kept) if isinstance(kept := block.tool_kwargs, str) else kept for block in made]
        assert arguments == [{"a": 19, "b": 23}]
        assert str(output) == "Of 19 and 23."

    def test_structured_output_of_an_agent(self):
        """`output_cls` of an agent is asked for after its run, from `as_structured_llm`."""
        self.need_tools()
        llm = self.saying(ANSWER, Reply(value={"value": 42}))

        async def main():
            return await FunctionAgent(llm=llm, tools=[add], output_cls=Sum).run("19 + 23?")

        assert asyncio.run(main()).get_pydantic_model(Sum) == Sum(value=42)

    def test_react_agent(self):
        """`ReActAgent` reads tools and answers from the text."""
        llm = self.saying(
            Reply('Thought: I need add.\nAction: add\nAction Input: {"a": 19, "b": 23}'),
            Reply("Thought: I can answer.\nAnswer: 42"),
        )

        async def main():
            return await ReActAgent(llm=llm, tools=[add]).run("19 + 23?")

        assert str(asyncio.run(main())) == "42"

    def test_code_act_agent(self):
        """`CodeActAgent` reads code from the streamed text."""
        llm = self.saying(Reply("I run it.\n<execute>\nprint(add(19, 23))\n</execute>"), ANSWER)
        ran = []

        def execute(code: str) -> str:
            ran.append(code)
            return "42"

        async def main():
            return await CodeActAgent(code_execute_fn=execute, llm=llm, tools=[add]).run("19 + 23?")

        assert str(asyncio.run(main())) == "It is 42."
        assert ran == ["print(add(19, 23))"]
