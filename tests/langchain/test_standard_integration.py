"""LangChain's own integration suite against the embedded checkpoint: real weights, real tokens, nothing mocked."""

from __future__ import annotations

from tests.support.standard_suite import IntegrationSuite


class TestChatHermes(IntegrationSuite):
    """The suite as it is."""
