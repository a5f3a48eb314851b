"""The rows of the LangChain table: each a question that is answered by running the same code on every model."""

# ruff: noqa: SLF001 - what an adapter does shows in its private members too

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import ModelRetryMiddleware
from langchain.agents.structured_output import ProviderStrategy
from langchain_core.caches import InMemoryCache
from langchain_core.exceptions import ContextOverflowError
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage, message_chunk_to_message
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from pydantic import BaseModel

from benchmarks.peers.langchain_contenders import CITIES, WINDOW_CHARACTERS, Contender

GREETING = "Hello!"
ONE = f"What is the weather in {CITIES[0]}?"
TWO = f"What is the weather in {CITIES[0]} and {CITIES[1]}?"
ABOUT_ANNA = "The name is Anna and the age is 31."
PARSE_FAILURES = (ValueError, TypeError, KeyError)
Check = Callable[[Contender], bool | None]
CHECKS: list[tuple[str, Check]] = []


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def get_weather(city: str) -> str:  # noqa: ARG001 - part of its schema
    """Get the weather in a city."""
    return "9 degrees and light rain"


def row(question: str) -> Callable[[Check], Check]:
    """Add a check to the table under this name."""

    def register(check: Check) -> Check:
        CHECKS.append((question, check))
        return check

    return register


def _streamed(model: Any, text: str) -> BaseMessage:
    return message_chunk_to_message(reduce(add, model.stream(text)))


def _cities(message: BaseMessage) -> list[str]:
    assert isinstance(message, AIMessage)
    return [call["args"]["city"] for call in message.tool_calls]


@row("Tool calling")
def _(contender: Contender) -> bool:
    (call,) = contender.make().bind_tools([get_weather]).invoke(ONE).tool_calls
    return call["name"] == "get_weather" and bool(call["id"])


@row("`tool_choice`: `any`, a name, `none`")
def _(contender: Contender) -> bool:
    def calls(choice: str, text: str) -> int:
        bound: Any = contender.make().bind_tools([get_weather], tool_choice=choice)
        return len(bound.invoke(text).tool_calls)

    return calls("any", GREETING) > 0 and calls("get_weather", GREETING) > 0 and calls("none", ONE) == 0


@row("`parallel_tool_calls=False` allows one call")
def _(contender: Contender) -> bool:
    bound: Any = contender.make().bind_tools([get_weather], parallel_tool_calls=False)
    free = contender.make().bind_tools([get_weather])
    return len(bound.invoke(TWO).tool_calls) == 1 and len(free.invoke(TWO).tool_calls) == len(CITIES)


@row("Agent loop: a tool's result reaches the model")
def _(contender: Contender) -> bool:
    messages = create_agent(contender.make(), [get_weather]).invoke({"messages": [HumanMessage(ONE)]})["messages"]
    return [message.type for message in messages] == ["human", "ai", "tool", "ai"] and "9 degrees" in messages[-1].text


@row("A failed tool's `status` reaches the model")
def _(contender: Contender) -> bool:
    def heard(status: str) -> str:
        call = {"name": "get_weather", "args": {"city": CITIES[0]}, "id": "call_1"}
        result = ToolMessage("no data", tool_call_id="call_1", name="get_weather", status=status)
        model = contender.make().bind_tools([get_weather])
        model.invoke([HumanMessage(ONE), AIMessage("", tool_calls=[call]), result])
        return contender.heard()

    return heard("success") != heard("error")


@row("Arguments are streamed piece by piece")
def _(contender: Contender) -> bool:
    model = contender.make().bind_tools([get_weather])
    return sum(bool(part["args"]) for chunk in model.stream(ONE) for part in chunk.tool_call_chunks) > 1


@row("Parallel calls are right in the v3 event stream")
def _(contender: Contender) -> bool:
    stream: Any = contender.make().bind_tools([get_weather]).stream_events(TWO, version="v3")
    return sorted(_cities(stream.output)) == sorted(CITIES)


@row('Text and a call keep both blocks in a stream, `output_version="v1"`')
def _(contender: Contender) -> bool:
    message = _streamed(contender.make_talkative(output_version="v1").bind_tools([get_weather]), ONE)
    return [block["type"] for block in message.content_blocks] == ["text", "tool_call"]


