"""llama-index-core's agents and workflows, memories, programs and structured predictions."""

from typing import Any

from llama_index.core.agent.workflow import (
    AgentStream,
    AgentWorkflow,
    CodeActAgent,
    FunctionAgent,
    ReActAgent,
    ToolCallResult,
)
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ThinkingBlock, ToolCallBlock
from llama_index.core.memory import (
    ChatMemoryBuffer,
    ChatSummaryMemoryBuffer,
    FactExtractionMemoryBlock,
    Memory,
    StaticMemoryBlock,
)
from llama_index.core.tools import FunctionTool
from llama_index.core.tools.types import ToolOutput
from llama_index.core.workflow import Context, HumanResponseEvent, InputRequiredEvent

from tests.side_by_side.llama_index_kit import ADD, ADD_TWICE, CUT, LLAMA_INDEX, Person, add, fail
from tests.side_by_side.scenario import scenario, scenario_by_failure
from tests.side_by_side.script import call, value


async def _ran(agent: Any, asked: str = "What is 1 and 2?", **options: Any) -> Any:
    """Run an agent; return its answer, its tools' results, and the words as they came."""
    running, streamed, results = agent.run(asked, **options), "", []
    async for event in running.stream_events():
        if isinstance(event, AgentStream):
            streamed += event.delta
        elif isinstance(event, ToolCallResult):
            results.append([event.tool_name, event.tool_kwargs, str(event.tool_output.content)])
    return [str(await running), results, streamed]


STREAMING = {"streamed": True, "at once": False}


@scenario(LLAMA_INDEX, [ADD, "It is 3."], ways=STREAMING)
def function_agent(make, streaming):
    return _ran(FunctionAgent(llm=make(), tools=[add], system_prompt="You add.", streaming=streaming))


@scenario(LLAMA_INDEX, [ADD_TWICE, "3 and 7."], ways=STREAMING)
def function_agent_calls_twice(make, streaming):
    return _ran(FunctionAgent(llm=make(), tools=[add], streaming=streaming))


@scenario(LLAMA_INDEX, ["Hello."])
def function_agent_without_tools(make):
    return _ran(FunctionAgent(llm=make(), tools=[]), "Hello")


@scenario(LLAMA_INDEX, [call("fail", reason="rain"), "It failed."])
def function_agent_whose_tool_fails(make):
    return _ran(FunctionAgent(llm=make(), tools=[fail]))


@scenario(LLAMA_INDEX, [call("subtract", a=1), "There is none."])
def function_agent_calls_a_tool_that_is_not_there(make):
    return _ran(FunctionAgent(llm=make.free(), tools=[add]))


@scenario(LLAMA_INDEX, [CUT, "It is 1."], ways=STREAMING)
def function_agent_whose_call_was_cut(make, streaming):
    return _ran(FunctionAgent(llm=make(), tools=[add], streaming=streaming))


@scenario(LLAMA_INDEX, [ADD])
def function_agent_returns_directly(make):
    return _ran(FunctionAgent(llm=make(), tools=[FunctionTool.from_defaults(add, return_direct=True)]))


@scenario(LLAMA_INDEX, [ADD, "It is 3."])
def function_agent_is_made_to_call(make):
    return _ran(FunctionAgent(llm=make(), tools=[add], initial_tool_choice="add"))


@scenario(LLAMA_INDEX, [ADD, "It is 3."])
def function_agent_calls_one_by_one(make):
    return _ran(FunctionAgent(llm=make(), tools=[add], allow_parallel_tool_calls=False))


@scenario(LLAMA_INDEX, [ADD, "Anna is 3.", value(name="Anna", age=3)])
async def function_agent_answers_with_an_object(make):
    result = await FunctionAgent(llm=make(), tools=[add], output_cls=Person).run("Who?")
    return [str(result), result.structured_response, result.get_pydantic_model(Person)]


@scenario(LLAMA_INDEX, ["Hello, Anna.", "Anna."])
async def function_agent_remembers(make):
    memory = Memory.from_defaults(session_id="1", token_limit=4000)
    agent = FunctionAgent(llm=make(), tools=[add])
    first = await _ran(agent, "I am Anna.", memory=memory)
    return [first, await _ran(agent, "Who am I?", memory=memory), await memory.aget_all()]


@scenario(LLAMA_INDEX, [ADD, "It is 3.", "As I said."])
async def function_agents_context_is_saved_and_read(make):
    agent = FunctionAgent(llm=make(), tools=[add])
    context = Context(agent)
    first = await _ran(agent, ctx=context)
    read = Context.from_dict(agent, context.to_dict())
    return [first, await _ran(agent, "Sure?", ctx=read)]


