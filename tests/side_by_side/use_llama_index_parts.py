"""All else that asks a model in llama-index-core: selectors, extractors, evaluators, indices; and how each fails."""

from __future__ import annotations

import asyncio
from typing import Any

from llama_index.core import (
    Document,
    DocumentSummaryIndex,
    KeywordTableIndex,
    PropertyGraphIndex,
    SummaryIndex,
    TreeIndex,
    VectorStoreIndex,
    get_response_synthesizer,
)
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
    DocumentContextExtractor,
    KeywordExtractor,
    PydanticProgramExtractor,
    QuestionsAnsweredExtractor,
    SummaryExtractor,
    TitleExtractor,
)
from llama_index.core.indices.property_graph import (
    DynamicLLMPathExtractor,
    LLMSynonymRetriever,
    SchemaLLMPathExtractor,
    SimpleLLMPathExtractor,
)
from llama_index.core.indices.query.query_transform import HyDEQueryTransform, StepDecomposeQueryTransform
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.postprocessor import LLMRerank
from llama_index.core.postprocessor.rankGPT_rerank import RankGPTRerank
from llama_index.core.postprocessor.structured_llm_rerank import StructuredLLMRerank
from llama_index.core.program import LLMTextCompletionProgram
from llama_index.core.query_engine import (
    CitationQueryEngine,
    MultiStepQueryEngine,
    RetryQueryEngine,
    RouterQueryEngine,
    SubQuestionQueryEngine,
    TransformQueryEngine,
)
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.core.selectors import (
    LLMMultiSelector,
    LLMSingleSelector,
    PydanticMultiSelector,
    PydanticSingleSelector,
)
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.tools import QueryEngineTool, ToolMetadata
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


def _tools(make):
    engines = [SummaryIndex.from_documents([document]).as_query_engine(llm=make()) for document in DOCUMENTS]
    return [
        QueryEngineTool(query_engine=engine, metadata=metadata) for engine, metadata in zip(engines, TOOLS, strict=True)
    ]


# What asks a model something of its own: what the model says, and what is done.
_GRAPH = "Oslo, capital of, Norway\nBergen, in, Norway"
_TRIPLETS = {
    "triplets": [
        {
            "subject": {"type": "PLACE", "name": "Oslo"},
            "relation": {"type": "LOCATED_IN"},
            "object": {"type": "PLACE", "name": "Norway"},
        }
    ]
}
_DYNAMIC = '[{"head": "Oslo", "head_type": "CITY", "relation": "CAPITAL_OF", "tail": "Norway", "tail_type": "COUNTRY"}]'


def _graph(make, extractor):
    index = PropertyGraphIndex.from_documents(
        DOCUMENTS[:1], llm=make(), kg_extractors=[extractor], embed_kg_nodes=False
    )
    return sorted(str(triplet) for triplet in index.property_graph_store.get_triplets(entity_names=["Oslo"]))


def _extracted(extractor):
    return [sorted(found.items()) for found in asyncio.run(extractor.aextract([node.node for node in NODES[:1]]))]


def _document_context(make):
    store = SimpleDocumentStore()
    store.add_documents(DOCUMENTS)
    nodes = SentenceSplitter().get_nodes_from_documents(DOCUMENTS[:1])
    extractor = DocumentContextExtractor(docstore=store, llm=make(), max_context_length=1000, max_output_tokens=20)
    return asyncio.run(extractor.aextract(nodes))


def _evaluated(evaluator):
    asked = {"query": "Capital?", "response": "Oslo.", "contexts": [TEXTS[0]]}
    found = evaluator.evaluate(**asked)
    return [found.passing, found.score, found.feedback]


def _reranked(reranker):
    return [node.node.node_id for node in reranker.postprocess_nodes(NODES, query_str="Capital?")]


def _selected(selector):
    return [[one.index, one.reason] for one in selector.select(TOOLS, "Rain?").selections]


_SINGLE = value(index=2, reason="It rains.")
_MULTI = value(selections=[{"index": 1, "reason": "Norway."}, {"index": 2, "reason": "Rain."}])
_PROGRAM = '{"city": "Oslo", "country": "Norway"}'


def _program(make):
    return LLMTextCompletionProgram.from_defaults(output_cls=Capital, prompt_template_str="{input}", llm=make())


