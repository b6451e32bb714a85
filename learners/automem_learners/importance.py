"""Importance weights of stale turns: how likely the present version of the policy would have said
what an older one said.

The weight of a turn is the probability of its generated tokens under the present version over that
under the version that sampled them (as recorded in the trace), cut off at `truncation`: truncated
importance sampling (Ionides 2008), where a bounded weight buys less variance for some bias.
Promise: turns of the present version keep the weight 1; a token that no model sampled counts for
neither side; whatever lacks recorded probabilities is refused with the reason. Not covered:
sampling at another temperature than 1, whose recorded probabilities are the tempered ones.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch

from automem.errors import UsageError
from automem.loops.recipes import Weighed
from automem_learners import adapters
from automem_learners.base_model import Base
from automem_learners.dataset import Conversation
from automem_learners.recipe import Lora, Recipe, Scaling
from automem_learners.sft import threads
from automem_learners.train.local import LocalStepper
from automem_learners.train.loss import Imitation
from automem_learners.train.packing import Example
from automem_learners.train.scoring import fill_columns

LEAST = 1e-6
"""A conversation's share has to be above 0."""
_NOW = "start"


@dataclass(frozen=True, slots=True)
class _Scored(Imitation):
    """Asks for the probabilities under the adapter that the model was prepared with."""

    scores: ClassVar[tuple[str, ...]] = (_NOW,)


@dataclass(frozen=True, slots=True)
class Present:
    """The present version: what probabilities are taken under."""

    base: Base
    adapter: Path | None
    """None: the base model alone (a version that was trained whole)."""
    precision: Literal["fp32", "bf16"]
    scaling: Scaling


def weigh(
    rows: Sequence[Conversation], stale: Collection[str], present: Present, truncation: float
) -> tuple[list[Conversation], Weighed]:
    """The rows with a share for each of the episodes `stale`, and what the weights came to."""
    chosen = [index for index, row in enumerate(rows) if row.episode in stale]
    now = _under(present, [rows[index].example() for index in chosen])
    weighed, raw = list(rows), []
    for index, found in zip(chosen, now, strict=True):
        raw.append(math.exp(min(50.0, _difference(rows[index], found))))
        weight = max(LEAST, min(truncation, raw[-1]))
        weighed[index] = replace(rows[index], share=rows[index].share * weight)
    kept = [max(LEAST, min(truncation, ratio)) for ratio in raw]
    truncated = sum(ratio > truncation for ratio in raw)
    return weighed, Weighed(len(raw), sum(kept) / len(kept) if kept else 0.0, truncated)


def _difference(row: Conversation, now: np.ndarray) -> float:
    """log p now minus log p then, over the generated tokens."""
    if row.logprobs is None:
        raise UsageError(
            f"{row.episode} step {row.step} turn {row.turn}: the trace holds no log-probabilities "
            "(its engine gave none), so stale turns cannot be weighted: set collection.stale=drop"
        )
    generated = np.flatnonzero(row.weights > 0)
    generated = generated[: len(generated) - row.synthetic]
    return float(np.sum(now[generated] - row.logprobs[generated], dtype=np.float64))


def _under(present: Present, examples: Sequence[Example]) -> list[np.ndarray]:
    """log p per token, float32, where the learner computes: here, or on a node of Ray's."""
    if not examples:
        return []
    if present.scaling.backend == "local":
        return log_probs_under(present, examples)
    from automem.rollout.ray_local import connected

    scaling = present.scaling
    with connected():
        import ray

        task = ray.remote(log_probs_under).options(
            num_cpus=scaling.cpus_per_worker,
            num_gpus=scaling.gpus_per_worker,
            label_selector=scaling.labels or None,
        )
        found: list[np.ndarray] = ray.get(task.remote(present, list(examples)))
    return found


def log_probs_under(present: Present, examples: Sequence[Example]) -> list[np.ndarray]:
    """One float32 array of log-probabilities per example, 0 for context."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = Recipe(
        lora=Lora() if present.adapter is not None else None, precision=present.precision
    )
    is_low = present.precision == "bf16" and present.adapter is not None
    # the caller's random numbers and threads are not ours to change
    with torch.random.fork_rng(devices=[]), threads(present.scaling.cpus_per_worker):
        dtype = torch.bfloat16 if is_low else torch.float32
        model = adapters.prepare(present.base, recipe, present.adapter, dtype)
        stepper = LocalStepper(model, recipe, device)
        filled, _ = fill_columns(stepper, examples, _Scored(), present.scaling.microbatch_tokens)
    return [example.columns[_NOW] for example in filled]


def lags_by_episode(
    lags: Mapping[str, int], selected: Collection[tuple[str, str]]
) -> dict[str, int]:
    """Episode to lag, from run folder to lag and the (run, episode) pairs of a selection."""
    known = {str(Path(run).resolve()): lag for run, lag in lags.items()}
    found = ((episode, known.get(str(Path(run).resolve()))) for run, episode in selected)
    return {episode: lag for episode, lag in found if lag is not None}
