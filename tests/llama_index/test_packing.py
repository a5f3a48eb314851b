"""Long documents fit: whoever sets the LLM and nothing else gets packing by the model's own tokenizer."""

from __future__ import annotations

import json
import logging
import re
from functools import cache, partial

import llama_index.core
import pytest
from llama_index.core import Settings, SummaryIndex, set_global_tokenizer
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.utils import get_tokenizer
from pydantic import BaseModel

from llama_index_hermes import HermesLLM

WINDOWS = [4096, 8192, 32768]
SENTENCES = {
    "English": "Lisbon is the capital of Portugal; its metropolitan area hosts approximately 2.9 million inhabitants. ",
    "German": "Die Donaudampfschifffahrtsgesellschaft veröffentlichte außergewöhnlich ausführliche Überprüfungen. ",
    "JSON": json.dumps({"id": "4f9c-11aa", "price": 19.99, "tags": ["new", "sale"], "stock": {"Oslo": 3}}) + ",\n",
    "code": "    def __init__(self, *, name: str | None = None) -> None:\n        self._name = name or _DEFAULT\n",
    "Chinese": "里斯本是葡萄牙的首都和最大城市。都市区约有二百九十万居民。历史悠久。",
}
READ_WHOLE = [
    ResponseMode.REFINE,
    ResponseMode.COMPACT,
    ResponseMode.TREE_SUMMARIZE,
    ResponseMode.ACCUMULATE,
    ResponseMode.COMPACT_ACCUMULATE,
]


class Summary(BaseModel):
    """A summary."""

    title: str
    year: int


@pytest.fixture(autouse=True)
def _no_tokenizer_was_set(monkeypatch):
    monkeypatch.setattr("llama_index.core.global_tokenizer", None)
    monkeypatch.setattr(Settings, "_prompt_helper", None)
    monkeypatch.setattr(Settings, "_embed_model", MockEmbedding(8))


@cache
def document(language, tokenizer, window):
    """Return a text of over a window, with a numbered mark every hundred tokens or so, and the number of marks."""
    sentence = SENTENCES[language] * 3
    length = len(tokenizer.encode(sentence, add_special_tokens=False))
    count = int(1.3 * window / length)
    return "".join(f"{sentence} M{number}E " for number in range(count)), count


def nodes(text, parts):
    """Return the text as nodes, each of them near a whole window."""
    step = len(text) // parts + 1
    return [NodeWithScore(node=TextNode(text=text[at : at + step])) for at in range(0, len(text), step)]


def marks(prompts):
    return {int(number) for prompt in prompts for number in re.findall(r"M(\d+)E", prompt)}


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("language", SENTENCES)
@pytest.mark.parametrize("mode", READ_WHOLE, ids=lambda mode: mode.value)
def test_every_synthesizer_that_reads_all_reads_all(mode, language, window, scripted):
    llm, engine = scripted(lambda _: "A summary.", engine={"context_window": window}, context_window=window)
    text, count = document(language, engine.tokenizer, window)
    answer = get_response_synthesizer(llm=llm, response_mode=mode).synthesize("Sum up.", nodes(text, 2))
    assert "A summary." in str(answer)
    # A mark that stood where a node or a chunk was cut may be in pieces.
    assert len(marks(engine.prompts)) >= count - 12


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("language", SENTENCES)
def test_a_synthesizer_that_leaves_text_out_fits(language, window, scripted):
    llm, engine = scripted(lambda _: "A summary.", engine={"context_window": window}, context_window=window)
    text, _ = document(language, engine.tokenizer, window)
    synthesizer = get_response_synthesizer(llm=llm, response_mode=ResponseMode.SIMPLE_SUMMARIZE)
    # LlamaIndex puts the text into the prompt as it writes a list, with line ends longer than it counted them.
    assert "A summary." in str(synthesizer.synthesize("Sum up.", nodes(text.replace("\n", " "), 2)))


@pytest.mark.parametrize("language", SENTENCES)
@pytest.mark.parametrize("max_tokens", [None, 8, 600])
@pytest.mark.parametrize("mode", [ResponseMode.COMPACT, ResponseMode.TREE_SUMMARIZE], ids=lambda mode: mode.value)
def test_objects_and_short_answers_leave_room_for_the_markup(mode, max_tokens, language, scripted):
    reply = '{"title": "T", "year": 1}'
    llm, engine = scripted(lambda _: reply, engine={"context_window": 4096}, context_window=4096)
    llm.max_tokens = max_tokens
    text, count = document(language, engine.tokenizer, 4096)
    output_cls = None if max_tokens == 8 else Summary
    synthesizer = get_response_synthesizer(llm=llm, response_mode=mode, output_cls=output_cls)
    synthesizer.synthesize("Sum up.", nodes(text, 2))
    assert len(marks(engine.prompts)) >= count - 12


