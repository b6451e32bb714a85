"""Sampling by counter: a draw is a function of (seed, step) and never of the batch.

Promise: the uniform number behind token `step` of a call depends on the call's seed alone, and the
token is its inverse image under the call's own distribution; so a call retried, replayed, or run in
other company draws the same. Log-probabilities are those of the distribution that was sampled:
after temperature, after top-p; 0.0 for greedy tokens, whose distribution is one point.
"""

import numpy as np
import torch

# Constants of SplitMix64 (Steele, Lea, Flood 2014), a bijective mixer of 64-bit counters.
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_UNIT = 2.0**-52


def _mix(counter: np.ndarray) -> np.ndarray:
    counter = (counter ^ (counter >> np.uint64(30))) * _MIX_1
    counter = (counter ^ (counter >> np.uint64(27))) * _MIX_2
    return counter ^ (counter >> np.uint64(31))


def uniforms(seeds: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1), float64, from `seeds` and `steps` (both uint64, same shape).

    52 bits: scaled by any total of probabilities, the product stays below that total.
    """
    mixed = _mix(_mix(seeds + _GAMMA) + steps * _GAMMA)
    return (mixed >> np.uint64(12)).astype(np.float64) * _UNIT


def sample(
    logits: torch.Tensor,
    uniform: torch.Tensor,
    temperature: torch.Tensor,
    top_p: torch.Tensor | None,
    greedy: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token a row: ids (int64) and natural log-probabilities (float64), both [rows].

    `logits` [rows, vocabulary]; `uniform` float64 [rows]; `temperature` float32 [rows, 1], above 0;
    `top_p` float32 [rows, 1] or None where no row cuts; `greedy` bool [rows] or None where none is.
    A row's answer does not depend on the other rows; where its logits are no numbers, its
    log-probability is none either.
    """
    probabilities = torch.softmax(logits.float() / temperature, dim=-1)
    if top_p is not None:
        probabilities = _nucleus(probabilities, top_p)
    cumulative = torch.cumsum(probabilities, dim=-1, dtype=torch.float64)
    total = cumulative[:, -1]
    tokens = torch.searchsorted(cumulative, (uniform * total).unsqueeze(1), right=True)
    tokens.clamp_max_(logits.shape[1] - 1)  # beyond it where a model's logits are no numbers
    chosen = probabilities.gather(1, tokens).squeeze(1)
    logprobs = torch.log(chosen.double() / total)
    tokens = tokens.squeeze(1)
    if greedy is not None:
        tokens = torch.where(greedy, logits.argmax(dim=-1), tokens)
        logprobs = logprobs.masked_fill(greedy, 0.0)
    return tokens, logprobs


def _nucleus(probabilities: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Zero all but the smallest set of likeliest tokens that holds `top_p`; ties go by token id."""
    ordered, index = torch.sort(probabilities, dim=-1, descending=True, stable=True)
    before = torch.cumsum(ordered, dim=-1, dtype=torch.float64) - ordered
    cut = (before >= top_p) & (top_p < 1.0)
    cut[:, 0] = False  # the likeliest, however small top_p is
    kept = ordered.masked_fill(cut, 0.0)
    return torch.zeros_like(probabilities).scatter_(1, index, kept)