@scenario(LLAMA_INDEX, [call("note", text="rain"), "Noted."])
async def function_agents_tool_writes_the_state(make):
    async def note(ctx: Context, text: str) -> str:
        """Note a text."""
        async with ctx.store.edit_state() as state:
            state["notes"] = [text]
        return "noted"

    agent = FunctionAgent(llm=make(), tools=[note])
    context = Context(agent)
    answer = await _ran(agent, ctx=context)
    return [answer, (await context.store.get("notes", default=None))]


@scenario(LLAMA_INDEX, [call("book", city="Oslo"), "Booked."])
async def function_agent_asks_a_human(make):
    async def book(ctx: Context, city: str) -> str:
        """Book a hotel."""
        said = await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent(prefix=f"{city}?"))
        return f"{city}: {said.response}"

    running = FunctionAgent(llm=make(), tools=[book]).run("Book.")
    asked = []
    async for event in running.stream_events():
        if isinstance(event, InputRequiredEvent):
            asked.append(event.prefix)
            running.ctx.send_event(HumanResponseEvent(response="yes"))
    return [asked, str(await running)]


@scenario(LLAMA_INDEX, [ADD] * 10)
async def function_agent_runs_in_circles(make):
    agent = FunctionAgent(llm=make(), tools=[add])
    try:
        return str(await agent.run("Go on.", max_iterations=3))
    except Exception as error:  # noqa: BLE001 - as in `settled`
        return error


@scenario_by_failure(LLAMA_INDEX, ["Later."])
async def function_agent_fails(make):
    try:
        return await _ran(FunctionAgent(llm=make(), tools=[add]))
    except Exception as error:  # noqa: BLE001 - as in `settled`
        return error


@scenario(
    LLAMA_INDEX,
    [call("handoff", to_agent="adder", reason="It is about numbers."), ADD, "It is 3."],
)
def agent_workflow_hands_over(make):
    talker = FunctionAgent(name="talker", description="Talks.", llm=make(), tools=[fail], can_handoff_to=["adder"])
    adder = FunctionAgent(name="adder", description="Adds.", llm=make(), tools=[add])
    return _ran(AgentWorkflow(agents=[talker, adder], root_agent="talker"))


@scenario(LLAMA_INDEX, [call("handoff", to_agent="nobody", reason="?"), "I stay."])
def agent_workflow_hands_over_to_nobody(make):
    talker = FunctionAgent(name="talker", description="Talks.", llm=make(), tools=[fail])
    adder = FunctionAgent(name="adder", description="Adds.", llm=make(), tools=[add])
    return _ran(AgentWorkflow(agents=[talker, adder], root_agent="talker"))


@scenario(LLAMA_INDEX, [ADD, "It is 3."])
def agent_workflow_of_functions(make):
    return _ran(AgentWorkflow.from_tools_or_functions([add], llm=make(), system_prompt="You add."))


@scenario(LLAMA_INDEX, [call("ask_adder", question="1 and 2?"), ADD, "3.", "The adder says 3."])
def workflow_agent_as_a_tool(make):
    adder = FunctionAgent(name="adder", description="Adds.", llm=make(), tools=[add])

    async def ask_adder(question: str) -> str:
        """Ask the adder."""
        return str(await adder.run(question))

    return _ran(FunctionAgent(llm=make(), tools=[ask_adder]))


THOUGHT = 'Thought: I add.\nAction: add\nAction Input: {"a": 1, "b": 2}\n'
REACT = {
    "uses a tool": [THOUGHT, "Thought: I know.\nAnswer: It is 3."],
    "answers at once": ["Thought: I know.\nAnswer: It is 3."],
    "writes its own observation": [THOUGHT + "Observation: 5\nAnswer: It is 5.", "Thought: I know.\nAnswer: It is 3."],
    "uses a tool that is not there": [THOUGHT.replace("add\n", "subtract\n"), "Thought: No.\nAnswer: There is none."],
    "does not keep to the form": ["It is 3.", "Thought: I know.\nAnswer: It is 3."],
}
for _label, _said in REACT.items():
    for _how, _streaming in STREAMING.items():

        def react_agent(make, streaming=_streaming):
            return _ran(ReActAgent(llm=make(), tools=[add], streaming=streaming))

        react_agent.__name__ = f"ReAct agent {_label}, {_how}"
        scenario(LLAMA_INDEX, _said)(react_agent)


