"""Which tokens of a vocabulary control the conversation, and encoding that reads text which spells one as plain text.

Checkpoints differ in which of their added tokens they flag as special. Hermes 2 Pro Mistral does not flag
`<|im_start|>`; Hermes 2 Pro Llama 3, Hermes 3 and Qwen have `<tool_call>` as one token, some flagged and some not. What
counts here is what a token is for: a marker that ends or opens turns must never come from text, and a tag of the format
is text that the model writes and the parser reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer

from hermes_runtime.tags import REASONING, SCHEMA, TOOL_RESPONSE, TOOLS, call_words

_WORDS = "|".join([call_words(), TOOL_RESPONSE.name, TOOLS.name, SCHEMA.name, *REASONING])
_TAG = re.compile(rf"</?(?i:{_WORDS})>")
_NAMEABLE = re.compile(r"<[^<>\s|]+>")
_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


def control_tokens(tokenizer: Any) -> frozenset[str]:
    """Return the texts of the tokens that must come from no text: markers and padding, not the format's own tags.

    Args:
        tokenizer: A `transformers` tokenizer with a `tokenizers` backend.
    """
    named = {name for attribute in _NAMED if (name := getattr(tokenizer, attribute, None))}
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
    return frozenset(named) | frozenset(
        token.content
        for token in added
        if (token.special and not _TAG.fullmatch(token.content))
        or (token.content.startswith("<|") and token.content.endswith("|>"))
    )


def named_tokens(tokenizer: Any) -> frozenset[str]:
    """Return the texts of the tokens that llguidance takes for control tokens and that are text, such as tags.

    vLLM and SGLang let llguidance read the tokenizer; every added token of the form `<...>` can then be sampled only
    where a grammar names it.
    """
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
    return frozenset(t.content for t in added if _NAMEABLE.fullmatch(t.content)) - control_tokens(tokenizer)


def without_control_tokens(backend: Tokenizer, control: frozenset[str]) -> dict[str, Any]:
    """Return a tokenizer's description in which exactly the control tokens are special; see `plain_encoder`."""
    spec: dict[str, Any] = json.loads(backend.to_str())
    for token in spec["added_tokens"]:
        token["special"] = token["content"] in control
    return spec


def plain_encoder(spec: dict[str, Any]) -> Tokenizer:
    """Return a tokenizer that reads what spells a special token of its description as plain text."""
    encoder = Tokenizer.from_str(json.dumps(spec))
    encoder.encode_special_tokens = True
    return encoder


def without_prefix(spec: dict[str, Any], *parts: str) -> dict[str, Any]:
    """Copy a tokenizer's description without the space that SentencePiece puts before the first word of a text.

    Args:
        spec: The description.
        parts: Which of its parts are not to put one, of `normalizer` and `pre_tokenizer`.
    """
    return {**spec, **{part: _part_without_prefix(spec.get(part)) for part in parts}}


def _part_without_prefix(part: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if part is None or part["type"] == "Prepend":
        return None
    changed = dict(part)
    if "prepend_scheme" in part:
        changed["prepend_scheme"] = "never"
    for inner in ("normalizers", "pretokenizers"):
        if inner in part:
            kept = (_part_without_prefix(child) for child in part[inner])
            changed[inner] = [child for child in kept if child is not None]
    return changed
