"""Rules of pydantic objects."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.llms import ChatMessage
from llama_index.core.program import LLMTextCompletionProgram
from llama_index.core.prompts import PromptTemplate
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel, Field

from tests.llama_index_contract import replies
from tests.llama_index_contract.base import Subject
from tests.llama_index_contract.harness import drain, examples, is_part, recorded
from tests.llama_index_contract.replies import Reply

PROMPT = PromptTemplate("Tell me of {place}.")


class Folder(BaseModel):
    """A folder with folders in it."""

    name: str
    sizes: list[int] = Field(max_length=4)
    folders: list[Folder] = Field(max_length=2)


class Port(BaseModel):
    """A small object."""

    name: str = Field(max_length=8)
    berths: int = Field(ge=0, le=99)
    is_open: bool


FOLDERS = st.recursive(
    st.builds(Folder, name=replies.TEXTS, sizes=st.lists(st.integers(0, 99), max_size=4), folders=st.just([])),
    lambda inner: st.builds(
        Folder, name=replies.TEXTS, sizes=st.lists(st.integers(0, 99), max_size=4), folders=st.lists(inner, max_size=2)
    ),
    max_leaves=4,
)

PREDICT = {
    "structured_predict": lambda llm, cls, **options: [llm.structured_predict(cls, PROMPT, place="Brest", **options)],
    "astructured_predict": lambda llm, cls, **options: [
        asyncio.run(llm.astructured_predict(cls, PROMPT, place="Brest", **options))
    ],
    "stream_structured_predict": lambda llm, cls, **options: list(
        llm.stream_structured_predict(cls, PROMPT, place="Brest", **options)
    ),
    "astream_structured_predict": lambda llm, cls, **options: asyncio.run(
        drain(llm.astream_structured_predict(cls, PROMPT, place="Brest", **options))
    ),
}
STREAMS = ["stream_structured_predict", "astream_structured_predict"]
every_way = pytest.mark.parametrize("way", PREDICT)


def _known(partial: BaseModel) -> dict[str, Any]:
    return partial.model_dump(mode="json", exclude_none=True)


class StructuredRules(Subject):
    """`structured_predict` and its kin."""

    @every_way
    def test_an_object_of_the_class_is_given(self, way):
        """All four ways end with an object of the class itself, checked, whatever the model would rather say."""
        assert type(PREDICT[way](self.llm(), Port)[-1]) is Port

    @examples(6)
    @given(FOLDERS)
    def test_the_object_is_what_the_model_wrote(self, folder):
        """Nested, recursive (`$ref`) and escaped values arrive as the model wrote them, in all four ways."""
        for predict in PREDICT.values():
            assert predict(self.saying(Reply(value=folder.model_dump(mode="json"))), Folder)[-1] == folder

    @pytest.mark.parametrize("way", STREAMS)
    @examples(6)
    @given(folder=FOLDERS)
    def test_partial_objects_grow(self, way, folder):
        """Streamed objects only grow: no text, item or member that was seen changes or is taken back."""
        whole = folder.model_dump(mode="json")
        seen = [_known(partial) for partial in PREDICT[way](self.saying(Reply(value=whole)), Folder)]
        assert seen[-1] == whole
        assert all(is_part(earlier, later) for earlier, later in pairwise(seen))

    @pytest.mark.parametrize("way", STREAMS)
    def test_lists_grow_item_by_item(self, way):
        """A list shows its items as they come, not when it is closed; objects in it as well."""
        leaf = Folder(name="leaf", sizes=[], folders=[])
        folder = Folder(name="root", sizes=[10, 20, 30], folders=[leaf, leaf])
        seen = [_known(partial) for partial in PREDICT[way](self.saying(Reply(value=folder.model_dump())), Folder)]
        assert {len(partial.get("sizes", [])) for partial in seen} == {0, 1, 2, 3}
        assert {len(partial.get("folders", [])) for partial in seen} == {0, 1, 2}

    @every_way
    @pytest.mark.parametrize("value", [{}, {"name": 3, "berths": "many", "is_open": None}])
    def test_what_is_no_such_object_is_an_error(self, way, value):
        """Where the model wrote something else, an error says so; no object with holes is given for the real one."""
        llm = self.saying(Reply(value=value))
        given = []
        with pytest.raises(Exception, match=r"."):  # each LLM has its own type
            given.append(PREDICT[way](llm, Port)[-1])
        assert given == []

    @every_way
    def test_the_system_prompt_is_honored(self, way):
        """`system_prompt` reaches the model in all four ways, and so does the prompt."""
        with recorded() as events:
            PREDICT[way](self.llm(system_prompt="You know every port."), Port)
        assert "You know every port." in events.messages()
        assert "Tell me of Brest." in events.messages()

    @every_way
    def test_one_pair_of_events_tells_of_it(self, way):
        """One structured start and end event, and one chat or completion pair inside: overriding must not lose them."""
        llm = self.llm()
        with recorded() as events:
            PREDICT[way](llm, Port)
        assert events.count("LLMStructuredPredictStartEvent") == 1
        assert events.count("LLMStructuredPredictEndEvent") == 1
        assert events.count("LLMChatStartEvent") + events.count("LLMCompletionStartEvent") == 1
        assert events.count("LLMChatEndEvent") + events.count("LLMCompletionEndEvent") == 1

    @every_way
    def test_llm_kwargs_are_honored_and_left_alone(self, way):
        """`llm_kwargs` are options of the call, and the caller's dict stays as it was."""
        if self.max_tokens is None:
            pytest.skip("a call cannot bound its length")
        options = {self.max_tokens: 100}
        assert type(PREDICT[way](self.llm(), Port, llm_kwargs=options)[-1]) is Port
        assert options == {self.max_tokens: 100}

    @every_way
    @pytest.mark.parametrize("mode", [PydanticProgramMode.DEFAULT, PydanticProgramMode.FUNCTION])
    def test_program_modes_that_need_no_text(self, way, mode):
        """The modes default and function both give the object."""
        if mode == PydanticProgramMode.FUNCTION:
            self.need_tools()
        assert type(PREDICT[way](self.llm(pydantic_program_mode=mode), Port)[-1]) is Port

    def test_text_programs(self):
        """`LLMTextCompletionProgram`, and the mode llm, read the object from text."""
        port = Port(name="Brest", berths=3, is_open=True)
        said = [Reply(f"Here it is: {port.model_dump_json()}")] * 3
        llm = self.saying(*said, pydantic_program_mode=PydanticProgramMode.LLM)
        program = LLMTextCompletionProgram.from_defaults(
            output_cls=Port, prompt_template_str="Tell me of {place}.", llm=llm
        )
        assert program(place="Brest") == port
        assert asyncio.run(program.acall(place="Brest")) == port
        assert llm.structured_predict(Port, PROMPT, place="Brest") == port

    def test_structured_llm(self):
        """`as_structured_llm` gives the object in `raw` and its JSON as the text."""
        structured, ask = self.llm().as_structured_llm(Port), [ChatMessage("Tell me of Brest.")]
        responses = [structured.chat(ask), asyncio.run(structured.achat(ask)), list(structured.stream_chat(ask))[-1]]
        assert [type(response.raw) for response in responses] == [Port] * 3
        assert type(structured.complete("Tell me of Brest.").raw) is Port
        assert [Port.model_validate_json(response.message.content) for response in responses] == [
            response.raw for response in responses
        ]