@row("A call cut by `max_tokens` is kept as invalid: `invoke`")
def _(contender: Contender) -> bool:
    message = contender.make(max_tokens=12).bind_tools([get_weather], tool_choice="any").invoke(ONE)
    return not message.tool_calls and len(message.invalid_tool_calls) == 1


@row("A call cut by `max_tokens` is kept as invalid: `stream`")
def _(contender: Contender) -> bool:
    message: Any = _streamed(contender.make(max_tokens=12).bind_tools([get_weather], tool_choice="any"), ONE)
    return not message.tool_calls and len(message.invalid_tool_calls) == 1


@row("`with_structured_output`: `json_schema`")
def _(contender: Contender) -> bool:
    model = contender.make().with_structured_output(Person, method="json_schema")
    return isinstance(model.invoke(ABOUT_ANNA), Person)


@row("`with_structured_output`: `function_calling`")
def _(contender: Contender) -> bool:
    model = contender.make().with_structured_output(Person, method="function_calling")
    return isinstance(model.invoke(ABOUT_ANNA), Person)


@row("`with_structured_output`: `json_mode`")
def _(contender: Contender) -> bool:
    model = contender.make().with_structured_output(Person, method="json_mode")
    return isinstance(model.invoke(f"{ABOUT_ANNA} Answer in JSON."), Person)


@row("`with_structured_output`: `include_raw`")
def _(contender: Contender) -> bool:
    result: Any = contender.make().with_structured_output(Person, include_raw=True).invoke(ABOUT_ANNA)
    return isinstance(result["raw"], AIMessage) and isinstance(result["parsed"], Person)


@row("Partial objects on a stream")
def _(contender: Contender) -> bool:
    schema = Person.model_json_schema()
    parts = list(contender.make().with_structured_output(schema, method="json_schema").stream(ABOUT_ANNA))
    return len(parts) > 1 and parts[-1].keys() == {"name", "age"}


@row("The schema is kept whatever the model would say")
def _(contender: Contender) -> bool | None:
    if contender.is_remote:
        return None
    model = contender.make(max_tokens=400).with_structured_output(Person, method="json_schema")
    return isinstance(model.invoke(GREETING), Person)


@row("Tools and a final object together (`ProviderStrategy`)")
def _(contender: Contender) -> bool:
    agent: Any = create_agent(contender.make_talkative(), [get_weather], response_format=ProviderStrategy(Person))
    result = agent.invoke({"messages": [HumanMessage(ONE)]})
    return len(result["messages"]) > 3 and isinstance(result["structured_response"], Person)


@row("Usage: `invoke`")
def _(contender: Contender) -> bool:
    message: Any = contender.make().invoke(GREETING)
    return message.usage_metadata["input_tokens"] > 0


@row("Usage: `stream`")
def _(contender: Contender) -> bool:
    message: Any = _streamed(contender.make(), GREETING)
    return message.usage_metadata["input_tokens"] > 0


@row("Usage tells what came from a prefix cache")
def _(contender: Contender) -> bool:
    model = contender.make()
    model.invoke(GREETING)
    return model.invoke(GREETING).usage_metadata["input_token_details"]["cache_read"] > 0


@row("Async of its own: `ainvoke`, `astream`")
def _(contender: Contender) -> bool:
    model = contender.make()

    async def run() -> tuple[str, str]:
        streamed = [chunk.text async for chunk in model.astream(GREETING)]
        return (await model.ainvoke(GREETING)).text, "".join(streamed)

    whole, streamed = asyncio.run(run())
    kind = type(model)
    own = kind._agenerate is not BaseChatModel._agenerate and kind._astream is not BaseChatModel._astream
    return own and whole == streamed != ""


@row("A batch gives what single calls give")
def _(contender: Contender) -> bool:
    model, texts = contender.make(), [GREETING, ABOUT_ANNA, GREETING, ABOUT_ANNA]
    return [message.text for message in model.batch(texts)] == [model.invoke(text).text for text in texts]


