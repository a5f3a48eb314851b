"""Rules of what runs beside an answer, and of how it ends early."""

from __future__ import annotations

import asyncio
import threading
from contextlib import nullcontext

import pytest
from llama_index.core.llms import ChatMessage

from tests.llama_index_contract.base import Subject
from tests.llama_index_contract.harness import ALL, CHAT, drain, recorded, text_of
from tests.llama_index_contract.replies import Reply

PATIENCE = 20.0  # seconds until what never ends is called hung
ASK = [ChatMessage("Count.")]
STREAMS = {
    "stream_chat": lambda llm: llm.stream_chat(ASK),
    "stream_complete": lambda llm: llm.stream_complete("Count."),
}
ASYNC_STREAMS = {
    "astream_chat": lambda llm: llm.astream_chat(ASK),
    "astream_complete": lambda llm: llm.astream_complete("Count."),
}


def ended(call):
    """Run a call in a thread; return what it raised, or fail if it hangs."""
    outcome = []

    def run():
        try:
            outcome.append((call(), None))
        except Exception as error:  # noqa: BLE001 - each LLM has its own type
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert outcome, "it hangs"
    return outcome[0]


class RunningRules(Subject):
    """Event loops, cancellation, failures and concurrency."""

    @pytest.mark.parametrize("endpoint", ["achat", "acomplete", "astream_chat", "astream_complete"])
    def test_the_event_loop_runs_while_the_model_does(self, endpoint):
        """Async endpoints are async: other tasks of the loop run many times before the answer is there."""
        llm, turns = self.llm(), 0
        llm.chat(ASK)  # loading may take as long as it likes

        async def answer():
            if endpoint == "achat":
                return await llm.achat(ASK)
            if endpoint == "acomplete":
                return await llm.acomplete("Count.")
            return await drain(ASYNC_STREAMS[endpoint](llm))

        async def main():
            nonlocal turns
            task = asyncio.create_task(answer())
            while not task.done():
                turns += 1
                await asyncio.sleep(0)
            await task

        asyncio.run(main())
        assert turns > 20

    @pytest.mark.parametrize("kept", [False, True], ids=["", "events kept"])
    @pytest.mark.parametrize("stream", STREAMS)
    def test_closing_a_stream_stops_the_model(self, stream, kept):
        """After `close()` nothing is computed, also where an event handler keeps the events and their tracebacks."""
        llm = self.saying(Reply(endless=True))
        with recorded() if kept else nullcontext():
            responses = STREAMS[stream](llm)
            next(responses)
            next(responses)
            responses.close()
            assert self.has_stopped(llm)

    @pytest.mark.parametrize("stream", STREAMS)
    def test_dropping_a_stream_stops_the_model(self, stream):
        """Leaving the loop that reads a stream stops the model."""
        llm = self.saying(Reply(endless=True))
        for _ in STREAMS[stream](llm):
            break
        assert self.has_stopped(llm)

    @pytest.mark.parametrize("kept", [False, True], ids=["", "events kept"])
    @pytest.mark.parametrize("stream", ASYNC_STREAMS)
    def test_closing_an_async_stream_stops_the_model(self, stream, kept):
        """After `aclose()` nothing is computed, also where an event handler keeps the events and their tracebacks."""
        llm = self.saying(Reply(endless=True))

        async def main():
            responses = await ASYNC_STREAMS[stream](llm)
            await anext(responses)
            await anext(responses)
            await responses.aclose()
            return await asyncio.to_thread(self.has_stopped, llm)

        with recorded() if kept else nullcontext():
            assert asyncio.run(main())

    @pytest.mark.parametrize("way", ["astream_chat", "astream_complete", "achat", "acomplete"])
    def test_cancelling_a_task_stops_the_model(self, way):
        """Cancelling the task that waits for an answer, or reads a stream, stops the model."""
        llm = self.saying(Reply(endless=True))

        async def main():
            begun = asyncio.Event()

            async def read():
                async for _ in await ASYNC_STREAMS[way](llm):
                    begun.set()

            async def wait():
                begun.set()
                await (llm.achat(ASK) if way == "achat" else llm.acomplete("Count."))

            task = asyncio.create_task(read() if way in ASYNC_STREAMS else wait())
            await begun.wait()
            if way not in ASYNC_STREAMS:
                await asyncio.to_thread(self.has_begun, llm)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await asyncio.to_thread(self.has_stopped, llm)

        assert asyncio.run(main())

    @pytest.mark.parametrize("endpoint", ALL)
    def test_a_failure_reaches_the_reader(self, endpoint):
        """A model that fails in the middle is an error or a new try on every endpoint, never a hang, never half an
        answer for a whole one; and the same object answers the next call."""
        llm = self.failing()
        first, first_error = ended(lambda: ALL[endpoint](llm, "Count."))
        second, error = ended(lambda: ALL[endpoint](llm, "Count."))
        assert error is None
        assert text_of(second[-1])
        assert first_error is not None or text_of(first[-1]) == text_of(second[-1])

    def test_calls_at_once_keep_their_answers_apart(self):
        """Eight calls at once, from tasks and from threads, are answered as they are one by one."""
        llm = self.llm()
        prompts = ["Hello", "What is 19 plus 23?", "Tell me a joke.", "Who are you?"] * 2
        alone = [text_of(CHAT["chat"](llm, prompt)[-1]) for prompt in prompts[:4]] * 2

        async def tasks():
            return await asyncio.gather(*(llm.achat([ChatMessage(prompt)]) for prompt in prompts))

        assert [text_of(response) for response in asyncio.run(tasks())] == alone
        answers: dict[int, str] = {}

        def ask(number):
            answers[number] = text_of(CHAT["chat"](llm, prompts[number])[-1])

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(prompts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert [answers[number] for number in range(len(prompts))] == alone
