"""Rebuilds the tokenizer of Hermes 2 Pro Mistral 7B from the SentencePiece model that mistral-common ships."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mistral_common
from sentencepiece import SentencePieceProcessor
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

MODEL = Path(mistral_common.__file__).parent / "data" / "tokenizer.model.v1"
BOS, IM_END, IM_START = 1, 32000, 32001


def load_sentencepiece() -> SentencePieceProcessor:
    return SentencePieceProcessor(model_file=str(MODEL))


def load_mistral_tokenizer() -> PreTrainedTokenizerFast:
    """The published form: legacy prefix space, byte fallback, `<|im_start|>` not flagged as special."""
    pieces = load_sentencepiece()
    vocab = {pieces.id_to_piece(index): index for index in range(pieces.get_piece_size())}
    backend = Tokenizer(
        models.BPE(
            vocab, _merges(vocab, pieces.get_score), unk_token="<unk>", fuse_unk=True, byte_fallback=True, dropout=None
        )
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in ("<unk>", "<s>", "</s>")])
    backend.add_special_tokens([AddedToken("<|im_end|>", normalized=False, special=True)])
    backend.add_tokens([AddedToken("<|im_start|>", normalized=False)])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", BOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="<|im_end|>", unk_token="<unk>", pad_token="</s>"
    )


def _merges(vocab: dict[str, int], score: Callable[[int], float]) -> list[tuple[str, str]]:
    # A SentencePiece BPE model keeps no merge list: every split of a piece into two pieces is one, best score first.
    merges = []
    for piece, index in vocab.items():
        splits = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        pairs = [(left, right) for left, right in splits if left in vocab and right in vocab]
        merges += [(-score(index), vocab[left], vocab[right], left, right) for left, right in pairs]
    return [(left, right) for *_, left, right in sorted(merges)]
