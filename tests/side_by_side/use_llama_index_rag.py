"""llama-index-core's answers from documents: synthesizers in all modes, query engines and chat engines."""

from __future__ import annotations

import asyncio
from typing import Any

from llama_index.core import (
    Document,
    SummaryIndex,
    VectorStoreIndex,
    get_response_synthesizer,
)
from llama_index.core.response_synthesizers import ResponseMode
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.tools import ToolMetadata
from pydantic import BaseModel

from tests.side_by_side.scenario import scenario, scenario_by_failure, settled
from tests.side_by_side.script import value

LLAMA_INDEX = "llama_index"
TEXTS = ("Oslo is the capital of Norway.", "Bergen is a town in the rain.")
DOCUMENTS = [Document(text=text, id_=f"doc{number}") for number, text in enumerate(TEXTS)]
NODES = [NodeWithScore(node=TextNode(text=text, id_=f"node{n}"), score=1.0) for n, text in enumerate(TEXTS)]
TOOLS = [ToolMetadata(name="oslo", description="About Oslo."), ToolMetadata(name="bergen", description="About Bergen.")]
CHOICE = '[{"choice": 2, "reason": "It rains."}]'
QUESTIONS = '```json\n{"items": [{"sub_question": "Where is Oslo?", "tool_name": "oslo"}]}\n```'


class Capital(BaseModel):
    """A capital."""

    city: str
    country: str


async def _read(stream: Any) -> str:
    return "".join([str(part) async for part in stream])


def _streamed(response: Any) -> Any:
    return "".join(response.response_gen)


async def _astreamed(engine: Any, asked: str) -> str:
    return await _read((await engine.aquery(asked)).response_gen)


QUERY = {
    "query": lambda engine, asked: engine(streaming=False).query(asked).response,
    "aquery": lambda engine, asked: asyncio.run(engine(streaming=False).aquery(asked)).response,
    "streaming": lambda engine, asked: _streamed(engine(streaming=True).query(asked)),
    "streaming aquery": lambda engine, asked: asyncio.run(_astreamed(engine(streaming=True), asked)),
}
SYNTHESIZED = {
    f"{mode.value}, {label}": (mode, run)
    for mode in ResponseMode
    for label, run in QUERY.items()
    if not (mode.value in ("accumulate", "compact_accumulate", "no_text", "context_only") and "stream" in label)
}


def _answer(said):
    return "Oslo, refined." if "existing answer" in said.lower() else "Oslo."


@scenario(LLAMA_INDEX, _answer, ways=SYNTHESIZED)
def summary_index_answers(make, way):
    mode, run = way
    index = SummaryIndex.from_documents(DOCUMENTS)
    return run(lambda **options: index.as_query_engine(llm=make(), response_mode=mode, **options), "Capital?")


@scenario(LLAMA_INDEX, ["Oslo."], ways=QUERY)
def vector_index_answers(make, run):
    index = VectorStoreIndex.from_documents(DOCUMENTS)
    return run(lambda **options: index.as_query_engine(llm=make(), **options), "Capital?")


MODES = ("compact", "refine", "tree_summarize", "simple_summarize")


@scenario(LLAMA_INDEX, lambda said: value(city="Oslo", country="Norway"), ways={mode: mode for mode in MODES})
def synthesizer_answers_with_an_object(make, mode):
    made = get_response_synthesizer(llm=make(), response_mode=mode, output_cls=Capital)
    return made.synthesize("Capital?", NODES).response


@scenario(LLAMA_INDEX, lambda said: value(answer="Oslo.", query_satisfied="Oslo is" in said))
def synthesizer_filters_what_does_not_answer(make):
    made = get_response_synthesizer(llm=make(), response_mode="refine", structured_answer_filtering=True)
    return made.synthesize("Capital?", NODES).response


@scenario_by_failure(LLAMA_INDEX, ["Oslo."])
def query_engine_fails(make):
    index = VectorStoreIndex.from_documents(DOCUMENTS)
    return settled(lambda: index.as_query_engine(llm=make()).query("Capital?").response)


CHAT = {
    "chat": lambda engine, asked: engine.chat(asked).response,
    "achat": lambda engine, asked: asyncio.run(engine.achat(asked)).response,
    "stream_chat": lambda engine, asked: _streamed(engine.stream_chat(asked)),
    "astream_chat": lambda engine, asked: asyncio.run(_astream_chat(engine, asked)),
}


async def _astream_chat(engine: Any, asked: str) -> str:
    return await _read((await engine.astream_chat(asked)).async_response_gen())


CHAT_MODES = ("simple", "context", "condense_question", "condense_plus_context")
CHATS = {f"{mode}, {label}": (mode, run) for mode in CHAT_MODES for label, run in CHAT.items()}


def _chat_engine(make, mode):
    index = VectorStoreIndex.from_documents(DOCUMENTS)
    return index.as_chat_engine(chat_mode=mode, llm=make())


def _chatted(said):
    if "standalone question" in said.lower():
        return "What is the capital of Norway?"
    return "Still Oslo." if "And now" in said else "Oslo."


@scenario(LLAMA_INDEX, _chatted, ways=CHATS)
def chat_engine_answers_twice(make, way):
    mode, run = way
    engine = _chat_engine(make, mode)
    return [run(engine, "Capital?"), run(engine, "And now?"), engine.chat_history]


for _mode in CHAT_MODES:

    def chat_engine_fails(make, mode=_mode):
        engine = _chat_engine(make, mode)
        return settled(lambda: engine.chat("Capital?").response)

    chat_engine_fails.__name__ = f"chat_engine_fails ({_mode})"
    scenario_by_failure(LLAMA_INDEX, ["Oslo."])(chat_engine_fails)
