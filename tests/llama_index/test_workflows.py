"""LlamaIndex's workflows, memories, query engines and routers over HermesLLM."""

from __future__ import annotations

import asyncio

import pytest
from llama_index.core import SummaryIndex
from llama_index.core.agent.workflow import AgentWorkflow, CodeActAgent, FunctionAgent, ToolCallResult
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatSummaryMemoryBuffer, Memory
from llama_index.core.query_engine import CustomQueryEngine, RouterQueryEngine
from llama_index.core.schema import TextNode
from llama_index.core.selectors import LLMSingleSelector, PydanticMultiSelector, PydanticSingleSelector
from llama_index.core.tools import FunctionTool, QueryEngineTool, RetrieverTool
from llama_index.core.workflow import Context, HumanResponseEvent, InputRequiredEvent
from pydantic import BaseModel, Field

from llama_index_hermes import HermesLLM


def call(name, **arguments):
    return f"<tool_call>\n{ {'arguments': arguments, 'name': name} }\n</tool_call>"


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


# Agents


async def test_human_in_the_loop(scripted):
    llm, engine = scripted([call("sink", ship="Ava"), "Ava stays afloat."])

    async def sink(ctx: Context, ship: str) -> str:
        """Sink a ship."""
        answer = await ctx.wait_for_event(
            HumanResponseEvent, waiter_event=InputRequiredEvent(prefix=f"Sink {ship}?"), waiter_id=ship
        )
        return f"the human said {answer.response}"

    sink.__annotations__["ctx"] = Context  # LlamaIndex looks for the class, and annotations here are text
    handler = FunctionAgent(llm=llm, tools=[sink]).run("Sink Ava.")
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            assert event.prefix == "Sink Ava?"
            handler.ctx.send_event(HumanResponseEvent(response="no"))
    assert str(await handler) == "Ava stays afloat."
    assert "the human said no" in engine.prompts[1]


async def test_context_of_an_agent_goes_on_after_serialization(scripted):
    llm, engine = scripted([call("add", a=19, b=23), "It is 42.", "19 and 23."])
    agent = FunctionAgent(llm=llm, tools=[add])
    context = Context(agent)
    await agent.run("19 + 23?", ctx=context)
    restored = Context.from_dict(agent, context.to_dict())
    assert str(await agent.run("Of what?", ctx=restored)) == "19 and 23."
    assert "'name': 'add'" in engine.prompts[2]


async def test_code_act_agent_with_a_handoff(scripted):
    llm, _ = scripted(
        ["<execute>\nprint(add(19, 23))\n</execute>", call("handoff", to_agent="clerk", reason="sums"), "It is 42."]
    )
    coder = CodeActAgent(
        code_execute_fn=lambda code: "42", llm=llm, tools=[add], name="coder", description="Runs code."
    )
    clerk = FunctionAgent(llm=llm, tools=[add], name="clerk", description="Adds.")
    output = await AgentWorkflow(agents=[coder, clerk], root_agent="coder").run("19 + 23?")
    assert (str(output), output.current_agent_name) == ("It is 42.", "clerk")


async def test_tools_become_a_function_agent(scripted):
    llm, _ = scripted([call("add", a=19, b=23), "It is 42."])
    workflow = AgentWorkflow.from_tools_or_functions([add], llm=llm)
    assert all(isinstance(agent, FunctionAgent) for agent in workflow.agents.values())
    assert str(await workflow.run("19 + 23?")) == "It is 42."


# Memories


async def test_memory_of_sessions(scripted):
    llm, engine = scripted([call("add", a=19, b=23), "It is 42.", "You asked for 19 + 23."])
    memory, agent = Memory.from_defaults(session_id="s", token_limit=4000), FunctionAgent(llm=llm, tools=[add])
    await agent.run("19 + 23?", memory=memory)
    assert str(await agent.run("What did I ask?", memory=memory)) == "You asked for 19 + 23."
    assert "'name': 'add'" in engine.prompts[2]


def test_memory_that_summarizes(scripted):
    llm, engine = scripted(["They spoke of ports.", "Brest."])
    memory = ChatSummaryMemoryBuffer.from_defaults(
        chat_history=[ChatMessage("Name every port of Brittany. " * 20), ChatMessage("Brest. " * 40, role="assistant")],
        llm=llm,
        token_limit=60,
        tokenizer_fn=str.split,
    )
    engine_of_chat = SimpleChatEngine.from_defaults(llm=llm, memory=memory)
    assert str(engine_of_chat.chat("Which is the largest?")) == "Brest."
    assert "They spoke of ports." in engine.prompts[1]


# Query engines and routers


class Fixed(CustomQueryEngine):
    """Answers whatever is asked with the same text."""

    answer: str

    def custom_query(self, query_str):
        return self.answer


PORTS = QueryEngineTool.from_defaults(Fixed(answer="Brest."), name="ports", description="Knows ports.")
SHIPS = QueryEngineTool.from_defaults(Fixed(answer="Ava."), name="ships", description="Knows ships.")


def test_query_engine_over_an_index(scripted):
    llm, engine = scripted(["140,000 people."])
    index = SummaryIndex(nodes=[TextNode(text="Brest has 140,000 people."), TextNode(text="Brest has a port.")])
    answer = index.as_query_engine(llm=llm).query("How many people live in Brest?")
    assert str(answer) == "140,000 people."
    assert "Brest has 140,000 people." in engine.prompts[0]
    assert "Brest has a port." in engine.prompts[0]


def test_query_engine_streams(scripted):
    llm, _ = scripted(["140,000 people."])
    index = SummaryIndex(nodes=[TextNode(text="Brest has 140,000 people.")])
    answer = index.as_query_engine(llm=llm, streaming=True).query("How many people live in Brest?")
    tokens = list(answer.response_gen)
    assert "".join(tokens) == "140,000 people."
    assert len(tokens) > 2


