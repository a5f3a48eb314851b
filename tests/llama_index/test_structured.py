"""Pydantic objects by native JSON mode."""

from __future__ import annotations

import asyncio
import json
from datetime import date

import pytest
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import ChatMessage
from llama_index.core.program import FunctionCallingProgram, LLMTextCompletionProgram
from llama_index.core.program.function_program import get_function_tool
from llama_index.core.prompts import PromptTemplate
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel, RootModel

from hermes_runtime.errors import HermesError, SchemaError
from llama_index_hermes import StructuredOutputError
from tests.llama_index.models import Box, Folder

PROMPT = PromptTemplate("Tell me of {place}.")


class Boat(BaseModel):
    """A boat."""

    name: str
    built: date
    crew: list[str]


class Port(BaseModel):
    """A port and its boats."""

    name: str
    boats: list[Boat]


PORT = Port(name='Le "Vieux" Port', boats=[Boat(name="Ava", built="1931-04-01", crew=["Jo", "Zoë"])])
REPLY = json.dumps(json.loads(PORT.model_dump_json()), ensure_ascii=False)


async def _astream(llm, output_cls, **options):
    stream = await llm.astream_structured_predict(output_cls, PROMPT, options, place="Brest")
    return [item async for item in stream]


PREDICT = {
    "sync": lambda llm, cls, **options: llm.structured_predict(cls, PROMPT, options, place="Brest"),
    "async": lambda llm, cls, **options: asyncio.run(llm.astructured_predict(cls, PROMPT, options, place="Brest")),
    "stream": lambda llm, cls, **options: list(llm.stream_structured_predict(cls, PROMPT, options, place="Brest"))[-1],
    "astream": lambda llm, cls, **options: asyncio.run(_astream(llm, cls, **options))[-1],
}
every_way = pytest.mark.parametrize("predict", PREDICT.values(), ids=PREDICT)


class Recorder(BaseEventHandler):
    names: list[str]

    def handle(self, event, **_):
        self.names.append(type(event).__name__)


@pytest.fixture
def events():
    root, recorder = get_dispatcher(), Recorder(names=[])
    root.add_event_handler(recorder)
    yield recorder.names
    root.event_handlers.remove(recorder)


@every_way
def test_answer_becomes_the_object(predict, scripted):
    llm, engine = scripted([REPLY])
    assert predict(llm, Port) == PORT
    assert json.dumps(Port.model_json_schema(), ensure_ascii=False) in engine.prompts[0]
    assert "Tell me of Brest." in engine.prompts[0]
    assert engine.requests[0].constraint is not None


@every_way
def test_system_prompt_is_honored(predict, scripted):
    llm, engine = scripted([REPLY], system_prompt="You know ports.")
    predict(llm, Port)
    assert "You know ports." in engine.prompts[0]


@every_way
def test_options_of_the_call_are_kept_and_its_dict_is_not_changed(predict, scripted):
    llm, engine = scripted([REPLY])
    predict(llm, Port, max_tokens=300, tool_choice=None, tool_required=False, allow_parallel_tool_calls=False)
    assert engine.requests[0].options.max_tokens == 300
    options = {"seed": 1}
    llm, _ = scripted([REPLY])
    llm.structured_predict(Port, PROMPT, options, place="Brest")
    assert options == {"seed": 1}


@every_way
@pytest.mark.parametrize(
    ("output_cls", "reply"),
    [
        (Folder, '{"name": "a", "folders": [{"name": "b", "folders": []}]}'),
        (Box[int], '{"item": 3}'),
        (RootModel[list[int]], "[1, 2]"),
    ],
)
def test_recursive_generic_and_root_models(predict, output_cls, reply, scripted):
    llm, _ = scripted([reply])
    assert predict(llm, output_cls) == output_cls.model_validate_json(reply)


@every_way
def test_answer_that_was_cut_off_says_so(predict, scripted):
    llm, _ = scripted([REPLY])
    with pytest.raises(StructuredOutputError, match=r"cut off after 5 tokens.*Port.*max_tokens") as caught:
        predict(llm, Port, max_tokens=5)
    assert isinstance(caught.value, HermesError)
    assert isinstance(caught.value, ValueError)


@every_way
@pytest.mark.parametrize("reply", ['{"name": 3}', "I cannot.", ""])
def test_answer_that_is_no_such_object_is_an_error(predict, reply, scripted):
    llm, _ = scripted([reply], constrained=False)
    with pytest.raises(StructuredOutputError, match="no Port"):
        predict(llm, Port)


@every_way
@pytest.mark.parametrize("around", ["```json\n{}\n```", "Here it is:\n{}\nAnything else?"])
def test_unconstrained_answer_is_found_between_prose(predict, around, scripted):
    llm, _ = scripted([around.replace("{}", REPLY)], constrained=False)
    assert predict(llm, Port) == PORT


@every_way
def test_unconstrained_answer_may_be_a_python_literal(predict, scripted):
    llm, _ = scripted([repr(json.loads(REPLY))], constrained=False)
    assert predict(llm, Port) == PORT


def test_partial_objects_grow_lists_included(scripted):
    llm, _ = scripted([REPLY])
    *partials, last = llm.stream_structured_predict(Port, PROMPT, place="Brest")
    assert last == PORT
    sizes = [len(str(partial.model_dump(exclude_none=True))) for partial in partials]
    assert sizes == sorted(sizes)
    assert any(partial.boats and partial.boats[0].get("crew") == ["Jo"] for partial in partials)
    assert len({partial.model_dump_json() for partial in partials}) == len(partials)


