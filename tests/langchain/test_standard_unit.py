"""LangChain's own unit suite for chat models."""

from __future__ import annotations

from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_hermes import ChatHermes


class TestChatHermes(ChatModelUnitTests):
    @property
    def chat_model_class(self):
        return ChatHermes

    @property
    def chat_model_params(self):
        return {"model": "tiny-hermes"}

    @property
    def init_from_env_params(self):
        # There is no key to read; what the environment can say is LangChain's own.
        return {"LC_OUTPUT_VERSION": "v1"}, self.chat_model_params, {"output_version": "v1"}
