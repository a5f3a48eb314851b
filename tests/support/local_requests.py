"""Requests to an engine that knows token ids only, one by one and as hypothesis draws them."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from hermes_runtime.grammar import build_grammar
from hermes_runtime.options.generation import SamplingParams
from tests.support.requests import generation_request

GREEDY, WARM = SamplingParams(temperature=0.0), SamplingParams(temperature=1.0)
RESHAPED = SamplingParams(
    temperature=0.0, frequency_penalty=0.7, presence_penalty=-0.3, logit_bias={500: 1.5, 501: -2.0, 13: 3.0}
)
WARM_RESHAPED = replace(RESHAPED, temperature=0.9, repetition_penalty=1.1)
TOOLS = [
    {
        "name": name,
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": ["Brest", "Lorient", "Roscoff"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
            },
            "required": ["city", "days"],
        },
    }
    for name in ("get_weather", "get_tide")
]
CALLS = build_grammar(TOOLS, tool_choice="any", max_calls=2).lark
PROMPT = (1, 1838, 13, 5365, 736)


def request(prompt=PROMPT, **options):
    return generation_request(tuple(prompt), **({"sampling": GREEDY, "max_tokens": 12} | options))


def ids_of(deltas):
    return tuple(token_id for delta in deltas for token_id in delta.ids)


# Few distinct ids, so that prompts share prefixes and repeat themselves.
PROMPTS = st.lists(st.integers(500, 505), min_size=1, max_size=60).map(lambda ids: (1, *ids))
REQUESTS = st.builds(
    request,
    PROMPTS,
    constraint=st.sampled_from([None, CALLS]),
    max_tokens=st.integers(1, 40),
    sampling=st.sampled_from(
        [GREEDY, WARM, SamplingParams(temperature=0.8, top_k=20, repetition_penalty=1.2), RESHAPED, WARM_RESHAPED]
    ),
    min_tokens=st.sampled_from([None, 1]),
    seed=st.integers(0, 3),
)