def test_async_stream_gives_the_same_objects(scripted):
    llm, _ = scripted(lambda _: REPLY)
    streamed = [item.model_dump() for item in llm.stream_structured_predict(Port, PROMPT, {}, place="Brest")]
    assert [item.model_dump() for item in asyncio.run(_astream(llm, Port))] == streamed


@every_way
def test_one_pair_of_structured_events_and_one_of_chat_events(predict, scripted, events):
    llm, _ = scripted([REPLY])
    predict(llm, Port)
    counted = {name: events.count(name) for name in set(events) if not name.endswith("InProgressEvent")}
    assert counted == {
        "LLMStructuredPredictStartEvent": 1,
        "LLMStructuredPredictEndEvent": 1,
        "LLMChatStartEvent": 1,
        "LLMChatEndEvent": 1,
    }


def test_closing_a_stream_of_objects_stops_the_engine(scripted):
    llm, engine = scripted([REPLY], engine={"pause_after": 12})
    stream = llm.stream_structured_predict(Port, PROMPT, place="Brest")
    next(stream)
    stream.close()
    engine.runs[0].wait_ended()
    assert engine.runs[0].finish_reason == "cancelled"


def test_a_structured_llm_gives_what_was_written(scripted):
    llm, _ = scripted(lambda _: REPLY)
    structured = llm.as_structured_llm(Port)
    message = [ChatMessage("Tell me of Brest.")]
    assert structured.chat(message).raw == PORT
    assert asyncio.run(structured.achat(message)).raw == PORT
    assert list(structured.stream_chat(message))[-1].raw == PORT
    assert structured.complete("Tell me of Brest.").raw == PORT


@pytest.mark.parametrize(
    "response_format",
    [
        Port,
        Port.model_json_schema(),
        {"type": "json_schema", "json_schema": {"name": "port", "schema": Port.model_json_schema()}},
    ],
)
def test_chat_takes_every_form_of_response_format(response_format, scripted):
    llm, engine = scripted([REPLY, REPLY])
    llm.chat([ChatMessage("Tell me of Brest.")], response_format=response_format)
    llm.structured_predict(Port, PROMPT, place="Brest")
    assert engine.requests[0] == engine.requests[1]


def test_json_object_and_text_formats(scripted):
    llm, engine = scripted(["{}", "x", "x"])
    llm.chat([ChatMessage("Hi")], response_format={"type": "json_object"})
    llm.chat([ChatMessage("Hi")], response_format={"type": "text"})
    llm.chat([ChatMessage("Hi")])
    assert "answers in JSON" in engine.prompts[0]
    assert engine.requests[0].constraint is not None
    assert engine.requests[1] == engine.requests[2]


@pytest.mark.parametrize("response_format", ["json", {"type": "json_schema"}, {"type": "objekt"}, 3])
def test_response_format_that_is_none_is_refused(response_format, scripted):
    llm, _ = scripted([])
    with pytest.raises(SchemaError):
        llm.chat([ChatMessage("Hi")], response_format=response_format)


# The other ways of LlamaIndex to an object


CALL = json.dumps({"arguments": json.loads(REPLY), "name": "Port"}, ensure_ascii=False)
CALLED = f"<tool_call>\n{CALL}\n</tool_call>"


@every_way
def test_function_mode_forces_a_tool_call(predict, scripted):
    llm, engine = scripted([CALLED], pydantic_program_mode="function", system_prompt="You know ports.")
    assert predict(llm, Port, tool_choice="none") == PORT
    assert "<tools>" in engine.prompts[0]
    assert "You know ports." in engine.prompts[0]
    free, free_engine = scripted(["x"])
    free.chat_with_tools([get_function_tool(Port)], user_msg="Tell me of Brest.", tool_required=True)
    assert engine.requests[0].constraint == free_engine.requests[0].constraint


@pytest.mark.parametrize("first", ["name", "arguments"])
def test_function_mode_streams_objects_that_grow(first, scripted):
    call = {"name": "Port", "arguments": json.loads(REPLY)}
    written = json.dumps(call if first == "name" else dict(reversed(call.items())))
    llm, _ = scripted([f"<tool_call>\n{written}\n</tool_call>"], pydantic_program_mode="function")
    *partials, last = llm.stream_structured_predict(Port, PROMPT, place="Brest")
    assert last == PORT
    sizes = [len(str(partial.model_dump(exclude_none=True))) for partial in partials]
    assert sizes == sorted(sizes)
    assert any(partial.boats and partial.boats[0].get("crew") == ["Jo"] for partial in partials)


@every_way
def test_function_mode_tells_of_a_call_that_was_cut(predict, scripted):
    llm, _ = scripted([CALLED], pydantic_program_mode="function")
    with pytest.raises(StructuredOutputError, match="cut off after 20 tokens"):
        predict(llm, Port, max_tokens=20)


def test_a_function_calling_program_gives_what_was_written_under_a_grammar(scripted):
    llm, engine = scripted(lambda _: CALLED)
    program = FunctionCallingProgram.from_defaults(Port, prompt=PROMPT, llm=llm)
    assert program(place="Brest") == PORT
    assert asyncio.run(program.acall(place="Brest")) == PORT
    assert engine.requests[0].constraint is not None


def test_text_mode_goes_through_an_output_parser(scripted):
    llm, engine = scripted(lambda _: f"Here it is: {REPLY}", pydantic_program_mode=PydanticProgramMode.LLM)
    assert llm.structured_predict(Port, PROMPT, place="Brest") == PORT
    program = LLMTextCompletionProgram.from_defaults(
        output_cls=Port, prompt_template_str="Tell me of {place}.", llm=llm
    )
    assert program(place="Brest") == PORT
    assert not any("<schema>" in prompt for prompt in engine.prompts)
