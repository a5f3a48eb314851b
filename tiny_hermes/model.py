"""A plain Mistral decoder for training: weights of one kind stacked over the layers, no cache, full attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the name that torch's own documentation uses)

GROUP = 128


class Batch(NamedTuple):
    """What a step of training learns from.

    Attributes:
        ids: [batch, tokens], padded at the end.
        rows: [positions], indices into the flattened ids whose next token counts.
        targets: [positions], those next tokens.
        weights: [positions], how much each counts.
        described: [batch, tokens], the number of the tool that a token describes, -1 for none.
        starts: [batch, tokens], whether a tool's description, or the whole prompt, begins there.
        counting: [positions], indices into the flattened ids of tokens from which the starts shall be looked at.
        guided: [guides], indices into the flattened ids of the tokens of calls from which guided heads shall look.
        asked: [guides, tokens], whether each is a word of the question that tells which tool is meant.
        called: [guides], the number of the tool that is called.
    """

    ids: Tensor
    rows: Tensor
    targets: Tensor
    weights: Tensor
    described: Tensor
    starts: Tensor
    counting: Tensor
    guided: Tensor
    asked: Tensor
    called: Tensor


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the model. `hidden` and `feed_forward` are multiples of the quantization group.

    `guided` names the layers whose first heads are taught where to look; `tools` is how many there may be.
    """

    vocabulary: int
    layers: int = 7
    hidden: int = 256
    heads: int = 4
    feed_forward: int = 512
    guided: tuple[int, int] = (2, 3)
    tools: int = 4
    rope_theta: float = 10000.0
    norm_epsilon: float = 1e-5


def fake_quantize(weight: Tensor) -> Tensor:
    """Round to 4 bits with a zero point per group of 128 inputs; the gradient passes straight through.

    Args:
        weight: [..., out, in].
    """
    grouped = weight.view(*weight.shape[:-1], -1, GROUP)
    low = grouped.amin(-1, keepdim=True).clamp(max=0)
    high = grouped.amax(-1, keepdim=True).clamp(min=0)
    scale = (high - low).clamp(min=1e-6) / 15
    zero = torch.round(-low / scale)
    rounded = (torch.clamp(torch.round(grouped / scale) + zero, 0, 15) - zero) * scale
    straight: Tensor = weight + (rounded.flatten(-2) - weight).detach()
    return straight


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary position embeddings in Mistral's half-split form; `x` is [batch, heads, tokens, head]."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


