"""llama-index-core's structured predictions, structured LLMs and programs."""

import asyncio
import datetime as dt
from enum import Enum
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.program import FunctionCallingProgram, LLMTextCompletionProgram
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from tests.llama_index_contract.replies import Call, Reply
from tests.side_by_side.llama_index_kit import ADD, LLAMA_INDEX, Person, add
from tests.side_by_side.scenario import scenario, settled
from tests.side_by_side.script import calls, value


class Mood(Enum):
    """A mood."""

    GOOD = "good"
    BAD = "bad"


class Trip(BaseModel):
    """A trip."""

    to: Person
    on: dt.date
    mood: Mood
    stops: list[str]


PREDICT = {
    "structured_predict": lambda llm, of, prompt, **given: llm.structured_predict(of, prompt, **given),
    "astructured_predict": lambda llm, of, prompt, **given: asyncio.run(llm.astructured_predict(of, prompt, **given)),
    "stream": lambda llm, of, prompt, **given: list(llm.stream_structured_predict(of, prompt, **given))[-1],
    "astream": lambda llm, of, prompt, **given: asyncio.run(_last(llm.astream_structured_predict(of, prompt, **given))),
}


async def _last(stream: Any) -> Any:
    return [part async for part in await stream][-1]


ANNA = value(name="Anna", age=31)
ASKED = PromptTemplate("Tell of {who}.")


@scenario(LLAMA_INDEX, [ANNA], ways=PREDICT)
def structured_predict(make, predict):
    found = predict(make(), Person, ASKED, who="Anna")
    return found.model_dump()


@scenario(
    LLAMA_INDEX, [value(to={"name": "Anna", "age": 3}, on="2026-05-01", mood="bad", stops=["Oslo"])], ways=PREDICT
)
def structured_predict_of_a_nested_class(make, predict):
    return predict(make(), Trip, ASKED, who="a trip").model_dump()


@scenario(LLAMA_INDEX, [Reply('{"name": "An', ends_early=True)])
def structured_predict_is_cut(make):
    return settled(lambda: make().structured_predict(Person, ASKED, who="Anna"))


@scenario(LLAMA_INDEX, [ANNA] * 3)
async def structured_llm(make):
    llm = make().as_structured_llm(Person)
    assert isinstance(llm, StructuredLLM)
    asked = [ChatMessage("Anna?")]
    streamed = [response async for response in await llm.astream_chat(asked)]
    return [llm.chat(asked).raw, (await llm.achat(asked)).raw, streamed[-1].raw.model_dump()]


PROGRAM = {
    "call": lambda program, **given: program(**given),
    "acall": lambda program, **given: asyncio.run(program.acall(**given)),
    "stream_call": lambda program, **given: list(program.stream_call(**given))[-1],
    "astream_call": lambda program, **given: asyncio.run(_last(program.astream_call(**given))),
}


@scenario(LLAMA_INDEX, [ANNA], ways=PROGRAM)
def function_calling_program(make, run):
    program = FunctionCallingProgram.from_defaults(Person, prompt=ASKED, llm=make())
    return dict(run(program, who="Anna"))


@scenario(LLAMA_INDEX, [calls(Call("Person", {"name": "A", "age": 1}), Call("Person", {"name": "B", "age": 2}))])
def function_calling_program_of_several(make):
    program = FunctionCallingProgram.from_defaults(Person, prompt=ASKED, llm=make(), allow_parallel_tool_calls=True)
    return program(who="all")


@scenario(LLAMA_INDEX, ["I would rather not."])
def function_calling_program_without_a_call(make):
    program = FunctionCallingProgram.from_defaults(Person, prompt=ASKED, llm=make())
    return settled(lambda: program(who="Anna"))


@scenario(LLAMA_INDEX, ['Well:\n```json\n{"name": "Anna", "age": 31}\n```'])
def text_completion_program(make):
    prompt = ChatPromptTemplate([ChatMessage("Tell of {who}.", role="user")])
    return LLMTextCompletionProgram.from_defaults(output_cls=Person, prompt=prompt, llm=make())(who="Anna")


CALLING = {
    "predict_and_call": lambda llm, tools, **given: llm.predict_and_call(tools, **given),
    "apredict_and_call": lambda llm, tools, **given: asyncio.run(llm.apredict_and_call(tools, **given)),
}


@scenario(LLAMA_INDEX, [ADD], ways=CALLING)
def predict_and_call(make, run):
    response = run(make(), [FunctionTool.from_defaults(add)], user_msg="1 and 2?")
    return [str(response), [[source.tool_name, source.raw_input] for source in response.sources]]


@scenario(LLAMA_INDEX, ["No."])
def predict_and_call_without_a_call(make):
    tools = [FunctionTool.from_defaults(add)]
    return str(make().predict_and_call(tools, user_msg="1 and 2?", error_on_no_tool_call=False))
