"""LangGraph: its prebuilt agent and tool node, graphs written by hand, threads, interrupts and streams."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.prebuilt import InjectedState, InjectedStore, ToolNode, create_react_agent, tools_condition
from langgraph.prebuilt.chat_agent_executor import AgentState
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, Send, interrupt

from tests.llama_index_contract.replies import Call
from tests.side_by_side.kit import ADD, ADD_TWICE, ASK, BROKEN_CALL, CUT, THREAD, Person, add, ask, fail
from tests.side_by_side.scenario import scenario
from tests.side_by_side.script import call, calls, value
from tests.side_by_side.ways import BLOCKING, GRAPH, STREAMED

LANGCHAIN = "langchain"


@scenario(LANGCHAIN, [ADD, "It is 3."], ways=GRAPH)
def react_agent(make, run):
    return run(create_react_agent(make(), [add], prompt="You add."), ASK)


@scenario(LANGCHAIN, [ADD_TWICE, "They are 3 and 7."], ways=GRAPH)
def react_agent_says_a_word_and_calls_twice(make, run):
    return run(create_react_agent(make(), [add]), ASK)


@scenario(LANGCHAIN, [ADD, "It is 3."])
def react_agent_version_1(make):
    return create_react_agent(make(), [add], version="v1").invoke(ASK)


@scenario(LANGCHAIN, [ADD, "It is 3."])
def react_agent_on_a_bound_model(make):
    return create_react_agent(make().bind_tools([add]), [add]).invoke(ASK)


@scenario(LANGCHAIN, [ADD, "It is 3."], ways=BLOCKING)
def react_agent_chooses_its_model(make, run):
    model = make()
    return run(create_react_agent(lambda state, runtime: model.bind_tools([add]), [add]), ASK)


@scenario(LANGCHAIN, [ADD, "It is 3.", value(name="Anna", age=31)])
def react_agent_with_a_response_format(make):
    return create_react_agent(make(), [add], response_format=Person).invoke(ASK)


@scenario(LANGCHAIN, [ADD, "It is 3."])
def react_agent_with_hooks(make):
    def shorten(state):
        return {"llm_input_messages": state["messages"][-2:]}

    def note(state):
        return {"messages": [AIMessage("noted")]} if not state["messages"][-1].tool_calls else {}

    return create_react_agent(make(), [add], pre_model_hook=shorten, post_model_hook=note).invoke(ASK)


@scenario(LANGCHAIN, [CUT, "It is 1."], ways=STREAMED)
def react_agent_whose_call_was_cut(make, run):
    return run(create_react_agent(make(), [add]), ASK)


@scenario(LANGCHAIN, [BROKEN_CALL], ways=STREAMED)
def react_agent_whose_call_cannot_be_read(make, run):
    return run(create_react_agent(make.free(), [add]), ASK)


@scenario(LANGCHAIN, [call("subtract", a=1), "There is no such tool."], ways=STREAMED)
def react_agent_calls_a_tool_that_is_not_there(make, run):
    return run(create_react_agent(make.free(), [add]), ASK)


@scenario(LANGCHAIN, [call("add", a="many"), ADD, "It is 3."], ways=STREAMED)
def react_agent_gives_wrong_arguments_first(make, run):
    messages = run(create_react_agent(make.free(), [add]), ASK)
    state = messages.get("state", messages)
    return [(message.type, getattr(message, "status", None)) for message in state["messages"]]


@scenario(LANGCHAIN, [call("fail", reason="rain"), "It failed."])
def react_agent_whose_tool_fails(make):
    return create_react_agent(make(), ToolNode([fail], handle_tool_errors=True)).invoke(ASK)


@scenario(LANGCHAIN, [call("count_up", step=2), "It is 2."])
def tool_changes_the_state_by_a_command(make):
    class Counting(AgentState):
        count: Annotated[int, operator.add]

    @tool
    def count_up(step: int, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command:
        """Count up."""
        told = ToolMessage(f"up by {step}", tool_call_id=tool_call_id)
        return Command(update={"count": step, "messages": [told]})

    return create_react_agent(make(), [count_up], state_schema=Counting).invoke({**ASK, "count": 1})


@scenario(LANGCHAIN, [call("recall", topic="rain"), "It rained."])
def tool_reads_state_and_store(make):
    store = InMemoryStore()
    store.put(("notes",), "rain", {"text": "it rained"})

    @tool
    def recall(
        topic: str, state: Annotated[dict[str, Any], InjectedState], store: Annotated[Any, InjectedStore()]
    ) -> str:
        """Recall a note."""
        return f"{store.get(('notes',), topic).value['text']} ({len(state['messages'])} messages)"

    return create_react_agent(make(), [recall], store=store).invoke(ASK)


@scenario(LANGCHAIN, [call("rows"), "Two rows."])
def tool_has_an_artifact(make):
    @tool(response_format="content_and_artifact")
    def rows() -> tuple[str, list[int]]:
        """List rows."""
        return "2 rows", [1, 2]

    messages = create_react_agent(make(), [rows]).invoke(ASK)["messages"]
    return [messages, messages[2].artifact]


@scenario(LANGCHAIN, [call("answer", text="42")])
def tool_returns_directly(make):
    @tool(return_direct=True)
    def answer(text: str) -> str:
        """Answer the user."""
        return f"The answer is {text}."

    return create_react_agent(make(), [answer]).invoke(ASK)


ROWS = {
    "json": [{"type": "json", "json": {"a": 1}}],
    "file rows": [{"type": "file", "name": "a.txt"}, {"type": "file", "name": "b.txt"}],
    "search result": [
        {"type": "search_result", "source": "u", "title": "t", "content": [{"type": "text", "text": "found"}]}
    ],
    "rows of no known type": [{"type": "row", "value": 1}],
}


@scenario(LANGCHAIN, [call("look"), "Seen.", "Again."], ways=ROWS)
def thread_goes_on_after_a_tool_returned(make, rows):
    @tool
    def look() -> list[dict[str, Any]]:
        """Look."""
        return rows

    agent = create_react_agent(make(), [look], checkpointer=InMemorySaver())
    return [agent.invoke(ask(text), THREAD)["messages"][-1] for text in ("Look.", "And now?")]


@scenario(LANGCHAIN, ["Hello, Anna.", "You are Anna."], ways=STREAMED)
def thread_remembers(make, run):
    agent = create_react_agent(make(), [add], checkpointer=InMemorySaver())
    first = run(agent, ask("I am Anna."), THREAD)
    return [first, run(agent, ask("Who am I?"), THREAD), "I am Anna." in make.heard]


@scenario(LANGCHAIN, [ADD, "It is 3.", "Still 3."])
def thread_in_sqlite(make):
    with SqliteSaver.from_conn_string(":memory:") as saver:
        agent = create_react_agent(make(), [add], checkpointer=saver)
        agent.invoke(ASK, THREAD)
        again = create_react_agent(make(), [add], checkpointer=saver)
        return again.invoke(ask("Sure?"), THREAD)


@scenario(LANGCHAIN, ["First.", "Second.", "Another second."])
def time_travel(make):
    agent = create_react_agent(make(), [add], checkpointer=InMemorySaver())
    agent.invoke(ask("one"), THREAD)
    agent.invoke(ask("two"), THREAD)
    earlier = [state for state in agent.get_state_history(THREAD) if len(state.values["messages"]) == 2]
    return agent.invoke(ask("another two"), earlier[0].config)


@scenario(LANGCHAIN, [call("book", city="Oslo"), "Booked."], ways=STREAMED)
def tool_interrupts_and_is_resumed(make, run):
    @tool
    def book(city: str) -> str:
        """Book a hotel."""
        return f"{city}: {interrupt({'city': city})}"

    agent = create_react_agent(make(), [book], checkpointer=InMemorySaver())
    run(agent, ASK, THREAD)
    waiting = [item.value for item in agent.get_state(THREAD).interrupts]
    return [waiting, run(agent, Command(resume="yes"), THREAD)]


@scenario(LANGCHAIN, [ADD, "It is 30."])
def call_is_edited_before_its_tool_runs(make):
    agent = create_react_agent(make(), [add], checkpointer=InMemorySaver(), interrupt_before=["tools"])
    agent.invoke(ASK, THREAD)
    asked = agent.get_state(THREAD).values["messages"][-1]
    asked.tool_calls[0]["args"] = {"a": 10, "b": 20}
    agent.update_state(THREAD, {"messages": [asked]})
    return agent.invoke(None, THREAD)


@scenario(LANGCHAIN, ["A summary.", "Fine."])
def history_is_summarized_and_removed(make):
    model = make()

    def summarize(state):
        summary = model.invoke([*state["messages"], HumanMessage("Summarize.")])
        return {"messages": [RemoveMessage(REMOVE_ALL_MESSAGES), SystemMessage(summary.text), HumanMessage("Go on.")]}

    graph = StateGraph(MessagesState)
    graph.add_node(summarize)
    graph.add_node("talk", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "summarize")
    graph.add_edge("summarize", "talk")
    return graph.compile().invoke(ASK)


def _agent_by_hand(model):
    graph = StateGraph(MessagesState)
    bound = model.bind_tools([add])
    graph.add_node("model", lambda state: {"messages": [bound.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode([add]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph.compile()


@scenario(LANGCHAIN, [ADD_TWICE, "3 and 7."], ways=GRAPH)
def agent_written_by_hand(make, run):
    return run(_agent_by_hand(make()), ASK)


@scenario(LANGCHAIN, [ADD, "It is 3."])
def stream_of_updates_of_a_subgraph(make):
    outer = StateGraph(MessagesState)
    outer.add_node("inner", _agent_by_hand(make()))
    outer.add_edge(START, "inner")
    parts = outer.compile().stream(ASK, stream_mode="updates", subgraphs=True)
    return [[bool(place), update] for place, update in parts]


@scenario(LANGCHAIN, [ADD, "It is 3."])
def stream_of_tasks_and_checkpoints(make):
    graph = create_react_agent(make(), [add], checkpointer=InMemorySaver())
    parts = graph.stream(ASK, THREAD, stream_mode=["tasks", "checkpoints"])
    return [[mode, part.get("name"), sorted(part)] for mode, part in parts]


@scenario(LANGCHAIN, [ADD, "It is 3."])
def stream_of_custom_data(make):
    from langgraph.config import get_stream_writer

    @tool("add")
    def told_add(a: int, b: int) -> int:
        """Add two numbers."""
        get_stream_writer()({"adding": [a, b]})
        return a + b

    return list(create_react_agent(make(), [told_add]).stream(ASK, stream_mode="custom"))


@scenario(LANGCHAIN, [ADD, "It is 3."])
def events_of_version_2(make):
    async def names():
        agent = create_react_agent(make(), [add])
        events = [event async for event in agent.astream_events(ASK, version="v2")]
        ends = [e for e in events if e["event"] in ("on_chat_model_end", "on_tool_end")]
        return [[event["event"], event["data"]["output"]] for event in ends]

    return asyncio.run(names())


@scenario(LANGCHAIN, lambda said: "A joke of cats." if "cats" in said else "A joke of dogs.", ways=BLOCKING)
def map_and_reduce_by_send(make, run):
    class Jokes(TypedDict):
        topics: list[str]
        jokes: Annotated[list[str], operator.add]

    model, graph = make(), StateGraph(Jokes)
    graph.add_node("joke", lambda one: {"jokes": [model.invoke(f"Joke about {one['topic']}.").text]})
    graph.add_conditional_edges(START, lambda state: [Send("joke", {"topic": topic}) for topic in state["topics"]])
    graph.add_edge("joke", END)
    return run(graph.compile(), {"topics": ["cats", "dogs"], "jokes": []})


@scenario(LANGCHAIN, [value(name="Anna", age=31), "Hello, Anna."])
def router_by_structured_output_and_command(make):
    model = make()

    def route(state) -> Command:
        person = model.with_structured_output(Person).invoke(state["messages"])
        return Command(goto="greet", update={"messages": [SystemMessage(f"The user is {person.name}.")]})

    graph = StateGraph(MessagesState)
    graph.add_node("route", route, destinations=("greet",))
    graph.add_node("greet", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "route")
    return [graph.compile().invoke(ASK), "The user is Anna." in make.heard]


@scenario(LANGCHAIN, [ADD, "It is 3."], ways=BLOCKING)
def functional_interface(make, run):
    bound = make().bind_tools([add])

    @task
    def think(messages: list[AnyMessage]) -> AIMessage:
        return bound.invoke(messages)

    @entrypoint(checkpointer=InMemorySaver())
    def agent(messages: list[AnyMessage]) -> list[AnyMessage]:
        while (said := think(messages).result()).tool_calls:
            messages = [*messages, said, *[add.invoke(made) for made in said.tool_calls]]
        return [*messages, said]

    return run(agent, [HumanMessage("1 and 2?")], THREAD)


@scenario(LANGCHAIN, [call("ask_helper", question="1 and 2?"), ADD, "3.", "The helper says 3."])
def agent_as_a_tool_of_an_agent(make):
    helper = create_react_agent(make(), [add], name="helper")

    @tool
    def ask_helper(question: str) -> str:
        """Ask the helper."""
        return helper.invoke(ask(question))["messages"][-1].text

    return create_react_agent(make(), [ask_helper]).invoke(ASK)


@scenario(LANGCHAIN, [calls(Call("hand_over", {}), text="To the other."), "I am the other."])
def agents_hand_over(make):
    @tool
    def hand_over(state: Annotated[dict[str, Any], InjectedState], tool_call_id: Annotated[str, InjectedToolCallId]):
        """Hand over to the other agent."""
        told = ToolMessage("handed over", tool_call_id=tool_call_id)
        return Command(goto="other", graph=Command.PARENT, update={"messages": [*state["messages"], told]})

    graph = StateGraph(MessagesState)
    graph.add_node("one", create_react_agent(make(), [hand_over], name="one"))
    graph.add_node("other", create_react_agent(make(), [add], name="other"))
    graph.add_edge(START, "one")
    return graph.compile().invoke(ASK)
