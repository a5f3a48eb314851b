"""What a turn may be, told by a tokenizer of single bytes: a text is accepted or it is not."""

from __future__ import annotations

import json
from typing import Any

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from hermes_runtime.grammar import build_grammar
from hermes_runtime.messages import ToolSpec

END = 256


class _Bytes:
    eos_token_id = END
    bos_token_id = None
    tokens = (*(bytes([value]) for value in range(256)), b"<end>")
    special_token_ids = (END,)

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


TOKENIZER = LLTokenizer(TokenizerWrapper(_Bytes()))


def accepts(text: str, tools: Any = (), **options: Any) -> bool:
    """Whether a whole turn may be `text`."""
    return matches(build_grammar(tools, **options).lark, text)


def matches(lark: str, text: str) -> bool:
    matcher = LLMatcher(TOKENIZER, lark, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    ids = list(text.encode())
    return matcher.try_consume_tokens(ids) == len(ids) and (matcher.is_stopped() or matcher.is_accepting())


def dumps(value: Any) -> str:
    """JSON as the grammar writes it: raw Unicode, but DEL escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def allows(schema: dict[str, Any], value: Any) -> bool:
    """Whether a tool of this schema may be called with `value`."""
    call = dumps({"arguments": value, "name": "f"})
    return accepts(f"<tool_call>\n{call}\n</tool_call>", [ToolSpec("f", "", schema)], tool_choice="required")
