"""What of a checkpoint can be used without its weights: tokenizer, ids that end a turn, sampling defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from hermes_runtime.checkpoint.folder import read_config, read_json
from hermes_runtime.checkpoint.hub import find_folder
from hermes_runtime.errors import CheckpointError, InvalidRequestError
from hermes_runtime.options.generation import SamplingParams


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The small files of a checkpoint.

    Attributes:
        tokenizer: The checkpoint's own.
        generation: generation_config.json, or what config.json says in its place.
        generation_defaults: What it says of sampling; every option is set.
        eos_ids: Ids that end a turn.
        folder: Where the files are.
    """

    tokenizer: PreTrainedTokenizerBase
    generation: GenerationConfig
    generation_defaults: SamplingParams
    eos_ids: tuple[int, ...]
    folder: Path


def load_vocabulary(model: str) -> Vocabulary:
    """Read the small files of a model; of a hub id nothing else is downloaded.

    Args:
        model: A local folder, a hub id, or "tiny-hermes".

    Raises:
        ModelNotFoundError: `model` names nothing that can be found.
        CheckpointError: A file is missing or cannot be used.
    """
    folder = find_folder(model, weights=False)
    return read_vocabulary(model, folder, read_config(folder))


def read_vocabulary(name: str, folder: Path, config: Mapping[str, Any]) -> Vocabulary:
    """Read the small files of a checkpoint that was found.

    Args:
        name: What the user called it.
        folder: Where its files are.
        config: Its config.json.

    Raises:
        CheckpointError: A file is missing or cannot be used.
    """
    tokenizer = _tokenizer(name, folder)
    generation = _generation_config(folder, config)
    ends = (generation.eos_token_id, config.get("eos_token_id"), tokenizer.eos_token_id)
    return Vocabulary(tokenizer, generation, _sampling_defaults(generation), _flat(ends), folder)


def _tokenizer(name: str, folder: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:
        raise CheckpointError(
            f"{name!r} has no usable tokenizer (tokenizer.json or tokenizer.model): {error}"
        ) from error
    return tokenizer


def _generation_config(folder: Path, config: Mapping[str, Any]) -> GenerationConfig:
    path = folder / "generation_config.json"
    values = (
        read_json(path)
        if path.is_file()
        else {name: config.get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    )
    try:
        return GenerationConfig.from_dict(values)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be used: {error}") from error


def _sampling_defaults(generation: GenerationConfig) -> SamplingParams:
    def stated(name: str, neutral: float) -> Any:
        value = getattr(generation, name, None)
        return neutral if value is None else value

    try:
        return SamplingParams(
            temperature=stated("temperature", 1.0) if generation.do_sample else 0.0,
            top_p=stated("top_p", 1.0),
            top_k=stated("top_k", 0),
            min_p=stated("min_p", 0.0),
            repetition_penalty=stated("repetition_penalty", 1.0),
        )
    except InvalidRequestError as error:
        raise CheckpointError(f"generation_config.json of the checkpoint is not usable: {error}") from error


def _flat(stated: tuple[Any, ...]) -> tuple[int, ...]:
    ids: list[int] = []
    for value in stated:
        ids += value if isinstance(value, list) else [] if value is None else [value]
    return tuple(dict.fromkeys(ids))
