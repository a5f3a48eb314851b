"""What LangChain builds around a chat model: chains, parsers, retries, caches, callbacks, histories."""

from __future__ import annotations

import asyncio
from operator import itemgetter

from langchain.chat_models import init_chat_model
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, get_usage_metadata_callback
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.exceptions import ContextOverflowError
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage, filter_messages, trim_messages
from langchain_core.output_parsers import (
    CommaSeparatedListOutputParser,
    JsonOutputParser,
    PydanticOutputParser,
    StrOutputParser,
    XMLOutputParser,
)
from langchain_core.output_parsers.openai_tools import (
    JsonOutputKeyToolsParser,
    JsonOutputToolsParser,
    PydanticToolsParser,
)
from langchain_core.prompts import ChatPromptTemplate, FewShotChatMessagePromptTemplate, MessagesPlaceholder
from langchain_core.runnables import ConfigurableField, RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.tracers.context import collect_runs

from tests.llama_index_contract.replies import Call, Reply
from tests.side_by_side.kit import ADD, ADD_TWICE, BROKEN_CALL, CUT, City, Person, add
from tests.side_by_side.scenario import scenario, scenario_by_failure, settled
from tests.side_by_side.script import BROKEN, calls, value
from tests.side_by_side.ways import GROWING, RUNNABLE

LANGCHAIN = "langchain"
ANNA = value(name="Anna", age=31)
PROMPT = ChatPromptTemplate(
    [("system", "Be {mood}."), MessagesPlaceholder("past", optional=True), ("human", "{asked}")]
)
GIVEN = {"mood": "kind", "asked": "Who is Anna?"}


@scenario(LANGCHAIN, ["She is  a friend.\nOf mine.\n"], ways=RUNNABLE)
def chain_to_text(make, run):
    return run(PROMPT | make() | StrOutputParser(), GIVEN)


@scenario(LANGCHAIN, ["  Two blanks first."], ways=RUNNABLE)
def answer_that_begins_with_blanks(make, run):
    return run(make(), "Indent.")


@scenario(LANGCHAIN, ["Write <tool_call>, then JSON, then </tool_call>. That is all."], ways=RUNNABLE)
def answer_about_the_format(make, run):
    return run(make(), "How does Hermes call tools?")


@scenario(LANGCHAIN, [Reply("Half of an ans", ends_early=True)], ways=RUNNABLE)
def answer_cut_by_the_limit(make, run):
    message = run(make(), "Talk.")
    return [message, message.response_metadata["finish_reason"]]


@scenario(LANGCHAIN, ["One\nObservation: two"], ways=RUNNABLE)
def answer_up_to_a_stop(make, run):
    return run(make().bind(stop=["\nObservation:"]), "Think.")


@scenario(LANGCHAIN, [ADD_TWICE], ways=RUNNABLE)
def calls_of_a_bound_model(make, run):
    return run(make().bind_tools([add]), "1 and 2, 3 and 4?")


@scenario(LANGCHAIN, [BROKEN_CALL], ways=RUNNABLE)
def call_that_cannot_be_read(make, run):
    return run(make.free().bind_tools([add]), "1 and 2?")


@scenario(LANGCHAIN, [CUT], ways=RUNNABLE)
def call_that_was_cut(make, run):
    message = run(make().bind_tools([add]), "1 and 2?")
    return [message, message.response_metadata["finish_reason"]]


@scenario(LANGCHAIN, ['```json\n{"name": "Anna", "age": 31}\n```'], ways=GROWING)
def json_parser(make, run):
    return run(make() | JsonOutputParser(), "Anna, in JSON?")


@scenario(LANGCHAIN, ['{"name": "Anna", "age": 31}'], ways=GROWING)
def pydantic_parser(make, run):
    return run(make() | PydanticOutputParser(pydantic_object=Person), "Anna, in JSON?")


@scenario(LANGCHAIN, ["Anna is 31."], raises="unreadable answer")
def pydantic_parser_reads_prose(make):
    return (make() | PydanticOutputParser(pydantic_object=Person)).invoke("Anna?")


@scenario(LANGCHAIN, ["red, green, blue"], ways=RUNNABLE)
def list_parser(make, run):
    return run(make() | CommaSeparatedListOutputParser(), "Colors?")


@scenario(LANGCHAIN, ["<person><name>Anna</name></person>"])
def xml_parser(make):
    return (make() | XMLOutputParser(parser="xml")).invoke("Anna, in XML?")


