"""Builds tiny-hermes's tokenizer: a small byte-level BPE in which a value has the same tokens wherever it stands.

Merges stay within a run of letters of one case pattern or a run of punctuation and spaces, and digits stand alone.
A value between spaces in a question and the same value between quotes in a call are therefore the same tokens, so the
model can copy. What the prompt format fixes, and the commonest little words, are single added tokens.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from hermes_runtime.dialects.hermes2pro import CARD
from hermes_runtime.messages import Assistant, User
from tiny_hermes.conversations import Conversation, conversations

BASE_VOCABULARY = 2048
CONTEXT_WINDOW = 8192
UNKNOWN, BEGIN, END, TURN_END, TURN_START = SPECIAL_TOKENS = ("<unk>", "<s>", "</s>", "<|im_end|>", "<|im_start|>")
TOOL_START, CALL_START = "{'type': 'function', 'function': {'name': '", "<tool_call>\n"
NAME_STARTS = ("}, 'name': '", '}, "name": "')

_ALONE = r"\-#@/$%+*=~^&\\|<>_"
_PIECES = rf"\p{{Lu}}?\p{{Ll}}+|\p{{Lu}}+(?!\p{{Ll}})|\p{{L}}|\p{{N}}|[{_ALONE}]|[^\p{{L}}\p{{N}}{_ALONE}]+"

_TYPES = ("string", "integer", "number", "boolean")
_LITTLE_WORDS = (
    *(" the ", " of ", " for ", " in ", " to ", " and ", " with ", " is ", " a ", " at ", " on ", " from "),
    *(" of the ", " for the ", " in the ", " is the ", " a given ", " where ", " two ", " called "),
)


def fixed_phrases() -> list[str]:
    """Return the texts that become one added, non-special token each."""
    preamble = re.findall(r"[^.]+?(?:\. |: <tools> )", CARD.before_tools)
    ending = re.split(r"(?<=make: )|(?<=follows:\n)", CARD.after_tools)
    python = [
        *(TOOL_START, "', 'description': '", "', 'parameters': {'properties': {"),
        *("', 'parameters': {'type': 'object', 'properties': {", "\", 'parameters': {'properties': {", "'required': ["),
        *(
            "}, 'required': ['",
            "], 'type': 'object'}}}",
            "}, 'type': 'object'}}}",
            "'enum': [",
            "'default': ",
            "'title': '",
        ),
        *(
            "{'title': '",
            "{'description': '",
            "'additionalProperties': ",
            "{'enum': [",
            "': {'title': '",
            "'description': '",
        ),
        *(f"': {{'type': '{kind}'}}" for kind in _TYPES),
        *(f"': {{'type': '{kind}'" for kind in _TYPES),
        *(f"', 'type': '{kind}'}}" for kind in _TYPES),
        *(f"'type': '{kind}'" for kind in _TYPES),
        *(") -> str\\n", ") -> dict\\n", ") -> int\\n", ") -> float\\n", "\\n\\n    Args:", "\\n        "),
    ]
    calls = [CALL_START, "\n</tool_call>", "{'arguments': {", '{"arguments": {', *NAME_STARTS]
    results = ['<tool_response>\n{"name": "', '", "content": ', "}\n</tool_response>\n"]
    json_mode = [
        *CARD.schema_prompt({"?": 0}).split('{"?": 0}'),
        *(
            '{"properties": {"',
            '"properties": {"',
            '"required": ["',
            '"title": "',
            '": {"title": "',
            '"type": "object"',
        ),
        *(f'": {{"type": "{kind}"}}' for kind in _TYPES),
        *(f'", "type": "{kind}"}}' for kind in _TYPES),
    ]
    return [
        *preamble,
        *ending,
        *python,
        *calls,
        *results,
        *json_mode,
        "user\n",
        "assistant\n",
        "system\n",
        "tool\n",
        *_LITTLE_WORDS,
    ]


def _texts(conversation: Conversation) -> Iterator[str]:
    if conversation.tools:
        yield CARD.tools_prompt(conversation.tools)
    if conversation.schema:
        yield json.dumps(conversation.schema)
    for index, message in enumerate(conversation.messages):
        if isinstance(message, Assistant):
            yield conversation.assistant_text(index)
        elif isinstance(message, User):
            yield message.text


def build_tokenizer(*, seed: int = 0, samples: int = 5000) -> Tokenizer:
    """Train the merges on synthetic conversations and add the fixed phrases.

    Returns:
        A tokenizer that puts one BOS before a text and loses nothing of it, whatever its script.
    """
    phrases = fixed_phrases()
    split = re.compile("|".join(re.escape(phrase) for phrase in sorted(phrases, key=len, reverse=True)))
    sample = itertools.islice(conversations(seed), samples)
    corpus = (piece for conversation in sample for text in _texts(conversation) for piece in split.split(text))
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BASE_VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=14,
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_tokens([AddedToken(phrase, normalized=False, special=False) for phrase in phrases])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A $B", special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))]
    )
    return tokenizer


_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the files that `AutoTokenizer.from_pretrained` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos_token": BEGIN, "eos_token": TURN_END, "unk_token": UNKNOWN, "pad_token": END}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT_WINDOW,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
        **special,
        "chat_template": _CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
