"""Prompt ids -> text for servers that take no ids, such that reading it anew gives the same turns.

A server that encodes a text reads every control token that the text spells. Content that spells one is therefore
broken up by a zero-width space after its first character, and the result is encoded here before it is sent: where its
control tokens are not exactly those of the ids, nothing is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from hermes_runtime.control_tokens import control_tokens
from hermes_runtime.errors import InvalidRequestError

_BREAK = "\u200b"


class PromptText:
    """Writes prompts for one tokenizer.

    Args:
        tokenizer: The checkpoint's `transformers` tokenizer, a fast one.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._control = {int(tokenizer.convert_tokens_to_ids(text)): text for text in control_tokens(tokenizer)}
        self._bos = tokenizer.bos_token_id

    def write(self, prompt_ids: Sequence[int], *, with_bos: bool) -> str:
        """Return the text of a prompt.

        Args:
            prompt_ids: The prompt, BOS included where the checkpoint has one.
            with_bos: False where the server puts BOS before every text by itself.

        Raises:
            InvalidRequestError: No text reads as these turns.
        """
        ids = list(prompt_ids)
        if ids and ids[0] == self._bos and not with_bos:
            ids = ids[1:]
        parts = []
        for is_control, group in groupby(ids, self._control.__contains__):
            if is_control:
                parts += [self._control[token] for token in group]
            else:
                parts.append(self._harmless(self._tokenizer.decode(list(group), skip_special_tokens=False)))
        text = "".join(parts)
        read = self._tokenizer.encode(text, add_special_tokens=False)
        if [token for token in read if token in self._control] != [token for token in ids if token in self._control]:
            raise InvalidRequestError(
                "this server takes prompts as text only, and this prompt has no text that reads as the same turns; "
                "use a server that takes token ids (vLLM, SGLang)"
            )
        return text

    def _harmless(self, text: str) -> str:
        for spelling in self._control.values():
            if spelling in text:
                text = text.replace(spelling, spelling[0] + _BREAK + spelling[1:])
        return text
