"""HermesLLM as the suite wants an LLM: over the embedded checkpoint, and over an engine that says what a test wrote."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, ClassVar

from pydantic import PrivateAttr

from hermes_runtime.engines.base import Engine, GenerationRequest
from hermes_runtime.engines.streams.channel import StreamedGeneration
from hermes_runtime.errors import EngineError
from llama_index_hermes import HermesLLM
from tests.llama_index_contract import LLMContract, Reply
from tests.llama_index_contract.base import Subject
from tests.llama_index_contract.replies import Call
from tests.support.failures import FORESEEN, failing
from tests.support.mistral import load_mistral_tokenizer
from tests.support.scripted_engine import ScriptedEngine

_tokenizer = cache(load_mistral_tokenizer)
_STALLS_AFTER = 4


class ScriptedLLM(HermesLLM):
    """HermesLLM over a scripted engine."""

    _scripted: ScriptedEngine = PrivateAttr()

    @property
    def scripted(self) -> ScriptedEngine:
        """The engine."""
        return self._scripted

    def _load(self, max_retries: int | None = None) -> Engine:
        return self._scripted

    def _find_tokenizer(self) -> Any:
        return self._scripted.tokenizer


class FailingEngine(ScriptedEngine):
    """Fails in the middle of its first answer."""

    def submit(self, request: GenerationRequest) -> StreamedGeneration:
        """Start a reply; break the first one off."""
        generation = super().submit(request)
        if not self.is_resumed:
            self.runs[0].wait_stalled()
            self.runs[0].channel.fail(EngineError("the device was lost"))
            self.resume()
        return generation


class HermesSubject(Subject):
    """HermesLLM on tiny-hermes, and on replies of every form."""

    tested: ClassVar[type[HermesLLM]] = HermesLLM
    scripted: ClassVar[type[ScriptedLLM]] = ScriptedLLM
    scriptable = True
    thinks = True
    failures = (*FORESEEN, "ValueError")
    logprobs = {"logprobs": True, "top_logprobs": 2}  # noqa: RUF012 - as declared

    def llm(self, **options: Any) -> HermesLLM:
        return self.tested(**{"model": "tiny-hermes", "temperature": 0, "max_tokens": 100, **options})

    def saying(self, *replies: Reply, **options: Any) -> ScriptedLLM:
        stall = _STALLS_AFTER if any(reply.endless for reply in replies) else None
        waiting = list(reversed(replies))
        engine = ScriptedEngine(_tokenizer(), lambda prompt: text_of(waiting.pop(), prompt), pause_after=stall)
        if replies and replies[-1].is_cut:
            # The engine ends a reply by itself only where the limit does not.
            options["max_tokens"] = len(_tokenizer().encode(text_of(replies[-1]), add_special_tokens=False))
        return self._over(engine, **options)

    def shown(self, llm: ScriptedLLM) -> list[str]:
        return llm.scripted.prompts

    def has_begun(self, llm: ScriptedLLM) -> None:
        llm.scripted.wait_requests(1)
        llm.scripted.runs[0].wait_stalled()

    def has_stopped(self, llm: ScriptedLLM) -> bool:
        llm.scripted.runs[0].wait_ended()
        return llm.scripted.runs[0].finish_reason == "cancelled"

    def failing(self) -> ScriptedLLM:
        return self._over(FailingEngine(_tokenizer(), lambda _: "one two three four five", pause_after=2))

    def refusing(self, failure: str) -> ScriptedLLM:
        return self._over(ScriptedEngine(_tokenizer(), failing(failure)))

    def _over(self, engine: ScriptedEngine, **options: Any) -> ScriptedLLM:
        llm = self.scripted(model="scripted", **options)
        llm._scripted = engine
        return llm


class HermesContract(HermesSubject, LLMContract):
    """The suite on HermesLLM."""


def text_of(reply: Reply, prompt: str = "") -> str:
    """Return a reply in the Hermes format, names first, so that arguments are streamed whatever else may be called."""
    if reply.endless:
        return "one two three four five six seven eight nine ten"
    if reply.value is not None:
        tool = re.search(r"<tools>.*?'name': '(\w+)'", prompt, re.DOTALL)
        return _called(Call(tool[1], reply.value)) if tool else json.dumps(reply.value, ensure_ascii=False)
    thinking = f"<scratch_pad>\n{reply.thinking}\n</scratch_pad>\n" if reply.thinking else ""
    parts = [thinking + reply.text]
    parts += map(_called, reply.calls)
    return "".join(parts)


def _called(call: Call) -> str:
    begun = f'<tool_call>\n{{"name": {json.dumps(call.name, ensure_ascii=False)}, "arguments": {call.text}'
    return f"{begun}}}\n</tool_call>" if call.broken_off is None else begun.rstrip()
