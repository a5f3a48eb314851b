"""The deep agent harness, where it is installed: files, a sub-agent, and some ten thousand characters of tools."""

from __future__ import annotations

import re

import pytest
from langchain_core.messages import HumanMessage, ToolMessage

from tests.support.weather import call_block, get_weather

deepagents = pytest.importorskip("deepagents")


def reply(prompt):
    """Ask a sub-agent for the weather, note what it says in a file, then say what the file says."""
    said = prompt.rpartition("<|im_start|>")[0]
    if re.findall(r"user\n(.*?)<", prompt)[-1] == "How is Oslo?":
        return "It rains there." if "rain in Oslo" in said else call_block("get_weather", city="Oslo")
    results = said.count("<tool_response>\n")
    steps = [
        call_block("task", description="How is Oslo?", subagent_type="general-purpose"),
        call_block("write_file", file_path="/weather.txt", content="It rains."),
        call_block("read_file", file_path="/weather.txt"),
        "The file says that it rains.",
    ]
    return steps[results]


@pytest.mark.parametrize("stream", [False, True])
def test_a_deep_agent_runs(scripted, stream):
    llm, engine = scripted(reply, engine_options={"context_window": 32_768})
    agent = deepagents.create_deep_agent(model=llm, tools=[get_weather])
    asked = {"messages": [HumanMessage("Note how the weather is in Oslo.")]}
    state = [*agent.stream(asked, stream_mode="values")][-1] if stream else agent.invoke(asked)
    messages = state["messages"]
    assert messages[-1].text == "The file says that it rains."
    assert state["files"]["/weather.txt"]["content"]
    assert [message.status for message in messages if isinstance(message, ToolMessage)] == ["success"] * 3
    assert len(engine.requests) == 6
    assert llm.get_num_tokens_from_messages(messages) > 0
