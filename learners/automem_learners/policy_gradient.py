"""Policy gradient on memory turns: the learner of `sft`, with advantages.

Per token of a turn with advantage A, with r = p / p_start (clipped surrogate, PPO):

    loss = -c * min(r A, clip(r, 1 - clip_low, 1 + clip_high) A) + kl * (b / p - log(b / p) - 1)

p_start is recomputed by the trainer before the first step, so r is 1 there whatever engine played;
b is the base model's probability. c = min(p_start / p_recorded, importance_cap) corrects for what
the engine's numbers (or an older adapter) differ by; the mismatch is reported on the adapter's
card. Averages are the learner's: over the tokens of a turn, then over turns.

Only exact data: the tokens must be those that were sampled. Tokens that no model generated (a
turn's added end) have no part. Not covered: value functions, and credit below the turn.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from automem.errors import UsageError
from automem.suggest import no_such
from automem.tracker import Tracker
from automem_learners.adapters import AdapterVersion
from automem_learners.dataset import Conversation, DataKind, Dataset
from automem_learners.job import make_job
from automem_learners.recipe import Recipe, Scaling
from automem_learners.sft import run
from automem_learners.train.packing import Example


@dataclass(frozen=True, slots=True)
class ClippedSurrogate:
    """The loss of the module's docstring; a learner's `Objective`."""

    clip_low: float = 0.2
    clip_high: float = 0.2
    kl: float = 0.0
    """Weight of the divergence from the base model (the k3 estimate); 0 leaves it out."""
    importance_cap: float = 2.0
    """Largest p_start / p_recorded; 0 leaves the correction out."""

    @property
    def scores(self) -> tuple[str, ...]:
        return ("start", "base") if self.kl else ("start",)

    def __call__(
        self, log_probs: torch.Tensor, weights: torch.Tensor, columns: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        advantage, start = columns["advantage"], columns["start"]
        ratio = torch.exp(log_probs - start)
        clipped = ratio.clamp(1.0 - self.clip_low, 1.0 + self.clip_high)
        gain = torch.minimum(ratio * advantage, clipped * advantage)
        if self.importance_cap and "recorded" in columns:
            gain = gain * torch.exp(start - columns["recorded"]).clamp(max=self.importance_cap)
        if self.kl:
            distance = columns["base"] - log_probs
            gain = gain - self.kl * (torch.exp(distance) - distance - 1.0)
        return -(gain * weights).sum()

    def report(self, examples: Sequence[Example]) -> dict[str, float]:
        """How far the engine's log-probabilities are from the trainer's, over trained tokens."""
        advantages = np.asarray([example.columns["advantage"].max() for example in examples])
        figures = {"turns": float(len(examples)), "advantage_std": float(advantages.std())}
        if "recorded" in examples[0].columns:
            figures |= _mismatch(examples, self.importance_cap)
        return figures


def read_objective(fields: Mapping[str, Any]) -> ClippedSurrogate:
    """An objective from plain data; UsageError names an unknown field or a wrong value."""
    known = list(ClippedSurrogate.__dataclass_fields__)
    for name in fields:
        if name not in known:
            raise UsageError(no_such("field of policy_gradient", name, known))
    try:
        objective = msgspec.convert(dict(fields), ClippedSurrogate)
    except msgspec.ValidationError as error:
        raise UsageError(f"policy_gradient: {error}") from None
    for name in known:
        if getattr(objective, name) < 0:
            raise UsageError(f"policy_gradient.{name} must be 0 or more")
    return objective


def group_relative(
    values: Sequence[float], groups: Sequence[Hashable], *, scaled: bool = True
) -> list[float]:
    """Each value minus its group's mean, over the group's standard deviation where `scaled`.

    For whole episodes: values are returns, groups are world seeds; for turns: what followed a turn,
    and (seed, step). A group of one, or of equal values, says nothing: its advantages are 0."""
    members: dict[Hashable, list[float]] = defaultdict(list)
    for value, group in zip(values, groups, strict=True):
        members[group].append(value)
    means = {group: sum(each) / len(each) for group, each in members.items()}
    scales = {}
    for group, each in members.items():
        variance = sum((value - means[group]) ** 2 for value in each) / len(each)
        scales[group] = math.sqrt(variance) if scaled else 1.0
    return [
        (value - means[group]) / scales[group] if scales[group] > 1e-8 else 0.0
        for value, group in zip(values, groups, strict=True)
    ]


def improve(
    dataset: Dataset,
    advantages: Sequence[float],
    recipe: Recipe,
    base_model: str,
    out_dir: Path,
    objective: ClippedSurrogate | None = None,
    scaling: Scaling | None = None,
    tracker: Tracker | None = None,
    *,
    start: Path | None = None,
    engine_max_rank: int | None = None,
) -> AdapterVersion:
    """One policy-gradient update; the new adapter, the mismatch on its card (`report`).

    `advantages`: one per conversation of the dataset. `start`: the adapter that played (None: the
    base did). Raises UsageError for published data, and where no turn says anything."""
    objective = objective or ClippedSurrogate()
    if dataset.card.kind is not DataKind.EXACT:
        raise UsageError(
            "published data are tokenised anew (off-policy) and barred from RL: make `exact` data "
            "from traces of an engine with token ids"
        )
    if len(advantages) != len(dataset.conversations):
        raise UsageError(
            f"{len(advantages)} advantages for {len(dataset.conversations)} conversations: one each"
        )
    if objective.kl and recipe.lora is None:
        raise UsageError("policy_gradient.kl needs an adapter: the base is the model without it")
    has_recorded = all(row.logprobs is not None for row in dataset.conversations)
    examples = tuple(
        _example(row, advantage, has_recorded)
        for row, advantage in zip(dataset.conversations, advantages, strict=True)
        if advantage != 0.0 and _generated(row).any()
    )
    if not examples:
        raise UsageError(
            "no turn has an advantage: all episodes of a seed did equally well, or each seed was "
            "played once; play more episodes per seed (rollout.episodes above the number of seeds)"
        )
    job = make_job(
        dataset, recipe, base_model, scaling or Scaling(), start=start,
        engine_max_rank=engine_max_rank, examples=examples, objective=objective,
    )  # fmt: skip
    return run(job, out_dir, tracker)


def _generated(row: Conversation) -> np.ndarray:
    """Weights of the trained tokens that a model generated."""
    weights = row.weights.copy()
    if row.synthetic:
        weights[-row.synthetic :] = 0.0
    return weights


def _example(row: Conversation, advantage: float, has_recorded: bool) -> Example:
    columns = {"advantage": np.full(len(row.token_ids), advantage, np.float32)}
    if has_recorded and row.logprobs is not None:
        columns["recorded"] = row.logprobs
    return Example(row.token_ids, _generated(row), columns, row.share)


def _mismatch(examples: Sequence[Example], cap: float) -> dict[str, float]:
    gaps = np.concatenate(
        [
            (example.columns["start"] - example.columns["recorded"])[example.weights > 0]
            for example in examples
        ]
    ).astype(np.float64)
    return {
        "mismatch_mean": float(np.abs(gaps).mean()),
        "mismatch_max": float(np.abs(gaps).max()),
        "mismatch_kl": float((np.exp(gaps) - gaps - 1.0).mean()),
        "importance_capped": float((np.exp(gaps) > cap).mean()) if cap else 0.0,
    }
