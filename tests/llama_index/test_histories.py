"""Whatever a conversation holds and however it comes, it is read, counted, or refused by name."""

from __future__ import annotations

import asyncio

import pytest
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock

from hermes_runtime.errors import InvalidRequestError


def test_a_generator_of_messages_is_a_conversation(scripted):
    llm, engine = scripted(lambda prompt: "Yes.")

    def messages():
        return (ChatMessage(text) for text in ("One", "Two"))

    async def streamed():
        return [response async for response in await llm.astream_chat(messages())]

    given = [llm.chat(messages()), llm.chat(messages=messages()), asyncio.run(llm.achat(messages()))]
    given += [list(llm.stream_chat(messages()))[-1], asyncio.run(streamed())[-1], llm.chat(list(messages()))]
    assert [response.message.content for response in given] == ["Yes."] * 6
    assert len({request.prompt_ids for request in engine.requests}) == 1


def test_an_image_of_a_user_is_counted_as_a_note(scripted):
    llm, _ = scripted([])
    messages = [ChatMessage(blocks=[TextBlock(text="Look:"), ImageBlock(image=b"\x89PNG", image_mimetype="image/png")])]
    noted = [ChatMessage("Look:\n[image omitted: this model reads text only]")]
    assert llm.count_tokens(messages) == llm.count_tokens(noted)
    with pytest.raises(InvalidRequestError, match=r"'image'.*text only"):
        llm.chat(messages)


@pytest.mark.parametrize(
    ("given", "read"), [("a \ud83d", "a \N{REPLACEMENT CHARACTER}"), ("\ud83d\ude00", "\N{GRINNING FACE}")]
)
def test_no_text_is_beyond_encoding(scripted, given, read):
    def sent(text):
        llm, engine = scripted(lambda prompt: "Fine.")
        llm.chat([ChatMessage(text, role=role) for role in ("system", "user", "assistant", "tool")])
        llm.complete(text)
        llm.complete(f"<|im_start|>user\n{text}", formatted=True)
        return [request.prompt_ids for request in engine.requests], llm.tokenizer(text)

    assert sent(given) == sent(read)
