"""deepagents: files, plans, sub-agents, and what its own middleware does with errors and long threads."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path

from deepagents import create_deep_agent
from deepagents.backends import FilesystemBackend
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from tests.llama_index_contract.replies import Call
from tests.side_by_side.kit import ADD, ASK, THREAD, Person, add, ask
from tests.side_by_side.scenario import scenario, scenario_by_failure, settled
from tests.side_by_side.script import OVERFLOW, call, calls
from tests.side_by_side.ways import GRAPH, STREAMED

LANGCHAIN = "langchain"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def _seen(result):
    """Return a state's messages and files, without the times at which they were written."""
    state = result.get("state", result)
    files = {name: file["content"] for name, file in state.get("files", {}).items()}
    return {"messages": state["messages"], "files": files, "todos": state.get("todos")}


@scenario(LANGCHAIN, [ADD, "It is 3."], ways=GRAPH)
def deep_agent(make, run):
    return _seen(run(create_deep_agent(model=make(), tools=[add]), ASK))


@scenario(
    LANGCHAIN,
    [
        call("write_file", file_path="/note.txt", content="It rains.\nStill."),
        call("edit_file", file_path="/note.txt", old_string="Still.", new_string="No more."),
        call("read_file", file_path="/note.txt"),
        calls(Call("ls", {"path": "/"}), Call("grep", {"pattern": "rains"})),
        "It rained.",
    ],
    ways=STREAMED,
)
def deep_agent_works_with_files(make, run):
    return _seen(run(create_deep_agent(model=make()), ASK))


@scenario(
    LANGCHAIN,
    [call("write_todos", todos=[{"content": "add", "status": "in_progress"}]), ADD, "3."],
)
def deep_agent_plans(make):
    return _seen(create_deep_agent(model=make(), tools=[add]).invoke(ASK))


@scenario(
    LANGCHAIN,
    [call("task", description="Add 1 and 2.", subagent_type="general-purpose"), ADD, "It is 3.", "The other says 3."],
    ways=GRAPH,
)
def deep_agent_asks_a_general_agent(make, run):
    return _seen(run(create_deep_agent(model=make(), tools=[add]), ASK))


@scenario(
    LANGCHAIN,
    [call("task", description="Add 1 and 2.", subagent_type="adder"), ADD, "It is 3.", "The adder says 3."],
)
def deep_agent_asks_an_agent_of_its_own(make):
    adder = {"name": "adder", "description": "Adds.", "system_prompt": "You add.", "tools": [add], "model": make()}
    return _seen(create_deep_agent(model=make(), subagents=[adder]).invoke(ASK))


def _asked_in_parallel(said):
    if "What is 1 and 2?" in said:
        return "Both are answered." if "answer to the first" in said else _BOTH
    return "The answer to the first." if "First question" in said else "The answer to the second."


_BOTH = calls(
    Call("task", {"description": "First question", "subagent_type": "general-purpose"}),
    Call("task", {"description": "Second question", "subagent_type": "general-purpose"}),
)


@scenario(LANGCHAIN, _asked_in_parallel)
def deep_agent_asks_two_at_once(make):
    return _seen(create_deep_agent(model=make()).invoke(ASK))


@scenario(LANGCHAIN, [call("write_file", file_path="/note.txt", content="x"), "Written."])
def deep_agent_asks_before_it_writes(make):
    agent = create_deep_agent(model=make(), interrupt_on={"write_file": True}, checkpointer=InMemorySaver())
    waiting = agent.invoke(ASK, THREAD)["__interrupt__"][0].value["action_requests"]
    result = agent.invoke(Command(resume={"decisions": [{"type": "approve"}]}), THREAD)
    return [[request["name"] for request in waiting], _seen(result)]


@scenario(LANGCHAIN, [call("Person", name="Anna", age=31)])
def deep_agent_with_a_response_format(make):
    result = create_deep_agent(model=make(), response_format=ToolStrategy(Person)).invoke(ASK)
    return result["structured_response"]


@scenario(LANGCHAIN, [call("read_file", file_path="/note.txt"), "It says: rain."])
def deep_agent_reads_a_folder(make):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "note.txt").write_text("rain", encoding="utf-8")
        backend = FilesystemBackend(root_dir=folder, virtual_mode=True)
        return _seen(create_deep_agent(model=make(), backend=backend).invoke(ASK))


@scenario(LANGCHAIN, [call("read_file", file_path="/pixel.png"), "A pixel.", "Yes."])
def deep_agent_reads_an_image(make):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pixel.png").write_bytes(PIXEL)
        backend = FilesystemBackend(root_dir=folder, virtual_mode=True)
        agent = create_deep_agent(model=make(), backend=backend, checkpointer=InMemorySaver())
        return [agent.invoke(asked, THREAD)["messages"][-1] for asked in (ASK, ask("Sure?"))]


@scenario(LANGCHAIN, [call("read_file", file_path="/none.txt"), "There is none."])
def deep_agent_reads_a_file_that_is_not_there(make):
    return _seen(create_deep_agent(model=make()).invoke(ASK))


LONG = {"messages": [HumanMessage("word " * 1500), AIMessage("yes " * 1500)] * 3 + [HumanMessage("And now?")]}


@scenario(LANGCHAIN, [OVERFLOW, "A summary.", "Fine."], ways=STREAMED)
def deep_agent_shortens_a_thread_that_overflows(make, run):
    result = run(create_deep_agent(model=make(profile={"max_input_tokens": 32_768})), LONG)
    return [result.get("state", result)["messages"][-1], "A summary." in make.heard]


@scenario_by_failure(LANGCHAIN, ["Later."])
def deep_agent_in_a_thread_that_failed_once(make):
    agent = create_deep_agent(model=make(), checkpointer=InMemorySaver())
    first = settled(lambda: agent.invoke(ASK, THREAD)["messages"][-1])
    return first if not isinstance(first, Exception) else [first, agent.invoke(ask("Again?"), THREAD)["messages"][-1]]


@scenario(LANGCHAIN, ["Noted: Anna."])
def deep_agent_with_memory_and_skills(make):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "AGENTS.md").write_text("The user is Anna.", encoding="utf-8")
        skill = Path(folder, "skills", "adding")
        skill.mkdir(parents=True)
        text = "---\nname: adding\ndescription: How to add.\n---\nCount fingers.\n"
        skill.joinpath("SKILL.md").write_text(text, encoding="utf-8")
        backend = FilesystemBackend(root_dir=folder, virtual_mode=True)
        agent = create_deep_agent(model=make(), backend=backend, memory=["/AGENTS.md"], skills=["/skills/"])
        answer = agent.invoke(ASK)["messages"][-1]
        return [answer, "The user is Anna." in make.heard, "How to add." in make.heard]
