"""What teaches tiny-hermes to find the tool first: where guided heads shall look, and their loss."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch
from transformers import AutoTokenizer

from hermes_runtime.messages import Assistant, User
from tiny_hermes.conversations import conversations
from tiny_hermes.dataset import make_example
from tiny_hermes.evaluate import CHECKPOINT
from tiny_hermes.model import Batch, Shape, TinyMistral, looking_loss
from tiny_hermes.train import make_batch

GUIDES_OF_A_CALL = 4


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(CHECKPOINT)


@pytest.fixture(scope="module")
def examples(tokenizer):
    """(conversation, example) of those that have a choice of tools."""
    some = itertools.islice(conversations(11), 60)
    return [(c, make_example(c, tokenizer)) for c in some if len(c.tools) > 1]


def names_of_calls(conversation):
    return [call.name for m in conversation.messages if isinstance(m, Assistant) for call in m.calls]


def test_guides_stand_where_a_call_begins_and_before_its_name(examples, tokenizer):
    for conversation, example in examples:
        tokens = [tokenizer.decode([example.ids[guide.position]]) for guide in example.guides]
        assert len(tokens) == GUIDES_OF_A_CALL * len(names_of_calls(conversation))
        assert set(tokens[::GUIDES_OF_A_CALL]) <= {"<tool_call>\n"}
        assert set(tokens[1::GUIDES_OF_A_CALL]) <= {"{'arguments': {", '{"arguments": {'}
        assert set(tokens[3::GUIDES_OF_A_CALL]) <= {"}, 'name': '", '}, "name": "'}


def test_a_guide_knows_the_called_tool_and_an_example_every_description(examples, tokenizer):
    for conversation, example in examples:
        called = [name for name in names_of_calls(conversation) for _ in range(GUIDES_OF_A_CALL)]
        assert [conversation.tools[guide.tool].name for guide in example.guides] == called
        for tool, place in zip(conversation.tools, example.tools, strict=True):
            described = tokenizer.decode([example.ids[position] for position in place])
            assert described.startswith(f"{{'type': 'function', 'function': {{'name': '{tool.name}', ")
            assert described.count("'type': 'function'") == 1


def test_in_the_question_a_guide_points_at_words_that_only_the_called_tool_has(examples, tokenizer):
    for conversation, example in examples:
        questions = [message.text for message in conversation.messages if isinstance(message, User)]
        for guide in example.guides:
            words = {example.ids[position] for position in guide.asked}
            for number, place in enumerate(example.tools):
                described = {example.ids[position] for position in place}
                assert words <= described if number == guide.tool else words.isdisjoint(described)
            assert any(all(tokenizer.decode([word]) in question for word in words) for question in questions)
            assert all(position < guide.position for position in guide.asked)
    guides = [guide for _, example in examples for guide in example.guides]
    assert sum(bool(guide.asked) for guide in guides) > 0.8 * len(guides)


def test_looking_is_judged_as_causal_attention():
    """Against attention written out, for a batch of two."""
    torch.manual_seed(1)
    query, key = torch.randn(2, 2, 6, 8).double()
    right = torch.zeros(3, 6, dtype=torch.bool)
    right[0, [0, 2]] = right[2, 1:3] = True  # the second guide has nothing to look at

    def surprise(row, position, seen):
        scores = [math.exp(query[row, position] @ key[row, other] / 8**0.5) for other in range(position + 1)]
        return -math.log(sum(scores[other] for other in seen) / sum(scores))

    found = looking_loss(query, key, torch.tensor([3, 5, 6 + 2]), right)
    assert found.item() == pytest.approx((surprise(0, 3, [0, 2]) + surprise(1, 2, [1, 2])) / 2)


def test_without_guides_nothing_is_judged():
    nothing = torch.zeros(0, dtype=torch.long)
    assert looking_loss(torch.randn(1, 4, 8), torch.randn(1, 4, 8), nothing, torch.zeros(0, 4).bool()) == 0
    model = TinyMistral(Shape(vocabulary=64))
    batch = Batch(
        ids=torch.ones(1, 4, dtype=torch.long),
        rows=torch.tensor([2]),
        targets=torch.tensor([5]),
        weights=torch.ones(1),
        described=torch.full((1, 4), -1),
        starts=torch.zeros(1, 4).bool(),
        counting=nothing,
        guided=nothing,
        asked=torch.zeros(0, 4).bool(),
        called=nothing,
    )
    assert model(batch)[2] == 0


def test_guidance_teaches_which_tool_is_called(examples, tokenizer):
    """A model that learns from nothing but the guidance points at the tool, and knows its number there."""
    torch.manual_seed(2)
    model = TinyMistral(Shape(vocabulary=len(tokenizer)))
    chosen = [example for _, example in examples if len(example.ids) < 400 and example.guides][:2]
    batch = make_batch(chosen, random.Random(0), 16, 0.1)
    optimizer = torch.optim.AdamW(model.parameters(), 0.003)
    surprises = []
    for _ in range(40):
        guidance = model(batch)[2]
        guidance.backward()
        optimizer.step()
        optimizer.zero_grad()
        surprises.append(guidance.item())
    assert surprises[-1] < 0.3 * surprises[0]


def test_a_batch_keeps_guides_at_their_tokens(examples):
    chosen = [example for _, example in examples[:3]]
    batch = make_batch(chosen, random.Random(0), 200, 0.1)
    guides = [(row, guide) for row, example in enumerate(chosen) for guide in example.guides]
    assert len(guides) == len(batch.guided)
    for number, (row, guide) in enumerate(guides):
        assert divmod(batch.guided[number].item(), batch.ids.shape[1]) == (row, guide.position)
        assert batch.asked[number].nonzero().flatten().tolist() == guide.asked
        described = batch.described[row] == batch.called[number]
        assert described.nonzero().flatten().tolist() == list(chosen[row].tools[guide.tool])
    for row, example in enumerate(chosen):
        assert batch.starts[row].nonzero().flatten().tolist() == [0, *(place.start for place in example.tools)]
    assert all(batch.described.flatten()[place] >= 0 for place in batch.counting)
    decided = {place for place, weight in zip(batch.rows.tolist(), batch.weights.tolist(), strict=True) if weight > 1}
    assert decided <= set(batch.guided.tolist())
