"""A conversation, its tools and its schema -> the token ids that a model reads."""

from hermes_runtime.prompt.build import Prompt, build_prompt
from hermes_runtime.prompt.chatml import ChatMLEncoder
from hermes_runtime.prompt.turns import turns

__all__ = ["ChatMLEncoder", "Prompt", "build_prompt", "turns"]
