"""Whatever stands in a thread, the next turn of it is answered; and what was computed of it stays of use."""

from __future__ import annotations

import asyncio
import re

import pytest
from langchain.agents import create_agent
from langchain_core.messages import (
    AIMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    trim_messages,
)
from langgraph.checkpoint.memory import InMemorySaver

from hermes_runtime.prompt import build_prompt
from langchain_hermes import ChatHermes, HermesInvalidRequestError

CALL = "<tool_call>\n{'arguments': {}, 'name': 'look'}\n</tool_call>"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
NOTE = "[image omitted: this model reads text only]"
RESULTS = {
    "rows like blocks": ([{"type": "file", "name": "a.txt"}, {"type": "file", "name": "b.txt"}], "'name': 'b.txt'}]"),
    "a row like a block": ([{"type": "image", "title": "A cat", "width": 3}], "'title': 'A cat'"),
    "json": ([{"type": "json", "json": {"city": "Oslo"}}], "{'city': 'Oslo'}"),
    "a search result": (
        [{"type": "search_result", "source": "u", "title": "T", "content": [{"text": "Oslo"}]}],
        "Oslo",
    ),
    "a document": ([{"type": "document", "source": {"type": "text", "data": "Oslo"}}], "Oslo"),
    "an image": ([{"type": "image", "base64": PNG, "mime_type": "image/png"}], NOTE),
    "text and an image": ([{"type": "text", "text": "Shot"}, IMAGE], f"Shot\\n{NOTE}"),
    "nothing": (None, "null"),
}


def prompts(engine):
    """Return the prompts that were read, without the blanks that the tokenizer's decoder puts after its markers."""
    return [re.sub(r"(<\|im_(?:start|end)\|>) ", r"\1", prompt) for prompt in engine.prompts]


def run(agent, text, config, way):
    asked = {"messages": [HumanMessage(text)]}
    return (agent.invoke(asked, config) if way == "invoke" else asyncio.run(agent.ainvoke(asked, config)))["messages"]


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("name", RESULTS)
def test_a_thread_goes_on_whatever_a_tool_returned(scripted, name, way):
    returned, shown = RESULTS[name]

    def look():
        """Look."""
        return returned

    llm, engine = scripted([CALL, "Seen.", "Well."])
    agent = create_agent(llm, [look], checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "1"}}
    assert run(agent, "Look.", thread, way)[-1].text == "Seen."
    assert run(agent, "And?", thread, way)[-1].text == "Well."
    for prompt in prompts(engine)[1:]:
        assert shown in prompt.split("<|im_start|>tool\n")[1]
        assert PNG not in prompt
    first, second, third = (request.prompt_ids for request in engine.requests)
    assert second[: len(first)] == first
    assert third[: len(second)] == second


def test_a_thread_goes_on_after_a_file_name_that_is_no_text(scripted):
    def look():
        """Look."""
        return b"caf\xe9.txt".decode("utf-8", "surrogateescape")

    llm, engine = scripted([CALL, "Seen.", "Well."])
    agent = create_agent(llm, [look], checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "1"}}
    assert run(agent, "Look.", thread, "invoke")[-1].text == "Seen."
    assert run(agent, "And?", thread, "invoke")[-1].text == "Well."
    # LangGraph's checkpoints replace the surrogate too, each time by a mark of their own.
    assert re.search(r'"content": "caf.\.txt"', engine.prompts[1])


def test_an_agents_late_instruction_leaves_the_prompt_before_it(scripted):
    llm, engine = scripted(["One.", "Two.", "Three."])
    agent = create_agent(llm, [], checkpointer=InMemorySaver(), system_prompt="Be brief.")
    thread = {"configurable": {"thread_id": "1"}}
    agent.invoke({"messages": [HumanMessage("1")]}, thread)
    agent.invoke({"messages": [SystemMessage("In French."), HumanMessage("2")]}, thread)
    agent.invoke({"messages": [HumanMessage("3"), SystemMessage("In German.")]}, thread)
    ids = [request.prompt_ids for request in engine.requests]
    assert ids[1][: len(ids[0])] == ids[0]
    assert ids[2][: len(ids[1])] == ids[1]
    assert prompts(engine)[2].endswith("system\nIn German.<|im_end|>\n<|im_start|>assistant\n")


def test_a_late_instruction_leaves_the_engines_cache_of_use():
    llm = ChatHermes(model="tiny-hermes", device="cpu", temperature=0, max_tokens=5)
    history = [SystemMessage("Be brief."), HumanMessage("word " * 200)]
    first = llm.invoke(history)
    second = llm.invoke([*history, first, SystemMessage("Answer in French."), HumanMessage("more")])
    computed_before = first.usage_metadata["input_tokens"]
    assert second.usage_metadata["input_token_details"]["cache_read"] >= computed_before