USES: dict[str, tuple[list[Any], Any]] = {
    "citation query engine": (
        ["Oslo [1]."],
        lambda make: (
            CitationQueryEngine.from_args(VectorStoreIndex.from_documents(DOCUMENTS), llm=make())
            .query("Capital?")
            .response
        ),
    ),
    "sub-question query engine": (
        [QUESTIONS, "In Norway.", "Oslo is in Norway."],
        lambda make: (
            SubQuestionQueryEngine.from_defaults(
                _tools(make),
                llm=make(),
                question_gen=LLMQuestionGenerator.from_defaults(llm=make()),
                response_synthesizer=get_response_synthesizer(llm=make()),
                use_async=False,
                verbose=False,
            )
            .query("Where is it?")
            .response
        ),
    ),
    "router query engine": (
        [CHOICE, "It rains."],
        lambda make: (
            RouterQueryEngine(LLMSingleSelector.from_defaults(llm=make()), _tools(make), llm=make(), summarizer=None)
            .query("Rain?")
            .response
        ),
    ),
    "retry query engine": (
        ["Rome.", "NO", "Oslo.", "YES"],
        lambda make: (
            RetryQueryEngine(
                SummaryIndex.from_documents(DOCUMENTS).as_query_engine(llm=make()), RelevancyEvaluator(llm=make())
            )
            .query("Capital?")
            .response
        ),
    ),
    "hypothetical document": (
        ["Oslo may be it.", "Oslo."],
        lambda make: (
            TransformQueryEngine(
                VectorStoreIndex.from_documents(DOCUMENTS).as_query_engine(llm=make()),
                HyDEQueryTransform(llm=make()),
            )
            .query("Capital?")
            .response
        ),
    ),
    "multi-step query engine": (
        ["Which country?", "Norway.", "None", "Oslo."],
        lambda make: (
            MultiStepQueryEngine(
                SummaryIndex.from_documents(DOCUMENTS).as_query_engine(llm=make()),
                StepDecomposeQueryTransform(llm=make()),
                response_synthesizer=get_response_synthesizer(llm=make()),
                num_steps=2,
            )
            .query("Capital?")
            .response
        ),
    ),
    "LLM selector": ([CHOICE], lambda make: _selected(LLMSingleSelector.from_defaults(llm=make()))),
    "LLM selector of several": ([CHOICE], lambda make: _selected(LLMMultiSelector.from_defaults(llm=make()))),
    "pydantic selector": ([_SINGLE], lambda make: _selected(PydanticSingleSelector.from_defaults(llm=make()))),
    "pydantic selector of several": (
        [_MULTI],
        lambda make: _selected(PydanticMultiSelector.from_defaults(llm=make())),
    ),
    "question generator": (
        [QUESTIONS],
        lambda make: LLMQuestionGenerator.from_defaults(llm=make()).generate(TOOLS, QueryBundle("Where?")),
    ),
    "title extractor": (["Oslo", "Oslo"], lambda make: _extracted(TitleExtractor(llm=make(), nodes=1))),
    "keyword extractor": (["Oslo, Norway"], lambda make: _extracted(KeywordExtractor(llm=make()))),
    "questions extractor": (["Where?"], lambda make: _extracted(QuestionsAnsweredExtractor(llm=make()))),
    "summary extractor": (["About Oslo."], lambda make: _extracted(SummaryExtractor(llm=make()))),
    "program extractor": ([_PROGRAM], lambda make: _extracted(PydanticProgramExtractor(program=_program(make)))),
    "document context extractor": (["A part about Oslo."], _document_context),
    "simple path extractor": (
        ["(Oslo, capital of, Norway)"],
        lambda make: _graph(make, SimpleLLMPathExtractor(llm=make(), num_workers=1)),
    ),
    "schema path extractor": (
        [value(**_TRIPLETS)],
        lambda make: _graph(make, SchemaLLMPathExtractor(llm=make(), num_workers=1, strict=False)),
    ),
    "dynamic path extractor": (
        [_DYNAMIC],
        lambda make: _graph(make, DynamicLLMPathExtractor(llm=make(), num_workers=1)),
    ),
    "synonym retriever": (
        ["(Oslo, capital of, Norway)", "OSLO^CHRISTIANIA"],
        lambda make: [
            node.text
            for node in LLMSynonymRetriever(
                PropertyGraphIndex.from_documents(
                    DOCUMENTS[:1],
                    llm=make(),
                    kg_extractors=[SimpleLLMPathExtractor(llm=make(), num_workers=1)],
                    embed_kg_nodes=False,
                ).property_graph_store,
                llm=make(),
                include_text=False,
            ).retrieve("Christiania?")
        ],
    ),
    "keyword table index": (
        ["KEYWORDS: oslo, norway", "KEYWORDS: bergen, rain", "KEYWORDS: oslo", "Oslo."],
        lambda make: (
            KeywordTableIndex.from_documents(DOCUMENTS, llm=make())
            .as_query_engine(llm=make())
            .query("Capital?")
            .response
        ),
    ),
    "tree index": (
        ["About Norway.", "ANSWER: 1. Because it says Oslo.", "Oslo."],
        lambda make: (
            TreeIndex.from_documents(DOCUMENTS, llm=make(), num_children=2)
            .as_query_engine(llm=make())
            .query("Capital?")
            .response
        ),
    ),
    "document summary index": (
        ["About Oslo.", "About Bergen.", "Doc: 1, Relevance: 9", "Oslo."],
        lambda make: (
            DocumentSummaryIndex.from_documents(
                DOCUMENTS,
                llm=make(),
                response_synthesizer=get_response_synthesizer(llm=make(), response_mode="compact"),
            )
            .as_query_engine(llm=make(), retriever_mode="llm")
            .query("Capital?")
            .response
        ),
    ),
    "faithfulness evaluator": (["YES"], lambda make: _evaluated(FaithfulnessEvaluator(llm=make()))),
    "relevancy evaluator": (["NO"], lambda make: _evaluated(RelevancyEvaluator(llm=make()))),
    "correctness evaluator": (
        ["4.5\nNearly right."],
        lambda make: CorrectnessEvaluator(llm=make()).evaluate(query="q", response="Oslo.", reference="Oslo").score,
    ),
    "guideline evaluator": (
        ['{"passing": true, "feedback": "Brief."}'],
        lambda make: _evaluated(GuidelineEvaluator(llm=make(), guidelines="Be brief.")),
    ),
    "answer relevancy evaluator": (
        ["Fine.\n[RESULT] 2"],
        lambda make: _evaluated(AnswerRelevancyEvaluator(llm=make())),
    ),
    "context relevancy evaluator": (
        ["Fine.\n[RESULT] 4"],
        lambda make: _evaluated(ContextRelevancyEvaluator(llm=make())),
    ),
    "pairwise evaluator": (
        ["[[A]]", "[[B]]"],
        lambda make: (
            PairwiseComparisonEvaluator(llm=make()).evaluate(query="q", response="a", second_response="b").score
        ),
    ),
    "reranking": (
        ["Doc: 2, Relevance: 9\nDoc: 1, Relevance: 3"],
        lambda make: _reranked(LLMRerank(llm=make(), top_n=2)),
    ),
    "structured reranking": (
        [value(documents=[{"document_number": 2, "relevance": 9}, {"document_number": 1, "relevance": 2}])],
        lambda make: _reranked(StructuredLLMRerank(llm=make(), top_n=2)),
    ),
    "ranking by order": (["[2] > [1]"], lambda make: _reranked(RankGPTRerank(llm=make(), top_n=2))),
    "ingestion": (
        ["Oslo, Norway", "About Oslo."],
        lambda make: [
            node.metadata
            for node in IngestionPipeline(
                transformations=[SentenceSplitter(), KeywordExtractor(llm=make()), SummaryExtractor(llm=make())]
            ).run(documents=DOCUMENTS[:1])
        ],
    ),
}


for _name, (_replies, _use) in USES.items():

    def uses(make, use=_use):
        return use(make)

    def fails(make, use=_use):
        return settled(lambda: use(make))

    uses.__name__, fails.__name__ = _name, f"{_name} fails"
    scenario(LLAMA_INDEX, _replies)(uses)
    scenario_by_failure(LLAMA_INDEX, _replies * 2)(fails)