PARSERS = {
    "JSON": JsonOutputToolsParser,
    "JSON of one tool": lambda: JsonOutputKeyToolsParser(key_name="Person", first_tool_only=True),
    "pydantic": lambda: PydanticToolsParser(tools=[Person, City]),
}


@scenario(
    LANGCHAIN, [calls(Call("Person", {"name": "Anna", "age": 31}), Call("City", {"city": "Oslo"}))] * 2, ways=PARSERS
)
def tools_parser(make, parser):
    chain = make().bind_tools([Person, City]) | parser()
    return [chain.invoke("Who is where?"), list(chain.stream("Who is where?"))[-1]]


@scenario(LANGCHAIN, [BROKEN, "The second try."], ways={name: RUNNABLE[name] for name in ("invoke", "ainvoke")})
def with_retry(make, run):
    return run(make().with_retry(stop_after_attempt=2, wait_exponential_jitter=False), "Hello")


@scenario_by_failure(LANGCHAIN, ["The second try.", "The third try."])
def retry_of_value_errors(make):
    """Whoever retries what cannot be parsed does not retry what the model's backend refused."""
    retried = make().with_retry(retry_if_exception_type=(ValueError,), wait_exponential_jitter=False)
    return settled(lambda: retried.invoke("Hello"))


@scenario_by_failure(LANGCHAIN, [])
def with_fallbacks(make):
    behind = FakeListChatModel(responses=["The other model."])
    return [make().with_fallbacks([behind]).invoke("Hello").text]


@scenario_by_failure(LANGCHAIN, [])
def with_fallbacks_for_what_is_too_long(make):
    behind = FakeListChatModel(responses=["The larger model."])
    model = make().with_fallbacks([behind], exceptions_to_handle=(ContextOverflowError,))
    return settled(lambda: model.invoke("Hello").text)


@scenario_by_failure(LANGCHAIN, ["Fine."])
def batch_that_returns_its_errors(make):
    return make().batch(["one", "two"], {"max_concurrency": 1}, return_exceptions=True)


@scenario(LANGCHAIN, lambda said: "Yes." if "even" in said else "No.")
def batch_side_by_side(make):
    questions = ["even", "odd"] * 10
    return [make().batch(questions), asyncio.run(make().abatch(questions))]


@scenario(LANGCHAIN, ["Hello.", "Another question.", "Streams are not cached."])
def cache(make):
    model = make(cache=InMemoryCache())
    return [model.invoke("Hi"), model.invoke("Hi"), model.invoke("Hi!"), RUNNABLE["stream"](model, "Hi")]


@scenario(LANGCHAIN, [ADD, "Fine."])
def cache_knows_tools_from_none(make):
    model = make(cache=InMemoryCache())
    return [model.bind_tools([add]).invoke("Hi"), model.invoke("Hi"), model.bind_tools([add]).invoke("Hi")]


@scenario(LANGCHAIN, ["Hello."] * 2, ways=RUNNABLE)
def callbacks_are_told(make, run):
    class Heard(BaseCallbackHandler):
        def __init__(self):
            self.told = []

        def on_chat_model_start(self, serialized, messages, **_):
            self.told.append(messages)

        def on_llm_end(self, response, **_):
            told = response.llm_output or {}
            self.told.append([response.generations[0][0].message, {"token_usage", "model_name"} <= told.keys()])

    heard = Heard()
    run(make(), "Hi", config={"callbacks": [heard]})
    return heard.told


@scenario(LANGCHAIN, ["Hello."])
def token_usage_of_a_result(make):
    result = make().generate([[HumanMessage("Hi")]])
    told = {"prompt_tokens", "completion_tokens", "total_tokens"} & result.llm_output["token_usage"].keys()
    return [told, "model_name" in result.llm_output]


@scenario(LANGCHAIN, ["Hello."] * 2)
def usage_is_counted(make):
    with get_usage_metadata_callback() as usage:
        make().invoke("Hi")
        list(make().stream("Hi"))
    (counted,) = usage.usage_metadata.values()
    return [counted["input_tokens"] > 0, counted["output_tokens"] > 0]


@scenario(LANGCHAIN, ["Hello."])
def runs_are_collected(make):
    with collect_runs() as runs:
        (PROMPT | make()).invoke(GIVEN)
    return [run.run_type for run in runs.traced_runs[0].child_runs]


@scenario(LANGCHAIN, ["Hello, Anna.", "Anna."], ways=RUNNABLE)
def message_history(make, run):
    kept = InMemoryChatMessageHistory()
    chain = RunnableWithMessageHistory(
        PROMPT | make(), lambda session_id: kept, input_messages_key="asked", history_messages_key="past"
    )
    config = {"configurable": {"session_id": "1"}}
    run(chain, {"mood": "kind", "asked": "I am Anna."}, config=config)
    return [run(chain, {"mood": "kind", "asked": "Who am I?"}, config=config), kept.messages]


