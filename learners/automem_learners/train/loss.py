"""What a training step minimises, and how much each token counts.

Contract: the weights of all trained tokens of an optimizer step sum to 1 over the *global* batch
(every worker, every micro-batch): the mean over the trained tokens of a conversation, then the
mean over the conversations (weighted by their shares, all 1 unless a selection says otherwise). A
short "nothing to record" therefore counts as much as a long one, however they are packed or spread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch

from automem_learners.train.packing import Example


class Objective(Protocol):
    """What is minimised. Its `repr` is part of a job's identity; workers get it pickled."""

    @property
    def scores(self) -> tuple[str, ...]:
        """Columns that the trainer fills before the first step: log p of every trained token under
        the `start` weights or under the `base` model."""
        ...

    def __call__(
        self, log_probs: torch.Tensor, weights: torch.Tensor, columns: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """This row's part of the loss, from float32 [K] each."""
        ...

    def report(self, examples: Sequence[Example]) -> dict[str, float]:
        """Figures for the adapter's card, once the columns are filled."""
        ...


def global_weights(examples: Sequence[Example]) -> list[np.ndarray]:
    """The token weights of a global batch, float32 per example, scaled to sum to 1 in all.

    Raises ValueError for a conversation without a trained token: its mean would be 0 / 0."""
    whole = sum(example.share for example in examples)
    scaled = []
    for example in examples:
        total = float(example.weights.sum(dtype=np.float64))
        if total <= 0:
            raise ValueError("a conversation without a trained token has no mean loss")
        scaled.append((example.weights * (example.share / whole / total)).astype(np.float32))
    return scaled


def log_probabilities(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """log p(label) per row, float32: logits [K, vocabulary], labels [K] int64 -> [K]."""
    return -torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none")


@dataclass(frozen=True, slots=True)
class Imitation:
    """Supervised fine-tuning: the weighted mean of -log p."""

    scores: ClassVar[tuple[str, ...]] = ()

    def __call__(
        self, log_probs: torch.Tensor, weights: torch.Tensor, columns: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        return -(log_probs * weights).sum()

    def report(self, examples: Sequence[Example]) -> dict[str, float]:
        return {}
