"""The name under which LangChain knows these models."""

PROVIDER = "hermes"