def test_query_engine_gives_objects(scripted):
    class Census(BaseModel):
        people: int

    llm, _ = scripted(['{"people": 140000}'])
    index = SummaryIndex(nodes=[TextNode(text="Brest has 140,000 people.")])
    answer = index.as_query_engine(llm=llm, output_cls=Census).query("How many people live in Brest?")
    assert answer.response == Census(people=140_000)


@pytest.mark.parametrize(
    ("selector", "reply"),
    [
        (PydanticSingleSelector, call("SingleSelection", index=2, reason="It is about ships.")),
        (LLMSingleSelector, '[{"choice": 2, "reason": "It is about ships."}]'),
    ],
)
def test_router_asks_the_engine_that_was_selected(selector, reply, scripted):
    llm, engine = scripted([reply])
    router = RouterQueryEngine.from_defaults([PORTS, SHIPS], llm=llm, selector=selector.from_defaults(llm=llm))
    assert str(router.query("Which ship is fastest?")) == "Ava."
    assert "Knows ships." in engine.prompts[0]


def test_router_of_several_engines_sums_them_up(scripted):
    selections = [{"index": 1, "reason": "ports"}, {"index": 2, "reason": "ships"}]
    llm, engine = scripted([call("MultiSelection", selections=selections), "Brest and Ava."])
    router = RouterQueryEngine.from_defaults(
        [PORTS, SHIPS], llm=llm, selector=PydanticMultiSelector.from_defaults(llm=llm), select_multi=True
    )
    assert str(router.query("Which port and which ship?")) == "Brest and Ava."
    assert "Brest." in engine.prompts[1]
    assert "Ava." in engine.prompts[1]


async def test_agent_over_a_query_engine_and_a_retriever(scripted):
    retriever = SummaryIndex(nodes=[TextNode(text="Oslo is far.")]).as_retriever()
    tools = [PORTS, RetrieverTool.from_defaults(retriever, name="far", description="Knows distances.")]
    llm, engine = scripted([call("ports", input="largest?") + "\n" + call("far", input="Oslo?"), "Brest, not Oslo."])
    assert str(await FunctionAgent(llm=llm, tools=tools).run("Which port?")) == "Brest, not Oslo."
    assert '{"name": "ports", "content": "Brest."}' in engine.prompts[1]
    assert "Oslo is far." in engine.prompts[1]


# On the embedded checkpoint: what holds whatever its weights say


class Numbers(BaseModel):
    """Arguments that end, whatever model writes them."""

    a: int = Field(ge=0, le=99)
    b: int = Field(ge=0, le=99)


class Tons(BaseModel):
    """As above."""

    tons: int = Field(ge=0, le=99)


@pytest.fixture(scope="module")
def tiny():
    return HermesLLM(model="tiny-hermes", temperature=0, max_tokens=48)


class Sum(BaseModel):
    value: int = Field(ge=0, le=999)
    is_even: bool


async def test_twenty_workflows_at_once_end_as_each_does_alone(dense_tiny):
    llm = HermesLLM(model=str(dense_tiny), device="cpu", temperature=0, max_tokens=48)

    async def run(question):
        tool = FunctionTool.from_defaults(add, fn_schema=Numbers)
        agent = FunctionAgent(llm=llm, tools=[tool], initial_tool_choice="add", early_stopping_method="generate")
        handler = agent.run(question, max_iterations=2)
        events = [event async for event in handler.stream_events() if isinstance(event, ToolCallResult)]
        return [event.tool_kwargs for event in events], str(await handler)

    questions = [f"What is {number} plus {number + 3}?" for number in range(5)]
    alone = [await run(question) for question in questions]
    assert await asyncio.gather(*(run(question) for question in questions * 4)) == alone * 4
    assert all(called for called, _ in alone)


async def test_return_direct(tiny):
    tool = FunctionTool.from_defaults(add, return_direct=True, fn_schema=Numbers)
    handler = FunctionAgent(llm=tiny, tools=[tool], initial_tool_choice="add").run("What is 19 plus 23?")
    results = [event async for event in handler.stream_events() if isinstance(event, ToolCallResult)]
    assert str(await handler) == str(add(**results[0].tool_kwargs))


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "whole"])
async def test_tool_that_raises_then_early_stop(streaming, tiny):
    def sink(tons: int) -> str:
        """Sink a ship."""
        raise RuntimeError(f"{tons} tons float")

    tool = FunctionTool.from_defaults(sink, fn_schema=Tons)
    agent = FunctionAgent(
        llm=tiny, tools=[tool], initial_tool_choice="sink", early_stopping_method="generate", streaming=streaming
    )
    handler = agent.run("Sink a ship of 12 tons.", max_iterations=2)
    results = [event async for event in handler.stream_events() if isinstance(event, ToolCallResult)]
    assert results[0].tool_output.is_error
    assert "tons float" in results[0].tool_output.content
    assert (await handler).response.role == "assistant"


async def test_a_small_model_fills_the_class_that_an_agent_asks_for(tiny):
    agent = FunctionAgent(llm=tiny, tools=[add], output_cls=Sum, early_stopping_method="generate")
    output = await agent.run("What is 19 plus 23?", max_iterations=3)
    assert isinstance(output.get_pydantic_model(Sum), Sum)


def test_query_engine(tiny):
    index = SummaryIndex(nodes=[TextNode(text="Brest has a port."), TextNode(text="word " * 60)])
    answer = index.as_query_engine(llm=tiny, streaming=True).query("What has Brest?")
    assert "".join(answer.response_gen) == str(index.as_query_engine(llm=tiny).query("What has Brest?"))
