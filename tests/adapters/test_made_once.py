"""What a call brings along is brought into form once: tools, choice, messages, schemas."""

from __future__ import annotations

from collections import Counter

import pytest
from langchain_core.messages import HumanMessage
from llama_index.core.tools import FunctionTool

import hermes_runtime.schema.validation
import hermes_runtime.turn.turn
from hermes_runtime.messages import ToolChoice, ToolSpec
from langchain_hermes import ChatHermes
from llama_index_hermes import HermesLLM

OPTIONS = {"model": "tiny-hermes", "temperature": 0, "max_tokens": 1}


def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return f"rain in {city}"


def get_tide(port: str) -> str:
    """Get the tide in a port."""
    return f"low in {port}"


def by_langchain(counted):
    bound = ChatHermes(**OPTIONS).bind_tools([get_weather, get_tide])
    counted.clear()  # what is bound once serves any number of calls
    list(bound.stream([HumanMessage("How is the weather in Brest?")]))


def by_llama_index(counted):
    tools = [FunctionTool.from_defaults(get_weather), FunctionTool.from_defaults(get_tide)]
    list(HermesLLM(**OPTIONS).stream_chat_with_tools(tools, "How is the weather in Brest?"))


@pytest.fixture
def counted(monkeypatch):
    """Counts how often things are made."""
    counts = Counter()

    def count(owner, name, work=None):
        work = work or getattr(owner, name)

        def counting(*args, **kwargs):
            counts[name] += 1
            return work(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    count(ToolSpec, "__post_init__")
    count(ToolChoice, "coerce")
    count(hermes_runtime.schema.validation, "_validator_of")
    count(hermes_runtime.turn.turn, "coerce_messages")
    count(hermes_runtime.turn.turn, "resolve_dialect")
    return counts


def test_a_streamed_call_of_langchain_makes_each_thing_once(counted):
    by_langchain(counted)
    assert counted == {
        "__post_init__": 2,  # once for each tool
        "coerce": 1,
        "_validator_of": 2,
        "coerce_messages": 1,
        "resolve_dialect": 1,
    }


def test_a_streamed_call_of_llama_index_makes_each_thing_once(counted):
    by_llama_index(counted)
    assert counted == {
        # LlamaIndex hands tools on as plain data, which its events show: each is made for that, and from it.
        "__post_init__": 4,
        "coerce": 2,
        "_validator_of": 2,
        "coerce_messages": 1,
        "resolve_dialect": 1,
    }
