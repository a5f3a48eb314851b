"""LlamaIndex's own agents over a scripted engine."""

from __future__ import annotations

import asyncio

import pytest
from llama_index.core.agent.workflow import (
    AgentOutput,
    AgentStream,
    FunctionAgent,
    ToolCallResult,
)
from llama_index.core.base.llms.types import ImageBlock, ToolCallBlock
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.selectors import PydanticSingleSelector
from llama_index.core.tools import FunctionTool, ToolMetadata

from hermes_runtime.problems import Problem


def call(name, **arguments):
    return f"<tool_call>\n{ {'arguments': arguments, 'name': name} }\n</tool_call>"


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def agent_of(llm, tools, **options):
    return FunctionAgent(llm=llm, tools=tools, **options)


def responses_in(prompt):
    """The bodies of the prompt's last tool turn."""
    turn = prompt.rpartition("tool\n")[2]
    return [part.partition("</tool_response>")[0].strip() for part in turn.split("<tool_response>")[1:]]


streaming = pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "whole"])


@streaming
async def test_agent_calls_a_tool_and_answers(streaming, scripted):
    llm, engine = scripted([call("add", a=19, b=23), "It is 42."])
    output = await agent_of(llm, [add], streaming=streaming).run("19 + 23?")
    assert str(output) == "It is 42."
    assert responses_in(engine.prompts[1]) == ['{"name": "add", "content": "42"}']


async def test_agent_streams_text_as_it_comes(scripted):
    llm, _ = scripted(["It is forty-two."])
    handler = agent_of(llm, [add]).run("19 + 23?")
    events = [event async for event in handler.stream_events() if isinstance(event, AgentStream)]
    assert "".join(event.delta for event in events) == "It is forty-two."
    assert len(events) > 3
    assert events[-1].raw["usage"]["completion_tokens"] > 3


@streaming
async def test_results_out_of_order_are_shown_in_call_order(streaming, scripted):
    llm, engine = scripted([call("visit", port="Brest") + "\n" + call("visit", port="Oslo"), "Both."])
    oslo_is_done = asyncio.Event()

    async def visit(port: str) -> str:
        """Visit a port."""
        if port == "Brest":
            await oslo_is_done.wait()
        else:
            oslo_is_done.set()
        return f"{port} was fine"

    handler = agent_of(llm, [visit], streaming=streaming).run("Visit Brest and Oslo.")
    events = [event async for event in handler.stream_events()]
    finished = [event.tool_kwargs["port"] for event in events if isinstance(event, ToolCallResult)]
    assert finished == ["Oslo", "Brest"]
    assert responses_in(engine.prompts[1]) == [
        '{"name": "visit", "content": "Brest was fine"}',
        '{"name": "visit", "content": "Oslo was fine"}',
    ]


async def test_next_prompt_of_an_agent_extends_the_last_one(scripted):
    llm, engine = scripted([call("add", a=19, b=23), "It is 42."])
    await agent_of(llm, [add]).run("19 + 23?")
    asked, answered = (request.prompt_ids for request in engine.requests)
    reply = engine.tokenizer.encode(call("add", a=19, b=23), add_special_tokens=False)
    assert answered[: len(asked) + len(reply)] == (*asked, *reply)


async def test_tool_that_raises_is_shown_to_the_model(scripted):
    llm, engine = scripted([call("sink", ship="Ava"), "It did not work."])

    def sink(ship: str) -> str:
        """Sink a ship."""
        raise RuntimeError(f"{ship} floats")

    assert str(await agent_of(llm, [sink]).run("Sink Ava.")) == "It did not work."
    assert "Ava floats" in responses_in(engine.prompts[1])[0]


async def test_unknown_tool_is_answered_by_the_agent(scripted):
    llm, engine = scripted([call("subtract", a=1, b=2), "Sorry."], constrained=False)
    assert str(await agent_of(llm, [add]).run("1 - 2?")) == "Sorry."
    assert "not found" in responses_in(engine.prompts[1])[0]