@scenario(LANGCHAIN, ["Fine."])
def history_is_trimmed(make):
    model = make()
    past = [SystemMessage("Be kind."), *[HumanMessage("word " * 50), AIMessage("yes " * 50)] * 4, HumanMessage("Now?")]
    trim = trim_messages(max_tokens=150, token_counter=model, include_system=True, start_on="human")
    return [trim.invoke(past)[0], trim.invoke(past)[-1], (trim | model).invoke(past)]


@scenario(LANGCHAIN, ["Fine."])
def history_with_an_image_is_trimmed_and_filtered(make):
    model = make()
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    past = [HumanMessage([{"type": "text", "text": "Look."}, image], id="1"), AIMessage("Seen."), HumanMessage("And?")]
    shown = filter_messages(past, exclude_ids=["1"])
    return model.invoke(trim_messages(shown, max_tokens=5000, token_counter=model, start_on="human"))


@scenario(LANGCHAIN, ["Fine."])
def few_shots_with_a_call(make):
    shots = [
        HumanMessage("1 and 1?", name="example_user"),
        AIMessage("", name="example_assistant", tool_calls=[{"name": "add", "args": {"a": 1, "b": 1}, "id": "1"}]),
        ToolMessage("2", tool_call_id="1"),
        AIMessage("2", name="example_assistant"),
    ]
    return make().bind_tools([add]).invoke([*shots, HumanMessage("2 and 2?")])


@scenario(LANGCHAIN, ["Fine."])
def few_shot_prompt(make):
    shots = FewShotChatMessagePromptTemplate(
        examples=[{"asked": "2+2", "said": "4"}],
        example_prompt=ChatPromptTemplate([("human", "{asked}"), ("ai", "{said}")]),
    )
    answer = (ChatPromptTemplate([shots, ("human", "{asked}")]) | make()).invoke({"asked": "3+3"})
    return [answer, "2+2" in make.heard]


@scenario(LANGCHAIN, lambda said: "A joke." if "joke" in said else "A poem.", ways=RUNNABLE)
def parallel_chains(make, run):
    def about(kind):
        return ChatPromptTemplate.from_template(f"Write a {kind} about {{topic}}.") | make() | StrOutputParser()

    return run(RunnableParallel(joke=about("joke"), poem=about("poem")), {"topic": "rain"})


@scenario(LANGCHAIN, ["It is in Oslo."], ways=RUNNABLE)
def retrieval_chain(make, run):
    find = RunnableLambda(lambda asked: f"{asked}: Oslo")
    chain = {"found": itemgetter("asked") | find, "asked": itemgetter("asked")} | RunnablePassthrough()
    prompt = ChatPromptTemplate.from_template("{found}\nAnswer: {asked}")
    return run(chain | prompt | make() | StrOutputParser(), {"asked": "Where?"})


@scenario(LANGCHAIN, ["Cold.", "Warm."])
def configurable_fields_and_alternatives(make):
    field = ConfigurableField(id="warmth")
    model = make(temperature=0).configurable_fields(temperature=field)
    either = make().configurable_alternatives(
        ConfigurableField(id="which"), other=FakeListChatModel(responses=["Other."])
    )
    return [
        model.with_config(configurable={"warmth": 0.9}).invoke("Hi"),
        either.invoke("Hi"),
        either.with_config(configurable={"which": "other"}).invoke("Hi").text,
    ]


@scenario(LANGCHAIN, ["Hello."] * 2)
def model_as_a_tool_and_in_events(make):
    told = (PROMPT | make() | StrOutputParser()).as_tool(
        name="tell", description="Tell.", arg_types={"mood": str, "asked": str}
    )

    async def events():
        return [event["event"] async for event in make().astream_events("Hi", version="v2")]

    heard = asyncio.run(events())
    return [told.invoke(GIVEN), heard[0], heard[-1], "on_chat_model_stream" in heard]


@scenario(LANGCHAIN, ["Hello.", ADD, "Warm."])
def model_by_its_providers_name(make):
    name, options = f"{make.provider}:{make.model}", make.defaults()
    free = init_chat_model(name, configurable_fields=("temperature",), **options)
    return [
        init_chat_model(name, temperature=0.5, **options).invoke("Hi"),
        free.bind_tools([add]).invoke("1 and 2?"),
        free.invoke("Hi", config={"configurable": {"temperature": 0.9}}),
    ]
