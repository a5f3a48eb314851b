"""A random two-layer Mistral with the real tokenizer: the worst model there is, but a whole one."""

from __future__ import annotations

import torch
from transformers import MistralConfig, MistralForCausalLM

from hermes_runtime.options.generation import SamplingParams
from hermes_runtime.weights.loader import LoadedCheckpoint
from tests.support.mistral import IM_END

COLUMNS = 32032  # the real checkpoint's logits are wider than its tokenizer's 32002 ids


def small_config(**changes):
    options = {
        "vocab_size": COLUMNS,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "sliding_window": None,
        "bos_token_id": 1,
        "eos_token_id": IM_END,
    }
    return MistralConfig(**(options | changes))


def small_model(seed=0, **changes):
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = MistralForCausalLM(small_config(**changes)).eval()
    torch.random.set_rng_state(generator_state)
    return model


def small_checkpoint(tokenizer, *, context_window=512, defaults=None, **changes):
    return LoadedCheckpoint(
        model=small_model(**changes),
        tokenizer=tokenizer,
        name="small",
        folder=None,
        generation_defaults=defaults or SamplingParams(temperature=0.0),
        eos_ids=(IM_END,),
        context_window=context_window,
        kernel="dense",
        device="cpu",
    )
