"""A conformance suite for LlamaIndex LLMs. Point it at yours with one class:

    from tests.llama_index_contract import LLMContract

    class TestMyLLM(LLMContract):
        def llm(self, **options):
            return MyLLM(model="...", temperature=0, **options)

and run pytest on that file. Every test is a rule, which its docstring states; rules for what the LLM does not offer are
skipped. Further methods and switches of `LLMContract` give the suite more to work with, above all `saying`: an LLM
whose model says what the test wrote down.

The folder needs llama-index-core, pytest and hypothesis, and nothing else of this project except in its own tests.
"""

import pytest

# The rules stand in modules that pytest would not otherwise rewrite, and a failed rule has to say what it saw.
for _room in ("accounting", "agents", "failures", "history", "lost", "running", "streams", "structured", "tools"):
    pytest.register_assert_rewrite(f"{__name__}.{_room}")

from tests.llama_index_contract.contract import LLMContract  # noqa: E402
from tests.llama_index_contract.replies import Call, Reply  # noqa: E402

__all__ = ["Call", "LLMContract", "Reply"]