@row("An answer is the answer alone, without the prompt")
def _(contender: Contender) -> bool:
    return "<|im_start|>" not in contender.make().invoke(GREETING).text


@row("`stop` is honored")
def _(contender: Contender) -> bool:
    plain = contender.make().invoke(GREETING).text
    stop = plain.split()[1]
    return contender.make().invoke(GREETING, stop=[stop]).text.strip() == plain.partition(stop)[0].strip()


@row("A prompt that is too long is a `ContextOverflowError`")
def _(contender: Contender) -> bool:
    try:
        contender.make(max_tokens=1).invoke("word " * (WINDOW_CHARACTERS // 4))
    except ContextOverflowError:
        return True
    return False


def _passes(run: Callable[[], Any]) -> bool:
    """Tell whether what a model raises comes out of whatever waits for text that does not parse."""
    try:
        run()
    except Exception as error:  # noqa: BLE001 - each class has its own
        return not isinstance(error, PARSE_FAILURES)
    return False


@row("A request that failed is not tried again by a retry on `ValueError`")
def _(contender: Contender) -> bool:
    asked: list[Any] = []
    model = RunnableLambda(asked.append) | (lambda _: GREETING) | contender.make_failing()
    retried = model.with_retry(
        retry_if_exception_type=PARSE_FAILURES, stop_after_attempt=3, wait_exponential_jitter=False
    )
    return _passes(lambda: retried.invoke(GREETING)) and len(asked) == 1


@row("... nor answered by a fallback for `ValueError`")
def _(contender: Contender) -> bool:
    model = contender.make_failing().with_structured_output(Person)
    fallback = RunnableLambda(lambda _: Person(name="nobody", age=0))
    chain = model.with_fallbacks([fallback], exceptions_to_handle=PARSE_FAILURES)
    return _passes(lambda: chain.invoke(ABOUT_ANNA))


@row("... nor by `ModelRetryMiddleware` for `ValueError`, which gives up with a message")
def _(contender: Contender) -> bool:
    retry = ModelRetryMiddleware(max_retries=1, retry_on=PARSE_FAILURES, on_failure="continue", initial_delay=0)
    agent: Any = create_agent(contender.make_failing(), middleware=[retry])
    return _passes(lambda: agent.invoke({"messages": [HumanMessage(GREETING)]}))


@row("... nor told to the model as a tool's result, by `ToolNode(handle_tool_errors=(ValueError,))`")
def _(contender: Contender) -> bool:
    model = contender.make_failing()

    @tool
    def ask_another(question: str) -> str:
        """Ask another model."""
        return model.invoke(question).text

    graph: Any = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([ask_another], handle_tool_errors=PARSE_FAILURES))
    graph.set_entry_point("tools")
    call = {"name": "ask_another", "args": {"question": GREETING}, "id": "call_1"}
    return _passes(lambda: graph.compile().invoke({"messages": [AIMessage("", tool_calls=[call])]}))


@row("Token counts include the tools")
def _(contender: Contender) -> bool:
    model, messages = contender.make(), [HumanMessage(ONE)]
    return model.get_num_tokens_from_messages(messages, tools=[get_weather]) > model.get_num_tokens_from_messages(
        messages
    )


@row("Log-probabilities")
def _(contender: Contender) -> bool:
    logprobs = contender.make(logprobs=True).invoke(GREETING).response_metadata["logprobs"]
    return len(logprobs["content"] if isinstance(logprobs, dict) else logprobs) > 0


@row("Profile: context window and tool calling")
def _(contender: Contender) -> bool:
    profile: Any = contender.make().profile or {}
    return profile.get("max_input_tokens", 0) > 0 and bool(profile.get("tool_calling"))


@row("LangChain's cache tells two models apart")
def _(contender: Contender) -> bool:
    cache = InMemoryCache()
    for name in contender.names:
        contender.make(model=name, cache=cache).invoke(GREETING)
    return len(cache._cache) == len(contender.names)


@row("`model_provider` is the tracer's `ls_provider`")
def _(contender: Contender) -> bool:
    model = contender.make()
    return model.invoke(GREETING).response_metadata["model_provider"] == model._get_ls_params()["ls_provider"]
