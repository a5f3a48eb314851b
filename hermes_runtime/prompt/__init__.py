"""A conversation, its tools and its schema -> the token ids that a model reads."""

from hermes_runtime.prompt.build import TURN_END, TURN_START, ChatMLEncoder, Prompt, build_prompt, turns

__all__ = ["TURN_END", "TURN_START", "ChatMLEncoder", "Prompt", "build_prompt", "turns"]
