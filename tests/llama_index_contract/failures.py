"""Rules of what becomes of a failing model: wherever LlamaIndex calls one, an error is never an answer.

At many of these places LlamaIndex takes a ValueError, TypeError or ValidationError for text that did not parse, and
goes on without a word. Not tried are the few that go on after an error of any type: `DocumentContextExtractor`,
`DynamicLLMPathExtractor`, and the answers to the single questions of a `SubQuestionQueryEngine`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from llama_index.core import (
    DocumentSummaryIndex,
    KeywordTableIndex,
    KnowledgeGraphIndex,
    MockEmbedding,
    SummaryIndex,
    TreeIndex,
)
from llama_index.core.agent.workflow import AgentWorkflow, CodeActAgent, FunctionAgent, ReActAgent
from llama_index.core.base.base_selector import MultiSelection, SingleSelection
from llama_index.core.chat_engine.types import ChatMode
from llama_index.core.evaluation import (
    AnswerRelevancyEvaluator,
    ContextRelevancyEvaluator,
    CorrectnessEvaluator,
    FaithfulnessEvaluator,
    GuidelineEvaluator,
    PairwiseComparisonEvaluator,
    RelevancyEvaluator,
)
from llama_index.core.extractors import (
    KeywordExtractor,
    PydanticProgramExtractor,
    QuestionsAnsweredExtractor,
    SummaryExtractor,
    TitleExtractor,
)
from llama_index.core.indices.property_graph import (
    SchemaLLMPathExtractor,
    SimpleLLMPathExtractor,
)
from llama_index.core.indices.query.query_transform import HyDEQueryTransform, StepDecomposeQueryTransform
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatSummaryMemoryBuffer, FactExtractionMemoryBlock
from llama_index.core.postprocessor import LLMRerank, StructuredLLMRerank
from llama_index.core.postprocessor.rankGPT_rerank import RankGPTRerank
from llama_index.core.program import FunctionCallingProgram, LLMTextCompletionProgram
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import RetrieverQueryEngine, RouterQueryEngine
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.retrievers import QueryFusionRetriever, RouterRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.core.selectors import (
    LLMMultiSelector,
    LLMSingleSelector,
    PydanticMultiSelector,
    PydanticSingleSelector,
)
from llama_index.core.tools import QueryEngineTool, RetrieverTool, ToolMetadata
from pydantic import BaseModel

from tests.llama_index_contract.base import Subject
from tests.llama_index_contract.harness import TOOLS

Place = Callable[[Any], Any]
QUESTION = "What is in Quimper?"


class Town(BaseModel):
    """A town."""

    name: str


def _nodes() -> list[TextNode]:
    return [TextNode(text=f"Quimper is a town in Brittany with {count} bridges.") for count in (17, 18)]


def _found() -> list[NodeWithScore]:
    return [NodeWithScore(node=node, score=1.0) for node in _nodes()]


def _index() -> SummaryIndex:
    return SummaryIndex(nodes=_nodes())


def _read(answer: Any) -> list[str]:
    return list(answer.response_gen)


async def _aread(answer: Any) -> list[str]:
    chunks = answer.async_response_gen()
    return [chunk async for chunk in (await chunks if asyncio.iscoroutine(chunks) else chunks)]


# Each of the following asks the LLM in one way.


def _synthesize(mode: ResponseMode, llm: Any, **options: Any) -> str:
    return str(get_response_synthesizer(llm=llm, response_mode=mode, **options).synthesize(QUESTION, _found()))


def _asynthesize(mode: ResponseMode, llm: Any, **options: Any) -> str:
    synthesizer = get_response_synthesizer(llm=llm, response_mode=mode, use_async=True, **options)
    return str(asyncio.run(synthesizer.asynthesize(QUESTION, _found())))


def _stream(mode: ResponseMode, llm: Any) -> list[str]:
    synthesizer = get_response_synthesizer(llm=llm, response_mode=mode, streaming=True)
    return _read(synthesizer.synthesize(QUESTION, _found()))


def _chat(mode: ChatMode, way: str, llm: Any) -> Any:
    engine = _index().as_chat_engine(chat_mode=mode, llm=llm, chat_history=[ChatMessage("Hello")])
    if way == "stream_chat":
        return _read(engine.stream_chat(QUESTION))
    if way == "chat":
        return engine.chat(QUESTION)

    async def ask() -> Any:
        answer = await getattr(engine, way)(QUESTION)
        return await _aread(answer) if way == "astream_chat" else answer

    return asyncio.run(ask())


def _run(make: Callable[..., Any], llm: Any, *, streaming: bool = True) -> Any:
    async def main() -> Any:
        return await make(name="agent", description="One", llm=llm, tools=list(TOOLS), streaming=streaming).run(
            user_msg=QUESTION
        )

    return asyncio.run(main())


def _run_workflow(llm: Any) -> Any:
    async def main() -> Any:
        agent = FunctionAgent(name="agent", description="One", llm=llm, tools=list(TOOLS))
        return await AgentWorkflow(agents=[agent]).run(user_msg=QUESTION)

    return asyncio.run(main())


def _run_code(llm: Any) -> Any:
    async def main() -> Any:
        return await CodeActAgent(code_execute_fn=lambda code: code, llm=llm, tools=list(TOOLS)).run(user_msg=QUESTION)

    return asyncio.run(main())


def _engine_tools(llm: Any) -> list[QueryEngineTool]:
    return [
        QueryEngineTool.from_defaults(_index().as_query_engine(llm=llm), name=name, description=name)
        for name in ("towns", "bridges")
    ]


def _retriever_tools() -> list[RetrieverTool]:
    return [
        RetrieverTool.from_defaults(_index().as_retriever(), name=name, description=name) for name in ("towns", "ships")
    ]


CHOICES = [ToolMetadata(name=name, description=name) for name in ("towns", "ships")]
GRAPHS = {
    "simple paths": lambda llm: SimpleLLMPathExtractor(llm=llm, num_workers=1)(_nodes()),
    "schema paths": lambda llm: SchemaLLMPathExtractor(llm=llm, num_workers=1)(_nodes()),
    "knowledge graph": lambda llm: KnowledgeGraphIndex(nodes=_nodes(), llm=llm),
}
MODES = [mode for mode in ResponseMode if mode not in (ResponseMode.NO_TEXT, ResponseMode.CONTEXT_ONLY)]
SYNTHESIZERS: dict[str, Place] = {
    **{f"{mode.value}": partial(_synthesize, mode) for mode in MODES},
    **{f"{mode.value}, async": partial(_asynthesize, mode) for mode in MODES},
    **{
        f"{mode.value}, structured": partial(_synthesize, mode, output_cls=Town)
        for mode in (ResponseMode.REFINE, ResponseMode.COMPACT, ResponseMode.TREE_SUMMARIZE)
    },
    "refine, filtering": partial(_synthesize, ResponseMode.REFINE, structured_answer_filtering=True),
    "query engine": lambda llm: str(_index().as_query_engine(llm=llm).query(QUESTION)),
    "query engine, async": lambda llm: str(asyncio.run(_index().as_query_engine(llm=llm).aquery(QUESTION))),
}
STREAMED: dict[str, Place] = {
    mode.value: partial(_stream, mode)
    for mode in MODES
    if mode not in (ResponseMode.ACCUMULATE, ResponseMode.COMPACT_ACCUMULATE)  # they cannot stream
}
CHATS: dict[str, Place] = {
    f"{mode.value}, {way}": partial(_chat, mode, way)
    for mode in (ChatMode.SIMPLE, ChatMode.CONTEXT, ChatMode.CONDENSE_QUESTION, ChatMode.CONDENSE_PLUS_CONTEXT)
    for way in ("chat", "achat", "stream_chat", "astream_chat")
}
EXTRACTORS: dict[str, Place] = {
    "title": lambda llm: TitleExtractor(llm=llm, num_workers=1).process_nodes(_nodes()),
    "keywords": lambda llm: KeywordExtractor(llm=llm, num_workers=1).process_nodes(_nodes()),
    "summary": lambda llm: SummaryExtractor(llm=llm, num_workers=1).process_nodes(_nodes()),
    "questions": lambda llm: QuestionsAnsweredExtractor(llm=llm, num_workers=1).process_nodes(_nodes()),
    "pydantic": lambda llm: PydanticProgramExtractor(
        program=LLMTextCompletionProgram.from_defaults(output_cls=Town, prompt_template_str="{input}", llm=llm),
        num_workers=1,
    ).process_nodes(_nodes()),
    **GRAPHS,
}
SELECTORS: dict[str, Place] = {
    "single": lambda llm: LLMSingleSelector.from_defaults(llm=llm).select(CHOICES, QUESTION),
    "multi": lambda llm: LLMMultiSelector.from_defaults(llm=llm).select(CHOICES, QUESTION),
    "single, async": lambda llm: asyncio.run(LLMSingleSelector.from_defaults(llm=llm).aselect(CHOICES, QUESTION)),
    "multi, async": lambda llm: asyncio.run(LLMMultiSelector.from_defaults(llm=llm).aselect(CHOICES, QUESTION)),
    "router": lambda llm: str(
        RouterQueryEngine.from_defaults(
            _engine_tools(llm), llm=llm, selector=LLMSingleSelector.from_defaults(llm=llm)
        ).query(QUESTION)
    ),
    "router of retrievers": lambda llm: RouterRetriever.from_defaults(
        _retriever_tools(), llm=llm, selector=LLMMultiSelector.from_defaults(llm=llm)
    ).retrieve(QUESTION),
}
PYDANTIC_SELECTORS: dict[str, Place] = {
    "single": lambda llm: PydanticSingleSelector.from_defaults(
        FunctionCallingProgram.from_defaults(SingleSelection, llm=llm, prompt_template_str="{context_list} {query_str}")
    ).select(CHOICES, QUESTION),
    "multi": lambda llm: PydanticMultiSelector.from_defaults(
        FunctionCallingProgram.from_defaults(MultiSelection, llm=llm, prompt_template_str="{context_list} {query_str}")
    ).select(CHOICES, QUESTION),
}
QUESTIONS: dict[str, Place] = {
    "sub-questions": lambda llm: LLMQuestionGenerator.from_defaults(llm=llm).generate(CHOICES, QueryBundle(QUESTION)),
    "sub-questions, async": lambda llm: asyncio.run(
        LLMQuestionGenerator.from_defaults(llm=llm).agenerate(CHOICES, QueryBundle(QUESTION))
    ),
    "HyDE": lambda llm: HyDEQueryTransform(llm=llm).run(QUESTION),
    "steps": lambda llm: StepDecomposeQueryTransform(llm=llm).run(QUESTION, metadata={"prev_reasoning": "None yet."}),
    "fusion": lambda llm: QueryFusionRetriever([_index().as_retriever()], llm=llm, num_queries=3).retrieve(QUESTION),
}
EVALUATORS: dict[str, Place] = {
    "faithfulness": lambda llm: FaithfulnessEvaluator(llm=llm).evaluate(response="17", contexts=["17 bridges"]),
    "relevancy": lambda llm: RelevancyEvaluator(llm=llm).evaluate(
        query=QUESTION, response="17", contexts=["17 bridges"]
    ),
    "correctness": lambda llm: CorrectnessEvaluator(llm=llm).evaluate(query=QUESTION, response="17", reference="17"),
    "guideline": lambda llm: GuidelineEvaluator(llm=llm).evaluate(query=QUESTION, response="17", contexts=["17"]),
    "answer relevancy": lambda llm: AnswerRelevancyEvaluator(llm=llm).evaluate(query=QUESTION, response="17"),
    "context relevancy": lambda llm: ContextRelevancyEvaluator(llm=llm).evaluate(query=QUESTION, contexts=["17"]),
    "pairwise": lambda llm: PairwiseComparisonEvaluator(llm=llm).evaluate(
        query=QUESTION, response="17", second_response="18", reference="17"
    ),
}
PROGRAMS: dict[str, Place] = {
    "text program": lambda llm: LLMTextCompletionProgram.from_defaults(
        output_cls=Town, prompt_template_str="{town}", llm=llm
    )(town="Quimper"),
    "structured_predict": lambda llm: llm.structured_predict(Town, PromptTemplate("{town}"), town="Quimper"),
    "stream_structured_predict": lambda llm: list(
        llm.stream_structured_predict(Town, PromptTemplate("{town}"), town="Quimper")
    ),
    "structured LLM": lambda llm: llm.as_structured_llm(Town).chat([ChatMessage("Quimper")]),
    "predict": lambda llm: llm.predict(PromptTemplate("{town}"), town="Quimper"),
    "stream": lambda llm: list(llm.stream(PromptTemplate("{town}"), town="Quimper")),
}
CALLING_PROGRAMS: dict[str, Place] = {
    "function program": lambda llm: FunctionCallingProgram.from_defaults(
        output_cls=Town, prompt_template_str="{town}", llm=llm
    )(town="Quimper"),
    "function program, streamed": lambda llm: list(
        FunctionCallingProgram.from_defaults(output_cls=Town, prompt_template_str="{town}", llm=llm).stream_call(
            town="Quimper"
        )
    ),
    "predict_and_call": lambda llm: llm.predict_and_call(list(TOOLS), user_msg=QUESTION),
}
RETRIEVERS: dict[str, Place] = {
    "reranker": lambda llm: LLMRerank(llm=llm).postprocess_nodes(_found(), query_str=QUESTION),
    "reranker of objects": lambda llm: StructuredLLMRerank(llm=llm).postprocess_nodes(_found(), query_str=QUESTION),
    "RankGPT": lambda llm: RankGPTRerank(llm=llm).postprocess_nodes(_found(), query_str=QUESTION),
    "tree": lambda llm: TreeIndex(nodes=[*_nodes(), *_nodes()], llm=llm, num_children=2),
    "keyword table": lambda llm: KeywordTableIndex(nodes=_nodes(), llm=llm),
    "document summary": lambda llm: DocumentSummaryIndex(nodes=_nodes(), llm=llm, embed_model=MockEmbedding(4)),
    "chosen by an LLM": lambda llm: RetrieverQueryEngine.from_args(
        _index().as_retriever(retriever_mode="llm", llm=llm), llm=llm
    ).query(QUESTION),
}
MEMORIES: dict[str, Place] = {
    "summary": lambda llm: ChatSummaryMemoryBuffer.from_defaults(
        llm=llm, chat_history=[ChatMessage("word " * 200), ChatMessage("Hello", role="assistant")], token_limit=20
    ).get(),
    "facts": lambda llm: asyncio.run(FactExtractionMemoryBlock(llm=llm).aput([ChatMessage("I live in Quimper.")])),
}
AGENTS: dict[str, Place] = {"ReAct": partial(_run, ReActAgent), "code": _run_code}
CALLING_AGENTS: dict[str, Place] = {
    "functions": partial(_run, FunctionAgent),
    "functions, not streamed": partial(_run, FunctionAgent, streaming=False),
    "workflow": _run_workflow,
}


class FailureRules(Subject):
    """Every place that calls a model, with every way in which a call fails."""

    def _each_raises(self, place: Place) -> None:
        if not self.failures:
            pytest.skip("its model cannot be made to fail here")
        answers = {}
        for failure in self.failures:
            try:
                answers[failure] = place(self.refusing(failure))
            except Exception:  # noqa: BLE001 - each LLM has its own types, which is all that is asked for
                continue
        assert answers == {}

    @pytest.mark.parametrize("place", SYNTHESIZERS)
    def test_a_failure_is_no_synthesized_answer(self, place):
        """Synthesizers in all modes, and query engines over them, raise what the LLM raises."""
        self._each_raises(SYNTHESIZERS[place])

    @pytest.mark.parametrize("place", STREAMED)
    def test_a_failure_is_no_streamed_answer(self, place):
        """As before, where the answer is streamed."""
        self._each_raises(STREAMED[place])

    @pytest.mark.parametrize("place", CHATS)
    def test_a_failure_is_no_answer_of_a_chat_engine(self, place):
        """Chat engines raise it in all four ways."""
        self._each_raises(CHATS[place])

    @pytest.mark.parametrize("place", EXTRACTORS)
    def test_a_failure_is_no_empty_extraction(self, place):
        """Extractors of metadata and of graphs raise it and drop no text in silence."""
        self._each_raises(EXTRACTORS[place])

    @pytest.mark.parametrize("place", SELECTORS)
    def test_a_failure_is_no_selection(self, place):
        """Selectors and routers raise it."""
        self._each_raises(SELECTORS[place])

    @pytest.mark.parametrize("place", PYDANTIC_SELECTORS)
    def test_a_failure_is_no_selection_by_a_call(self, place):
        """Selectors that make the LLM call a function raise it."""
        self.need_tools()
        self._each_raises(PYDANTIC_SELECTORS[place])

    @pytest.mark.parametrize("place", QUESTIONS)
    def test_a_failure_is_no_question(self, place):
        """Question generators and transformations of queries raise it."""
        self._each_raises(QUESTIONS[place])

    @pytest.mark.parametrize("place", EVALUATORS)
    def test_a_failure_is_no_verdict(self, place):
        """Evaluators raise it."""
        self._each_raises(EVALUATORS[place])

    @pytest.mark.parametrize("place", PROGRAMS)
    def test_a_failure_is_no_object(self, place):
        """Programs, structured prediction and plain prediction raise it."""
        self._each_raises(PROGRAMS[place])

    @pytest.mark.parametrize("place", CALLING_PROGRAMS)
    def test_a_failure_is_no_object_of_a_call(self, place):
        """Programs that make the LLM call a function raise it."""
        self.need_tools()
        self._each_raises(CALLING_PROGRAMS[place])

    @pytest.mark.parametrize("place", RETRIEVERS)
    def test_a_failure_is_no_ranking_and_no_index(self, place):
        """Rerankers, retrievers that ask an LLM, and indices that one builds raise it."""
        self._each_raises(RETRIEVERS[place])

    @pytest.mark.parametrize("place", MEMORIES)
    def test_a_failure_is_no_memory(self, place):
        """Memories that summarize or extract raise it."""
        self._each_raises(MEMORIES[place])

    @pytest.mark.parametrize("place", AGENTS)
    def test_a_failure_is_no_answer_of_a_text_agent(self, place):
        """Agents that read text raise it."""
        self._each_raises(AGENTS[place])

    @pytest.mark.parametrize("place", CALLING_AGENTS)
    def test_a_failure_is_no_answer_of_an_agent(self, place):
        """Agents that call functions raise it."""
        self.need_tools()
        self._each_raises(CALLING_AGENTS[place])
