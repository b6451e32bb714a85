"""The training loop: the same for one process and for DeepSpeed's workers.

A `Stepper` knows one backend; everything that decides the result (order, weights, learning rate,
dropout's seeds) is here, so that both reach the same loss. Every random draw is a function of the
recipe's seed and the place (step, row, worker): resuming needs no generator's state.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from automem.seeds import derive
from automem_learners.recipe import Recipe
from automem_learners.train.checkpoints import StepRecord
from automem_learners.train.loss import Objective, global_weights, log_probabilities
from automem_learners.train.packing import Example, Row, order_steps, rows_of_step


class Stepper(Protocol):
    """A model and its optimizer, on one worker of `workers`."""

    worker: int
    workers: int
    device: torch.device

    def log_probs(self, row: Row) -> torch.Tensor:
        """log p of the row's trained tokens, float32 [K], with gradient."""
        ...

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of `loss`, a part of the sum over all workers and rows."""
        ...

    def update(self, learning_rate: float) -> float | None:
        """Clip, step, clear the gradients; the gradient's norm before clipping, where known."""
        ...

    def total(self, value: float) -> float:
        """The sum of `value` over all workers."""
        ...

    def scoring(self, of_base: bool) -> AbstractContextManager[None]:
        """Inside, `log_probs` has neither gradient nor dropout; `of_base`: nor the adapter."""
        ...

    def gather(self, mine: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        """What all workers have, together."""
        ...

    def save(self, folder: Path) -> None:
        """Write this worker's own shard of everything that is trained."""
        ...

    def load(self, folder: Path) -> None:
        """Go on from what `save` wrote."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The optimizer steps of a training."""

    examples: Sequence[Example]
    steps: list[list[int]] = field(default_factory=list)
    """Indices of the examples of each step."""

    @classmethod
    def of(cls, examples: Sequence[Example], recipe: Recipe) -> "Plan":
        steps = order_steps(
            len(examples), recipe.conversations_per_step, recipe.epochs, recipe.seed
        )
        return cls(examples, steps[: recipe.max_steps])


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """Linear warm-up from 0, then a half cosine to 0 (or constant); as transformers has it."""
    warmup = math.ceil(recipe.warmup * steps)
    if step < warmup:
        return recipe.learning_rate * step / warmup
    if recipe.schedule == "constant":
        return recipe.learning_rate
    done = (step - warmup) / max(1, steps - warmup)
    return recipe.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))


def train(
    stepper: Stepper,
    plan: Plan,
    recipe: Recipe,
    microbatch_tokens: int,
    objective: Objective,
    first_step: int = 0,
) -> Iterator[StepRecord]:
    """Take the steps from `first_step` on; one record after each."""
    for step in range(first_step, len(plan.steps)):
        started = time.perf_counter()
        chosen = [plan.examples[i] for i in plan.steps[step]]
        rows = rows_of_step(
            chosen,
            global_weights(chosen),
            stepper.worker,
            stepper.workers,
            microbatch_tokens,
        )
        loss = 0.0
        for number, row in enumerate(rows):
            torch.manual_seed(derive(recipe.seed, "dropout", step, number, stepper.worker))
            part = objective(stepper.log_probs(row), *_on(stepper.device, row))
            stepper.backward(part)
            loss += float(part.detach())
        rate = learning_rate(step, len(plan.steps), recipe)
        norm = stepper.update(rate)
        yield StepRecord(
            step=step,
            loss=stepper.total(loss),
            learning_rate=rate,
            gradient_norm=norm,
            conversations=len(chosen),
            tokens=sum(len(example.token_ids) for example in chosen),
            trained_tokens=sum(int((example.weights > 0).sum()) for example in chosen),
            seconds=time.perf_counter() - started,
        )


def forward(model: torch.nn.Module, row: Row, device: torch.device) -> torch.Tensor:
    """log p of a row's trained tokens; logits are computed for these alone."""
    output = model(
        input_ids=torch.from_numpy(row.token_ids)[None].to(device),
        position_ids=torch.from_numpy(row.positions)[None].to(device),
        logits_to_keep=torch.from_numpy(row.predictors).to(device),
        lengths=row.lengths,
        use_cache=False,
    )
    return log_probabilities(output.logits[0], torch.from_numpy(row.labels).to(device))


def _on(device: torch.device, row: Row) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    columns = {name: torch.from_numpy(v).to(device) for name, v in row.columns.items()}
    return torch.from_numpy(row.weights).to(device), columns
