"""LangChain's `create_agent`: its loop, its streams and its ways to a structured response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from langchain.agents import AgentState, create_agent
from langchain.agents.structured_output import AutoStrategy, ProviderStrategy, ToolStrategy
from langchain.tools import ToolRuntime
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from tests.llama_index_contract.replies import Call
from tests.side_by_side.kit import ADD, ADD_TWICE, ASK, BROKEN_CALL, CUT, THREAD, City, Person, add, ask
from tests.side_by_side.scenario import scenario
from tests.side_by_side.script import call, calls
from tests.side_by_side.ways import BLOCKING, GRAPH, STREAMED

LANGCHAIN = "langchain"
ANNA = '{"name": "Anna", "age": 31}'


@scenario(LANGCHAIN, [ADD, "It is 3."], ways=GRAPH)
def agent(make, run):
    return run(create_agent(make(), [add], system_prompt="You add."), ASK)


@scenario(LANGCHAIN, [ADD_TWICE, "3 and 7."], ways=GRAPH)
def agent_says_a_word_and_calls_twice(make, run):
    return run(create_agent(make(), [add]), ASK)


@scenario(LANGCHAIN, ["Hello."], ways=GRAPH)
def agent_without_tools(make, run):
    return run(create_agent(make(), []), ask("Hello"))


@scenario(LANGCHAIN, [CUT, "It is 1."], ways=STREAMED)
def agent_whose_call_was_cut(make, run):
    return run(create_agent(make(), [add]), ASK)


@scenario(LANGCHAIN, [BROKEN_CALL], ways=STREAMED)
def agent_whose_call_cannot_be_read(make, run):
    return run(create_agent(make.free(), [add]), ASK)


@scenario(LANGCHAIN, [call("subtract", a=1), "There is none."], ways=STREAMED)
def agent_calls_a_tool_that_is_not_there(make, run):
    return run(create_agent(make.free(), [add]), ASK)


@scenario(LANGCHAIN, [ADD, "It is 3.", "Again: 3."])
def agent_in_a_thread(make):
    made = create_agent(make(), [add], checkpointer=InMemorySaver())
    return [made.invoke(ASK, THREAD), made.invoke(ask("Again?"), THREAD)]


@scenario(LANGCHAIN, [call("remember", name="Anna"), "I will."])
def tool_writes_the_agents_state(make):
    class Remembering(AgentState):
        name: str

    @tool
    def remember(name: str, runtime: ToolRuntime) -> Command:
        """Remember a name."""
        from langchain_core.messages import ToolMessage

        told = ToolMessage(f"remembered after {len(runtime.state['messages'])}", tool_call_id=runtime.tool_call_id)
        return Command(update={"name": name, "messages": [told]})

    return create_agent(make(), [remember], state_schema=Remembering).invoke(ASK)


class User(TypedDict):
    """Who runs the agent."""

    name: str


@scenario(LANGCHAIN, [call("greet"), "Hello, Anna."])
def tool_reads_the_runs_context(make):
    @tool
    def greet(runtime: ToolRuntime[User]) -> str:
        """Return a greeting."""
        return f"Hello, {runtime.context['name']}"

    return create_agent(make(), [greet], context_schema=User).invoke(ASK, context={"name": "Anna"})


@scenario(LANGCHAIN, [ANNA], ways=GRAPH)
def response_by_the_provider(make, run):
    return run(create_agent(make(), [], response_format=ProviderStrategy(Person)), ASK)


@scenario(LANGCHAIN, [ADD, ANNA], ways=GRAPH)
def response_by_the_provider_after_a_tool(make, run):
    return run(create_agent(make(), [add], response_format=ProviderStrategy(Person, strict=True)), ASK)


@scenario(LANGCHAIN, [call("Person", name="Anna", age=31)], ways=GRAPH)
def response_by_a_tool(make, run):
    return run(create_agent(make(), [], response_format=ToolStrategy(Person)), ASK)


@scenario(LANGCHAIN, [ADD, call("Person", name="Anna", age=31)], ways=BLOCKING)
def response_by_a_tool_after_a_tool(make, run):
    return run(create_agent(make(), [add], response_format=ToolStrategy(Person, tool_message_content="Noted.")), ASK)


@scenario(LANGCHAIN, [call("City", city="Oslo")])
def response_by_one_of_two_tools(make):
    return create_agent(make(), [], response_format=ToolStrategy(Person | City)).invoke(ASK)


@scenario(LANGCHAIN, [call("Person", name="Anna", age=-1), call("Person", name="Anna", age=31)], ways=BLOCKING)
def response_by_a_tool_is_wrong_at_first(make, run):
    return run(create_agent(make(), [], response_format=ToolStrategy(Person)), ASK)


@scenario(LANGCHAIN, [call("Person", name="Anna", age=-1)], raises="unreadable answer")
def response_by_a_tool_is_wrong_and_nothing_handles_it(make):
    return create_agent(make(), [], response_format=ToolStrategy(Person, handle_errors=False)).invoke(ASK)


@scenario(
    LANGCHAIN,
    [
        calls(Call("Person", {"name": "Anna", "age": 31}), Call("Person", {"name": "Ben", "age": 4})),
        call("Person", name="Anna", age=31),
    ],
)
def response_by_a_tool_is_given_twice(make):
    strategy = ToolStrategy(Person, handle_errors=lambda error: f"One, please ({type(error).__name__}).")
    return create_agent(make(), [], response_format=strategy).invoke(ASK)


@scenario(LANGCHAIN, [ANNA])
def response_of_a_plain_schema(make):
    return create_agent(make(), [], response_format=Person).invoke(ASK)


@scenario(LANGCHAIN, [ANNA])
def response_by_whichever_strategy_fits(make):
    return create_agent(make(), [], response_format=AutoStrategy(Person)).invoke(ASK)


@scenario(LANGCHAIN, [ANNA])
def response_of_a_typed_dict(make):
    class Known(TypedDict):
        """A person."""

        name: str
        age: int

    return create_agent(make(), [], response_format=ProviderStrategy(Known)).invoke(ASK)


@dataclass
class Known:
    """A person."""

    name: str
    age: int


@scenario(LANGCHAIN, [ANNA])
def response_of_a_dataclass(make):
    return create_agent(make(), [], response_format=ProviderStrategy(Known)).invoke(ASK)


@scenario(LANGCHAIN, [call("Known", name="Anna", age=31)])
def response_of_a_dataclass_by_a_tool(make):
    return create_agent(make(), [], response_format=ToolStrategy(Known)).invoke(ASK)


@scenario(LANGCHAIN, [ANNA])
def response_of_a_json_schema(make):
    schema = {**Person.model_json_schema(), "title": "person", "description": "A person."}
    return create_agent(make(), [], response_format=ProviderStrategy(schema)).invoke(ASK)


@scenario(LANGCHAIN, ["No JSON at all."], raises="unreadable answer")
def response_by_the_provider_is_no_json(make):
    return create_agent(make.free(), [], response_format=ProviderStrategy(Person)).invoke(ASK)


@scenario(LANGCHAIN, ['{"kind": "walk", "steps": [{"to": "Oslo", "km": 3.5}], "note": null}'])
def response_is_nested(make):
    class Step(BaseModel):
        to: str
        km: float

    class Plan(BaseModel):
        """A plan."""

        kind: Literal["walk", "ride"]
        steps: list[Step] = Field(min_length=1)
        note: str | None

    return create_agent(make(), [], response_format=ProviderStrategy(Plan)).invoke(ASK)
