"""Local Hermes models as LlamaIndex LLMs: `HermesLLM`; and `HermesOutputParser` for text in their format."""

from hermes_runtime import __version__
from llama_index_hermes._errors import NoToolCallError, StructuredOutputError
from llama_index_hermes.base import HermesLLM
from llama_index_hermes.output_parser import HermesOutputParser

__all__ = ["HermesLLM", "HermesOutputParser", "NoToolCallError", "StructuredOutputError", "__version__"]