CALLS = [{"name": "add", "args": {"a": 1}, "id": "t1"}]
HISTORIES = {
    "calls in the content alone": (
        [
            HumanMessage("q"),
            AIMessage([{"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}]),
            ToolMessage("2", tool_call_id="t1"),
        ],
        "{'arguments': {'a': 1}, 'name': 'add'}",
    ),
    "the oldest form of a call": (
        [
            HumanMessage("q"),
            AIMessage("", additional_kwargs={"function_call": {"name": "add", "arguments": '{"a": 1}'}}),
            FunctionMessage("2", name="add"),
        ],
        "{'arguments': {'a': 1}, 'name': 'add'}",
    ),
    "a refusal": ([HumanMessage("q"), AIMessage([{"type": "refusal", "refusal": "No."}])], "assistant\nNo.<"),
    "speech": (
        [HumanMessage("q"), AIMessage("", additional_kwargs={"audio": {"id": "a", "transcript": "Hello."}})],
        "assistant\nHello.<",
    ),
    "a drawn image": ([HumanMessage("q"), AIMessage([{"type": "text", "text": "Here:"}, IMAGE])], f"Here:\n{NOTE}"),
    "an instruction between a call and its result": (
        [
            HumanMessage("q"),
            AIMessage("", tool_calls=CALLS),
            SystemMessage("Be quick."),
            ToolMessage("2", tool_call_id="t1"),
        ],
        '"name": "add", "content": "2"}\n</tool_response>\n<|im_end|>\n<|im_start|>system\nBe quick.',
    ),
    "a broken call": (
        [
            HumanMessage("q"),
            AIMessage("", invalid_tool_calls=[{"name": "add", "args": "{bad", "id": "t1", "error": "x"}]),
            ToolMessage("what?", tool_call_id="t1", status="error"),
        ],
        '{"arguments": "{bad", "name": "add"}',
    ),
    "a document in text": (
        [HumanMessage([{"type": "document", "source": {"type": "text", "data": "Oslo."}}])],
        "user\nOslo.<",
    ),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_histories_of_other_classes_are_shown(scripted, name):
    history, shown = HISTORIES[name]
    llm, engine = scripted(["Fine."])
    assert llm.invoke([*history, HumanMessage("And?")]).text == "Fine."
    assert shown in prompts(engine)[0]


def test_a_persons_image_is_refused_and_the_next_call_answered(scripted):
    llm, _ = scripted(["Fine."])
    with pytest.raises(HermesInvalidRequestError, match=r"'image_url'.*text only"):
        llm.invoke([HumanMessage(["Look:", IMAGE])])
    assert llm.invoke("Hi").text == "Fine."


def test_a_history_with_a_persons_image_can_be_counted_and_trimmed(scripted):
    llm, engine = scripted([])
    history = [HumanMessage(["Look:", IMAGE]), AIMessage("A cat."), HumanMessage("word " * 40)]
    as_note = build_prompt([{"role": "user", "content": f"Look:\n{NOTE}"}], tokenizer=engine.tokenizer).token_ids
    assert llm.get_num_tokens_from_messages(history[:1]) == len(as_note)
    assert trim_messages(history, max_tokens=5000, token_counter=llm) == history
    assert trim_messages(history, max_tokens=60, token_counter=llm, start_on="human") == history[2:]


LONE, SPLIT = "a \ud83d", "\ud83d\ude00"
WHOLE = "a \N{REPLACEMENT CHARACTER}", "\N{GRINNING FACE}"


@pytest.mark.parametrize(("given", "read"), [*zip((LONE, SPLIT), WHOLE, strict=True)])
def test_no_text_is_beyond_encoding(scripted, given, read):
    def sent(text):
        tool = {
            "name": "f",
            "description": text,
            "parameters": {"type": "object", "properties": {text: {"enum": [text]}}},
        }
        llm, engine = scripted(["Fine."])
        history = [SystemMessage(text), HumanMessage(text), AIMessage(text), ToolMessage(text, tool_call_id="a")]
        counted = llm.get_num_tokens_from_messages(history, tools=[tool])
        llm.bind_tools([tool]).invoke(history, stop=[text])
        (request,) = engine.requests
        assert len(request.prompt_ids) == counted
        return request.prompt_ids, request.constraint, llm.get_token_ids(text)

    assert sent(given) == sent(read)
