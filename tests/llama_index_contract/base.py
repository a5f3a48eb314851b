"""What an LLM has to tell the suite of itself."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from llama_index.core.llms import LLM

from tests.llama_index_contract.replies import Reply


class Subject:
    """The LLM under test; `llm` is all that is needed.

    Attributes:
        scriptable: `saying` works. Otherwise rules about what a stream does to an answer are tested on what `llm`
            answers, and rules that need a certain answer are skipped.
        thinks: A `Reply` with `thinking` can be said, and comes as `ThinkingBlock`.
        calls_tools: It is a `FunctionCallingLLM`.
        max_tokens: Name of the call option that bounds the answer's length; None where there is none.
        logprobs: Call options that ask for log-probabilities; None where there are none.
        failures: What `refusing` can make go wrong, by any names.
        secrets: Strings, among the options that `llm` gives, that must not show in events.
    """

    scriptable: ClassVar[bool] = False
    thinks: ClassVar[bool] = False
    calls_tools: ClassVar[bool] = True
    max_tokens: ClassVar[str | None] = "max_tokens"
    logprobs: ClassVar[dict[str, Any] | None] = None
    failures: ClassVar[tuple[str, ...]] = ()
    secrets: ClassVar[tuple[str, ...]] = ()

    def llm(self, **options: Any) -> LLM:
        """Return the LLM over a real model, decoding greedily, with short answers, and with these fields of `LLM` set.

        The suite sets `system_prompt`, `callback_manager`, `pydantic_program_mode` and `context_window`; the last
        together with whatever makes the backend keep to it.
        """
        raise NotImplementedError("an LLM to be tested is needed: def llm(self, **options): return MyLLM(...)")

    def saying(self, *replies: Reply, **options: Any) -> LLM:
        """Return the LLM over a fake model that gives these replies, one per request, whatever it is asked.

        Calls with `broken_off` are written in a form that streams the arguments as they come.
        """
        pytest.skip("its model cannot be scripted here")

    def shown(self, llm: LLM) -> list[str]:
        """Return what each request to `saying`'s model said, as the text or the JSON that reached it."""
        pytest.skip("what reaches its model cannot be seen here")

    def has_stopped(self, llm: LLM) -> bool:
        """Wait until nothing is computed for an LLM; return whether it was stopped before its reply was over."""
        pytest.skip("whether its model computes cannot be seen here")

    def has_begun(self, llm: LLM) -> None:
        """Wait until `saying`'s model computes."""
        pytest.skip("whether its model computes cannot be seen here")

    def failing(self) -> LLM:
        """Return the LLM over a model that fails in the middle of its first answer, and works from then on."""
        pytest.skip("its model cannot be made to fail here")

    def refusing(self, failure: str) -> LLM:
        """Return the LLM over a model whose every request fails in this way of `failures`, without a further try."""
        raise NotImplementedError(f"failures names {failure!r}: def refusing(self, failure): return MyLLM(...)")

    def answering(self, reply: Reply) -> LLM:
        """Return an LLM that gives this reply if it can be told to, and otherwise its own."""
        return self.saying(reply) if self.scriptable else self.llm()

    def need_tools(self) -> None:
        """Skip a rule about tools where there are none."""
        if not self.calls_tools:
            pytest.skip("it calls no tools")
