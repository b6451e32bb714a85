"""Heads that find a line by its rank, wired before training starts.

A model of four small layers does not discover this circuit from games: it needs two heads at once,
each useless without the other, and a million examples do not form them. So a fresh model begins
with both, as one that was trained for longer would have them ("induction heads", arXiv 2209.11895):

- in the first layer, a head that brings to each token the nearest card named before it;
- in the second, a head that looks for an earlier token like its own which has a card before it, and
  proposes that card.

A line `07 owl` is then found by whoever says `owl`. Everything else is as drawn, training changes
the wired weights like all others, and nothing is wired about *when* to look or to write.
"""

import math
from typing import Any

import torch

from automem.errors import UsageError

_NEIGHBOURS = 4
"""Pairs of a head's dimensions that tell neighbours apart: the fastest."""
_SLOW = 0.01
"""Radians a token, below which a pair's dimensions tell what a token is, wherever it stands."""
_MARK, _BONUS = 4.0, 5.0


def wire_recall(model: Any, cards: list[int]) -> None:
    """Wire both heads of `model`, a fresh Qwen2; `cards`: ids of the tokens that name a card. Its
    random numbers are torch's own. UsageError: fewer than two layers or three heads."""
    config = model.config
    if config.num_hidden_layers < 2 or config.num_attention_heads < 3:
        raise UsageError(
            "shape.wired=true needs shape.layers of at least 2 and shape.heads of at least 3"
        )
    hidden, size = config.hidden_size, config.hidden_size // config.num_attention_heads
    half = size // 2
    theta = config.rope_parameters["rope_theta"]
    frequencies = [theta ** (-pair / half) for pair in range(half)]
    # Directions of the residual stream: that a token names a card, the card before a token, and
    # those in which tokens are compared.
    basis = torch.linalg.qr(torch.randn(hidden, hidden))[0].T
    mark, before, compared = basis[0], basis[1 : 1 + size], basis[1 + size :]
    # What of a card's embedding is carried; the last dimension says that there is a card at all.
    carried = torch.linalg.qr(torch.randn(hidden, size))[0].T
    carried -= (carried @ mark)[:, None] * mark
    carried[-1] = mark / 2
    flag = half - 1
    slow = [pair for pair in range(half - 1) if frequencies[pair] < _SLOW]
    slow += [half + pair for pair in slow]
    embeddings = model.model.embed_tokens.weight
    nearest, recall = (layer.self_attn for layer in model.model.layers[:2])
    with torch.no_grad():
        spread = float(embeddings.std())
        embeddings.sub_((embeddings @ mark)[:, None] * mark)
        embeddings[cards] += _MARK * spread * mark
        for layer in model.model.layers[:2]:
            layer.mlp.down_proj.weight.mul_(0.3)
        for own in (nearest, recall):
            for projection in (own.q_proj, own.k_proj, own.v_proj):
                projection.weight[:size] = 0
                projection.bias[:size] = 0
        # A query turned by one and a half tokens likes the last two tokens best, a card among them
        # far more than others.
        for pair in range(_NEIGHBOURS):
            nearest.k_proj.bias[pair] = _BONUS
            nearest.q_proj.bias[pair] = _BONUS * math.cos(1.5 * frequencies[pair])
            nearest.q_proj.bias[pair + half] = -_BONUS * math.sin(1.5 * frequencies[pair])
        nearest.k_proj.weight[flag] = 2 * mark
        nearest.q_proj.bias[flag] = _BONUS
        nearest.v_proj.weight[:size] = carried
        nearest.o_proj.weight[:, :size] = before.T
        # The same word, with a card before it; what is proposed is that card.
        alike = 2.3 * compared[: len(slow)]
        recall.q_proj.weight[slow] = alike
        recall.k_proj.weight[slow] = alike
        recall.k_proj.weight[flag] = 2 * before[-1]
        recall.q_proj.bias[flag] = _BONUS
        recall.v_proj.weight[: size - 1] = before[:-1]
        recall.o_proj.weight[:, : size - 1] = 6 * carried[:-1].T
        recall.o_proj.weight[:, size - 1] = 0