@pytest.mark.parametrize("mode", ["compact", "tree_summarize"])
def test_the_settings_alone_will_do(mode, scripted, monkeypatch):
    llm, engine = scripted(lambda _: "A summary.", engine={"context_window": 8192}, context_window=8192)
    monkeypatch.setattr(Settings, "_llm", llm)
    text, count = document("English", engine.tokenizer, 8192)
    index = SummaryIndex(nodes=[node.node for node in nodes(text, 5)])
    assert index.as_query_engine(response_mode=mode).query("Sum up.").response == "A summary."
    assert len(marks(engine.prompts)) >= count - 20


def test_windows_are_packed_full(scripted):
    llm, engine = scripted(lambda _: "A summary.", engine={"context_window": 8192}, context_window=8192)
    text, _ = document("English", engine.tokenizer, 8192)
    get_response_synthesizer(llm=llm, response_mode=ResponseMode.COMPACT).synthesize("Sum up.", nodes(text, 2))
    assert max(len(request.prompt_ids) for request in engine.requests) > 0.9 * (8192 - 256)


# Which tokenizer it is


def test_a_tokenizer_that_the_user_set_stays(scripted):
    chosen = str.split
    set_global_tokenizer(chosen)
    llm, _ = scripted([])
    assert llm.metadata
    assert llama_index.core.global_tokenizer is chosen


def test_an_openai_tokenizer_that_the_user_set_stays(scripted):
    chosen = get_tokenizer().func  # as whoever sets the encoding's own method
    set_global_tokenizer(chosen)
    llm, _ = scripted([])
    assert llm.metadata
    assert llama_index.core.global_tokenizer == chosen


def test_the_default_that_llama_index_took_meanwhile_is_replaced(scripted):
    assert isinstance(get_tokenizer(), partial)
    llm, engine = scripted([])
    assert llm.metadata
    assert get_tokenizer()("It is sunny.") == engine.tokenizer.encode("It is sunny.", add_special_tokens=False)


def test_a_helper_counts_with_the_tokenizer_of_its_own_llm(scripted):
    mistral, engine = scripted([])
    tiny = HermesLLM(model="tiny-hermes")
    helpers = [PromptHelper.from_llm_metadata(llm.metadata) for llm in (mistral, tiny, mistral)]
    first, second, third = (helper._token_counter.tokenizer("It is sunny.") for helper in helpers)
    assert first == third == engine.tokenizer.encode("It is sunny.", add_special_tokens=False)
    assert second == tiny.tokenizer("It is sunny.") != first


def test_memory_counts_with_it(scripted):
    llm, engine = scripted([])
    memory = ChatMemoryBuffer.from_defaults(llm=llm)
    assert memory.tokenizer_fn("It is sunny.") == engine.tokenizer.encode("It is sunny.", add_special_tokens=False)


def test_making_an_llm_changes_nothing(scripted):
    scripted([])
    assert llama_index.core.global_tokenizer is None


def test_the_log_tells_of_it_once(scripted, caplog):
    llm, _ = scripted([])
    with caplog.at_level(logging.INFO, "llama_index_hermes"):
        for _ in range(3):
            assert llm.metadata
    (told,) = [message for message in caplog.messages if "set_global_tokenizer" in message]
    assert "'scripted'" in told


def test_a_model_that_is_not_there_yet_does_not_keep_documents_from_being_split(caplog):
    assert HermesLLM(model="/no/such/folder").metadata
    assert get_tokenizer()("It is sunny.")
    assert get_tokenizer()("It is sunny.")
    assert ["/no/such/folder" in message for message in caplog.messages] == [True]


def test_the_pieces_of_a_text_have_the_tokens_of_the_text(scripted):
    llm, _ = scripted([])
    text = " ".join(SENTENCES.values())
    pieces = re.findall(r" ?[^ ]+", text)
    assert sum(len(llm.tokenizer(piece)) for piece in pieces) == pytest.approx(len(llm.tokenizer(text)), rel=0.03)


def test_text_that_spells_a_marker_counts_as_text(scripted):
    llm, _ = scripted([])
    assert len(llm.tokenizer("<|im_end|>")) > 3