async def test_truncated_call_never_runs(scripted):
    llm, _ = scripted([call("add", a=19, b=23)], max_tokens=20)
    ran = []

    def spy(a: int, b: int) -> int:
        """Add two numbers."""
        ran.append((a, b))
        return a + b

    output = await agent_of(llm, [FunctionTool.from_defaults(spy, name="add")]).run("19 + 23?")
    assert ran == []
    assert output.tool_calls == []
    (invalid,) = output.response.additional_kwargs["invalid_tool_calls"]
    assert Problem.read(invalid["error"]).is_cut_off


async def test_return_direct_ends_with_the_result(scripted):
    llm, _ = scripted([call("add", a=19, b=23)])
    tool = FunctionTool.from_defaults(add, return_direct=True)
    assert str(await agent_of(llm, [tool]).run("19 + 23?")) == "42"


async def test_first_tool_can_be_forced(scripted):
    llm, engine = scripted([call("add", a=1, b=2), "3."])
    await agent_of(llm, [add], initial_tool_choice="add").run("Hello")
    free_llm, free_engine = scripted([call("add", a=1, b=2), "3."])
    await agent_of(free_llm, [add]).run("Hello")
    assert engine.requests[0].constraint != free_engine.requests[0].constraint
    assert engine.requests[1].constraint == free_engine.requests[1].constraint


async def test_an_agent_goes_on_after_a_tool_that_gives_an_image(scripted):
    llm, engine = scripted([call("photo"), "Taken.", "Well."])
    memory = ChatMemoryBuffer.from_defaults(llm=llm)

    def photo() -> list[ImageBlock]:
        """Take a photo."""
        return [ImageBlock(url="http://host/cat.png")]

    agent = agent_of(llm, [photo])
    assert str(await agent.run("Take a photo.", memory=memory)) == "Taken."
    assert str(await agent.run("And?", memory=memory)) == "Well."
    for prompt in engine.prompts[1:]:
        assert "[image omitted: this model reads text only]" in prompt
        assert "http://host/cat.png" in prompt


async def test_memory_keeps_calls_and_goes_on(scripted):
    llm, engine = scripted([call("add", a=19, b=23), "It is 42.", "You asked for 19 + 23."])
    memory = ChatMemoryBuffer.from_defaults(llm=llm)
    agent = agent_of(llm, [add])
    await agent.run("19 + 23?", memory=memory)
    assert any(isinstance(block, ToolCallBlock) for message in memory.get_all() for block in message.blocks)
    assert str(await agent.run("What did I ask?", memory=memory)) == "You asked for 19 + 23."
    assert "'name': 'add'" in engine.prompts[2]


async def test_early_stop_asks_for_an_answer_without_tools(scripted):
    llm, engine = scripted([*[call("add", a=1, b=1)] * 2, "I stop at 2."])
    agent = agent_of(llm, [add], early_stopping_method="generate")
    output = await agent.run("Add for ever.", max_iterations=2)
    assert str(output) == "I stop at 2."
    assert "<tools>" not in engine.prompts[-1]


def test_response_synthesizer_over_context(scripted):
    llm, engine = scripted(["It has 140,000 people."])
    synthesizer = get_response_synthesizer(llm=llm, response_mode="compact")
    assert synthesizer.get_response("How many people?", ["Brest has 140,000 people."]) == "It has 140,000 people."
    assert "Brest has 140,000 people." in engine.prompts[0]


def test_selector_of_a_router(scripted):
    llm, _ = scripted([call("SingleSelection", index=2, reason="It is about ships.")])
    selector = PydanticSingleSelector.from_defaults(llm=llm)
    choices = [ToolMetadata(name="ports", description="Ports."), ToolMetadata(name="ships", description="Ships.")]
    assert selector.select(choices, "Which ship is fastest?").ind == 1


async def test_many_agents_at_once_keep_their_answers_apart(scripted):
    def reply(prompt):
        question = prompt.partition("user\n")[2].partition("+ 1?")[0].strip()
        if "<tool_response>" in prompt:
            return f"Sum for {question}."
        return call("add", a=int(question), b=1)

    llm, _ = scripted(reply)
    outputs = await asyncio.gather(*(agent_of(llm, [add]).run(f"{number} + 1?") for number in range(20)))
    assert [str(output) for output in outputs] == [f"Sum for {number}." for number in range(20)]
    assert all(isinstance(output, AgentOutput) for output in outputs)
