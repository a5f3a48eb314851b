"""HermesLLM keeps every rule of the suite."""

from __future__ import annotations

from typing import Any

from llama_index_hermes import HermesLLM
from tests.llama_index_contract.hermes import HermesContract, HermesSubject
from tests.llama_index_contract.streams import StreamRules


class TestHermes(HermesContract):
    """On tiny-hermes, and on replies of every form."""


class TestWhatTinyHermesSays(HermesSubject, StreamRules):
    """Its streams, over what the embedded checkpoint itself answers, as for an LLM that cannot be scripted."""

    scriptable = False
    thinks = False

    def llm(self, **options: Any) -> HermesLLM:
        return super().llm(**{"max_tokens": 24, **options})
