"""HermesLLM at the call sites of hosted LLMs: constructors, calls, tools and structured output."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from functools import partial

import httpx
import pytest
from llama_index.core import Document
from llama_index.core.extractors import DocumentContextExtractor
from llama_index.core.llms import ChatMessage
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.prompts import PromptTemplate
from llama_index.core.storage.docstore import SimpleDocumentStore
from pydantic import BaseModel

from hermes_runtime.errors import InvalidRequestError
from llama_index_hermes import HermesLLM
from tests.llama_index.endpoints import CHAT
from tests.support.hosted_rows import (
    CALL_NAMES,
    CONSTRUCTOR_NAMES,
    HARMLESS,
    MEANT,
    MEANT_BY_CALLS,
    MEANT_BY_CONSTRUCTORS,
    NO_CALLS,
    REFUSED,
    REFUSED_TO_A_SERVER,
    TOOL,
    VENDOR_ADDRESSES,
    refusal_of,
)

CALL = "<tool_call>\n{'arguments': {'a': 1}, 'name': 'add'}\n</tool_call>"
ASK = [ChatMessage("Hi")]


class Person(BaseModel):
    """A person."""

    name: str
    age: int


PERSON = json.dumps({"name": "Anna", "age": 31})


def fields_of(llm):
    return llm.to_dict()


def test_the_model_may_be_the_first_argument():
    assert HermesLLM("tiny-hermes", temperature=0).to_dict() == HermesLLM(model="tiny-hermes", temperature=0).to_dict()


@pytest.mark.parametrize(("hosted", "own"), [*MEANT, *MEANT_BY_CONSTRUCTORS])
def test_a_hosted_option_stands_in_the_field_of_its_meaning(hosted, own):
    assert fields_of(HermesLLM("m", **hosted)) == fields_of(HermesLLM("m", **own))


def test_a_models_name_and_a_key_may_go_by_their_other_names():
    llm = HermesLLM(model_name="m", openai_api_key="sk-secret")
    assert (llm.model, llm.api_key.get_secret_value()) == ("m", "sk-secret")
    assert "sk-secret" not in repr(llm) + str(llm.to_dict())


@pytest.mark.parametrize(("name", "value"), HARMLESS)
def test_a_harmless_option_makes_the_same_llm(name, value):
    assert fields_of(HermesLLM("m", **{name: value})) == fields_of(HermesLLM("m"))


@pytest.mark.parametrize(("name", "value", "words"), REFUSED)
def test_what_cannot_be_honored_is_refused_when_an_llm_is_made(name, value, words):
    with pytest.raises(InvalidRequestError, match=rf"(?s)^{name}.*{words}"):
        HermesLLM("m", **{name: value})


@pytest.mark.parametrize("value", [None, "x", 1, ["x"]])
def test_a_constructor_knows_every_name_of_hosted_classes(value):
    refusals = {name: refusal_of(partial(HermesLLM, **{"model": "m", name: value})) for name in CONSTRUCTOR_NAMES}
    assert [name for name, said in refusals.items() if "unknown option" in said or "Extra inputs" in said] == []
    if value is None:
        assert [name for name, said in refusals.items() if said] == ["model"]


@pytest.mark.parametrize("url", VENDOR_ADDRESSES)
def test_prompts_are_not_sent_to_a_vendor(url):
    with pytest.raises(InvalidRequestError, match="leave this machine"):
        HermesLLM("m", api_base=url)


@pytest.mark.parametrize(("name", "value", "words"), REFUSED_TO_A_SERVER)
def test_what_a_server_never_gets_is_refused(name, value, words):
    with pytest.raises(InvalidRequestError, match=words):
        HermesLLM("m", base_url="http://localhost:1/v1", **{name: value})


@pytest.mark.parametrize("endpoint", CHAT)
@pytest.mark.parametrize(("hosted", "own"), [*MEANT, *MEANT_BY_CALLS])
def test_a_hosted_option_of_a_call_does_what_its_meaning_does(endpoint, hosted, own, scripted):
    llm, engine = scripted(lambda _: "{}")
    CHAT[endpoint](llm, "Hi", **hosted)
    CHAT[endpoint](llm, "Hi", **own)
    assert engine.requests[0] == engine.requests[1]


@pytest.mark.parametrize(("name", "value"), [row for row in HARMLESS if row[0] not in NO_CALLS | {"prompt"}])
def test_a_harmless_option_of_a_call_changes_nothing(name, value, scripted):
    llm, engine = scripted(lambda _: PERSON)
    llm.chat(ASK)
    llm.chat(ASK, **{name: value})
    llm.complete("Hi", **{name: value})
    assert engine.requests[0] == engine.requests[1] == engine.requests[2]
    person = llm.structured_predict(Person, PromptTemplate("Hi"), llm_kwargs={name: value})
    assert person == Person(name="Anna", age=31)


@pytest.mark.parametrize(("name", "value", "words"), [row for row in REFUSED if row[0] != "prompt"])
def test_what_cannot_be_honored_is_refused_in_a_call(name, value, words, scripted):
    llm, engine = scripted(["Hello."])
    refused = pytest.raises(InvalidRequestError, match=rf"(?s)^{name}.*{words}")
    for endpoint in CHAT.values():
        with refused:
            endpoint(llm, "Hi", **{name: value})
    with refused:
        llm.chat_with_tools([], user_msg="Hi", **{name: value})
    with refused:
        llm.structured_predict(Person, PromptTemplate("Hi"), llm_kwargs={name: value})
    assert not engine.requests
    assert llm.chat(ASK).message.content == "Hello."


def test_a_call_lifts_the_llms_own_bound(scripted):
    llm, engine = scripted(lambda _: "Hello.", max_tokens=7)
    llm.chat(ASK, max_tokens=-1)
    llm.chat(ASK, max_tokens=None)
    assert [request.options.max_tokens for request in engine.requests] == [None, 7]


@pytest.mark.parametrize("mode", ["default", "function"])
def test_what_a_prediction_decides_cannot_be_contradicted(mode, scripted):
    call = CALL.replace("{'a': 1}", PERSON).replace("'add'", "'Person'")
    llm, engine = scripted([call if mode == "function" else PERSON], pydantic_program_mode=mode)
    options = {"allow_parallel_tool_calls": True, "functions": [], "tool_choice": "none", "num_predict": 40}
    assert llm.structured_predict(Person, PromptTemplate("Hi"), llm_kwargs=options) == Person(name="Anna", age=31)
    assert engine.requests[0].options.max_tokens == 40


@pytest.mark.parametrize("value", [None, "x", 1, ["x"]])
def test_a_call_knows_every_name_of_hosted_classes(value, scripted):
    llm, engine = scripted(lambda _: "Hello.")
    names = sorted(set(CALL_NAMES) - {"messages"})
    refusals = {name: refusal_of(partial(llm.chat, ASK, **{name: value})) for name in names}
    assert [name for name, said in refusals.items() if "unknown option" in said] == []
    assert len(engine.requests) == len([name for name, said in refusals.items() if not said])
    assert value is not None or len(engine.requests) == len(names)


@pytest.mark.parametrize(
    ("options", "runs"),
    [
        ({}, 1),
        ({"allow_parallel_tool_calls": True}, 2),
        ({"parallel_tool_calls": True}, 2),
        ({"parallel_tool_calls": False}, 1),
        ({"strict": True}, 1),
    ],
)
def test_parallel_calls_are_allowed_by_either_name(options, runs, scripted):
    llm, _ = scripted([CALL + "\n" + CALL])
    response = llm.chat_with_tools([TOOL], user_msg="Hi", **options)
    assert len(llm.get_tool_calls_from_response(response)) == runs


@pytest.mark.parametrize("options", [{}, {"base_url": "http://localhost:1/v1"}])
def test_contexts_of_documents_are_written(options, scripted):
    llm, engine = scripted(lambda _: "It is about Lisbon.", **options)
    document = Document(text="Chapter 1. Lisbon is big.", id_="d1")
    store = SimpleDocumentStore()
    store.add_documents([document])
    extractor = DocumentContextExtractor(docstore=store, llm=llm, max_context_length=1000, max_output_tokens=20)
    nodes = SentenceSplitter().get_nodes_from_documents([document])
    assert asyncio.run(extractor.aextract(nodes)) == [{"context": "It is about Lisbon."}]
    assert engine.requests[0].options.max_tokens == 20


# Objects after they were made


def test_an_object_knows_its_own_names_only_and_so_do_its_copies(scripted):
    llm, engine = scripted(
        lambda _: "x", max_completion_tokens=7, request_timeout=httpx.Timeout(9.0), reuse_client=True
    )
    assert (llm.max_tokens, llm.timeout) == (7, 9.0)
    twins = [
        *(llm, llm.model_copy(), copy.deepcopy(llm), pickle.loads(pickle.dumps(llm))),
        *(HermesLLM.from_dict(llm.to_dict()), HermesLLM.from_json(llm.to_json())),
    ]
    for twin in twins:
        twin.chat(ASK)
    options = [request.options for request in engine.requests]
    assert {(asked.max_tokens, asked.timeout) for asked in options} == {(7, 9.0)}
    assert len(engine.requests) == len(twins)


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", "hot"), ("temperature", -1), ("max_tokens", 0), ("dialect", "klingon"), ("n", 2), ("xyz", 1)],
)
def test_a_bad_assignment_is_refused_and_changes_nothing(name, value):
    llm = HermesLLM("m", temperature=0.5)
    before = fields_of(llm)
    with pytest.raises(InvalidRequestError, match=name):
        setattr(llm, name, value)
    assert fields_of(llm) == before


def test_a_good_assignment_is_kept(scripted):
    llm, engine = scripted(["x"], temperature=0.5)
    llm.temperature = None
    llm.max_completion_tokens = 7
    llm.system_prompt = "Be brief."
    llm.chat(ASK)
    asked = engine.requests[0].options
    assert (asked.sampling.temperature, asked.max_tokens) == (None, 7)
    assert llm.system_prompt == "Be brief."