class TinyMistral(nn.Module):
    """Mistral's arithmetic on stacked weights.

    `qkv` is [layers, 3, h, h], `out` [layers, h, h], `gate_up` [layers, 2, f, h], `down` [layers, h, f]; `numbers`
    [2, tools, h] is for training only.

    The arguments of a call stand before its name, so the tool must be known before the first argument is chosen. The
    loss of the text says so only through the names of arguments: left alone, a model guesses these by the type of a
    value. It is therefore taught the way: where a call begins, the first head of one layer looks at the words of the
    question that tell the tool, that of the next at the tool's description, whose tokens know by then which number
    their tool has, having looked at where descriptions begin; from there on the call knows it too.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        layers, hidden, feed_forward = shape.layers, shape.hidden, shape.feed_forward
        self.embedding = nn.Parameter(torch.randn(shape.vocabulary, hidden) * 0.02)
        self.qkv = nn.Parameter(torch.randn(layers, 3, hidden, hidden) * hidden**-0.5)
        self.out = nn.Parameter(torch.zeros(layers, hidden, hidden))
        self.gate_up = nn.Parameter(torch.randn(layers, 2, feed_forward, hidden) * hidden**-0.5)
        self.down = nn.Parameter(torch.zeros(layers, hidden, feed_forward))
        self.norms = nn.Parameter(torch.ones(2 * layers + 1, hidden))
        self.numbers = nn.Parameter(torch.zeros(2, shape.tools, hidden))

    def matrices(self) -> list[nn.Parameter]:
        """The weights that get quantized."""
        return [self.qkv, self.out, self.gate_up, self.down]

    def forward(self, batch: Batch, quantized: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return the weighted mean of losses, the unweighted loss of every position, and the mean loss of the guidance.

        Args:
            batch: What to learn from.
            quantized: Round the matrices to 4 bits.
        """
        guidance: list[Tensor] = []
        question, tool = self.shape.guided

        def guide(layer: int, query: Tensor, key: Tensor, x: Tensor) -> None:
            if layer == question:
                guidance.append(looking_loss(query, key, batch.guided, batch.asked))
                starts = batch.starts[batch.counting // x.shape[1]]
                guidance.append(looking_loss(query, key, batch.counting, starts))
                is_described = batch.described >= 0
                guidance.append(self.numbering_loss(0, x[is_described], batch.described[is_described]))
            elif layer == tool:
                right = batch.described[batch.guided // x.shape[1]] == batch.called[:, None]
                guidance.append(looking_loss(query, key, batch.guided, right))
                guidance.append(self.numbering_loss(1, x.flatten(0, 1)[batch.guided], batch.called))

        hidden = self.hidden(batch.ids, quantized, guide)
        losses = F.cross_entropy(hidden.flatten(0, 1)[batch.rows] @ self.embedding.T, batch.targets, reduction="none")
        weighted = (losses * batch.weights).sum() / batch.weights.sum()
        return weighted, losses, torch.stack(guidance).mean()

    def numbering_loss(self, reader: int, x: Tensor, numbers: Tensor) -> Tensor:
        """Return the mean surprise at the numbers of tools, read linearly from states [positions, hidden]."""
        scores = normalized(x, self.shape.norm_epsilon) @ self.numbers[reader].T
        return F.cross_entropy(scores, numbers, reduction="sum") / max(1, len(numbers))

    def hidden(
        self, ids: Tensor, quantized: bool = False, guide: Callable[[int, Tensor, Tensor, Tensor], None] | None = None
    ) -> Tensor:
        """Return the normalized final states [batch, tokens, hidden].

        `guide` is given for each layer its number, queries and keys [batch, tokens, head] of its first head, and the
        states that it returns.
        """
        shape = self.shape
        tokens = ids.shape[1]
        head = shape.hidden // shape.heads
        convert: Callable[[Tensor], Tensor] = fake_quantize if quantized else (lambda weight: weight)
        frequencies = shape.rope_theta ** (-torch.arange(0, head, 2, device=ids.device).float() / head)
        angles = torch.outer(torch.arange(tokens, device=ids.device).float(), frequencies)
        cos, sin = torch.cat((angles, angles), -1).cos(), torch.cat((angles, angles), -1).sin()
        x = F.embedding(ids, self.embedding)
        for layer in range(shape.layers):
            qkv = self.norm(x, 2 * layer) @ convert(self.qkv[layer]).flatten(0, 1).T
            q, k, v = (part.view(*ids.shape, shape.heads, head).transpose(1, 2) for part in qkv.chunk(3, -1))
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            mixed = attended.transpose(1, 2).flatten(2)
            x = x + mixed @ convert(self.out[layer]).T
            gate, up = (self.norm(x, 2 * layer + 1) @ convert(self.gate_up[layer]).flatten(0, 1).T).chunk(2, -1)
            x = x + (F.silu(gate) * up) @ convert(self.down[layer]).T
            if guide:
                guide(layer, q[:, 0], k[:, 0], x)
        return self.norm(x, 2 * shape.layers)

    def norm(self, x: Tensor, index: int) -> Tensor:
        """Apply the RMS norm of that index."""
        return normalized(x, self.shape.norm_epsilon) * self.norms[index]


def normalized(x: Tensor, epsilon: float) -> Tensor:
    """Divide by the root of the mean square."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon)


def looking_loss(query: Tensor, key: Tensor, guided: Tensor, right: Tensor) -> Tensor:
    """Return the mean surprise at where a head looks, over the tokens that have something right to look at.

    Args:
        query: [batch, tokens, head].
        key: As `query`.
        guided: See `Batch`.
        right: [guides, tokens], what shall be looked at.
    """
    tokens = query.shape[1]
    taught = right.any(-1)
    right, guided = right[taught], guided[taught]
    scores = torch.einsum("nh,nth->nt", query.flatten(0, 1)[guided], key[guided // tokens]) * query.shape[-1] ** -0.5
    later = torch.arange(tokens, device=key.device) > (guided % tokens)[:, None]
    scores = scores.masked_fill(later, -torch.inf)
    losses = scores.logsumexp(-1) - scores.masked_fill(~right, -torch.inf).logsumexp(-1)
    mean: Tensor = losses.sum() / max(1, len(losses))
    return mean


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalized by a Newton-Schulz iteration (Jordan et al., 2024).

    Args:
        params: Weights [..., rows, columns].
        lr: Learning rate.
        momentum: Decay of the running gradient.
        part: This process's number and the number of processes, each of which orthogonalizes its share of the matrices.
        add_up: Adds a tensor up over the processes, in place.
    """

    def __init__(
        self,
        params: list[nn.Parameter],
        lr: float,
        *,
        momentum: float = 0.95,
        part: tuple[int, int] = (0, 1),
        add_up: Callable[[Tensor], Any] = lambda _: None,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})
        self._part = part
        self._add_up = add_up

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # no closure is needed
        """Update the weights."""
        assert closure is None
        rank, parts = self._part
        for group in self.param_groups:
            updates = []
            for weight in group["params"]:
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                update = weight.grad.lerp(state["momentum"], group["momentum"]).flatten(0, -3)
                mine = torch.zeros_like(update)
                mine[rank::parts] = orthogonalize(update[rank::parts])
                updates.append(mine.flatten())
            flat = torch.cat(updates)
            self._add_up(flat)
            for weight, update in zip(group["params"], torch.split(flat, [u.numel() for u in updates]), strict=True):
                gain = max(1.0, weight.shape[-2] / weight.shape[-1]) ** 0.5
                weight.add_(update.view_as(weight), alpha=-group["lr"] * gain)


def orthogonalize(stack: Tensor, steps: int = 5) -> Tensor:
    """Push the singular values of every matrix of a stack [n, rows, columns] towards 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = stack.shape[-2] > stack.shape[-1]
    x = stack.transpose(-1, -2) if tall else stack
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(-1, -2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    flat: Tensor = x.transpose(-1, -2) if tall else x
    return flat