@scenario(LLAMA_INDEX, ["I compute.\n<execute>\nprint(1 + 2)\n</execute>", "It is 3."])
def code_agent(make):
    def execute(code: str) -> str:
        return "3" if "1 + 2" in code else "nothing"

    return _ran(CodeActAgent(code_execute_fn=execute, llm=make(), tools=[add]))


@scenario(LLAMA_INDEX, ["Use the <tool_call> tag, then write JSON. Close it afterwards.\n"] * 2)
def completion_about_the_format(make):
    return [make().complete("How?").text, "".join(part.delta for part in make().stream_complete("How?"))]


@scenario(LLAMA_INDEX, ["  two"] * 2)
def completion_that_begins_with_blanks(make):
    return [make().complete("One,").text, make().chat([ChatMessage("One,")]).message.content]


@scenario(LLAMA_INDEX, [ADD, ADD])
def calls_in_the_older_form(make):
    tool, llm = FunctionTool.from_defaults(add), make()
    told = llm.chat_with_tools([tool], user_msg="1 and 2?").message
    streamed = list(llm.stream_chat_with_tools([tool], user_msg="1 and 2?"))[-1].message
    return [len(message.additional_kwargs["tool_calls"]) for message in (told, streamed)]


_CALL = ToolCallBlock(tool_call_id="t1", tool_name="add", tool_kwargs='{"a": 1, "b": 2}')
_RESULT = ChatMessage("3", role=MessageRole.TOOL, additional_kwargs={"tool_call_id": "t1", "name": "add"})
THREADS = {
    "a call as a block": [ChatMessage("1 and 2?"), ChatMessage(role="assistant", blocks=[_CALL]), _RESULT],
    "thoughts": [
        ChatMessage("1 and 2?"),
        ChatMessage(role="assistant", blocks=[ThinkingBlock(content="hm"), _CALL]),
        _RESULT,
    ],
    "a call in the older form": [
        ChatMessage("1 and 2?"),
        ChatMessage(
            role="assistant",
            content="",
            additional_kwargs={
                "tool_calls": [
                    {"id": "t1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
                ]
            },
        ),
        _RESULT,
    ],
    "a late system message": [
        ChatMessage("Hello"),
        ChatMessage("Hi.", role="assistant"),
        ChatMessage("Be brief.", role="system"),
        ChatMessage("And now?"),
    ],
}


@scenario(LLAMA_INDEX, ["Fine."], ways=THREADS)
def thread_goes_on(make, thread):
    return make().chat(thread).message


@scenario(LLAMA_INDEX, ["<facts><fact>Anna is 31.</fact></facts>"])
async def facts_are_extracted(make):
    block = FactExtractionMemoryBlock(name="facts", llm=make(), max_facts=5)
    await block.aput([ChatMessage("I am Anna, 31.")])
    return [block.facts, await block.aget()]


@scenario(LLAMA_INDEX, ["Anna said hello.", "Fine."])
def memory_is_summarized(make):
    llm = make()
    memory = ChatSummaryMemoryBuffer.from_defaults(llm=llm, token_limit=20, tokenizer_fn=str.split)
    for number in range(4):
        memory.put(ChatMessage(f"Hello, I am Anna, number {number} of four, as I said.", role="user"))
        memory.put(ChatMessage("Hello, Anna.", role="assistant"))
    kept = memory.get()
    return [kept, llm.chat(kept).message]


@scenario(LLAMA_INDEX, ["Fine."])
def memory_buffer_and_static_block(make):
    llm = make()
    buffer = ChatMemoryBuffer.from_defaults(llm=llm, token_limit=50, tokenizer_fn=str.split)
    for number in range(9):
        buffer.put(ChatMessage(f"word {number} " * 5))
    static = StaticMemoryBlock(name="static", static_content="The user is Anna.")
    memory = Memory.from_defaults(session_id="2", memory_blocks=[static])
    memory.put(ChatMessage("Hello"))
    return [len(buffer.get()), llm.chat(memory.get()).message, "The user is Anna." in make.heard]


@scenario(LLAMA_INDEX, [ADD, "It is 3."])
def loop_written_by_hand(make):
    llm, tool = make(), FunctionTool.from_defaults(add)
    history = [ChatMessage("1 and 2?")]
    while made := llm.get_tool_calls_from_response(
        response := llm.chat_with_tools([tool], chat_history=history), error_on_no_tool_call=False
    ):
        history.append(response.message)
        for one in made:
            output: ToolOutput = tool(**one.tool_kwargs)
            result = {"tool_call_id": one.tool_id, "name": one.tool_name}
            history.append(ChatMessage(str(output), role="tool", additional_kwargs=result))
    return [*history, response.message]
