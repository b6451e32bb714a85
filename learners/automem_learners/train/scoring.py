"""Log-probabilities that an objective needs before the first step, by the trainer's own forward
pass: of the weights that training starts from (`start`), or of the model without adapter (`base`).

The work is split over the workers; afterwards every worker has all of it.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from automem_learners.train.loop import Stepper
from automem_learners.train.loss import Objective
from automem_learners.train.packing import Example, empty_row, make_row, pack


def fill_columns(
    stepper: Stepper, examples: Sequence[Example], objective: Objective, capacity: int
) -> tuple[Sequence[Example], dict[str, float]]:
    """The examples with the columns that the objective asks for, and its report."""
    for name in objective.scores:
        with stepper.scoring(of_base=name == "base"):
            scores = _scores(stepper, examples, capacity)
        examples = [
            replace(example, columns={**example.columns, name: scores[index]})
            for index, example in enumerate(examples)
        ]
    return examples, objective.report(examples)


def _scores(stepper: Stepper, examples: Sequence[Example], capacity: int) -> dict[int, np.ndarray]:
    """log p per token, float32, 0 for context."""
    shares = [range(worker, len(examples), stepper.workers) for worker in range(stepper.workers)]
    packed = [
        [[share[i] for i in bin_] for bin_ in pack(_lengths(examples, share), capacity)]
        for share in shares
    ]
    mine = packed[stepper.worker]
    found: dict[int, np.ndarray] = {}
    for bin_ in mine:
        chosen = [examples[index] for index in bin_]
        row = make_row(chosen, [example.weights for example in chosen])
        values = stepper.log_probs(row).cpu().numpy()
        trained = [int((example.weights > 0).sum()) for example in chosen]
        for index, part in zip(bin_, np.split(values, np.cumsum(trained)[:-1]), strict=True):
            scores = np.zeros(len(examples[index].token_ids), np.float32)
            scores[examples[index].weights > 0] = part
            found[index] = scores
    for _ in range(max(len(bins) for bins in packed) - len(mine)):
        stepper.log_probs(empty_row(tuple(examples[0].columns)))  # ZeRO 3 waits for all workers
    return stepper.gather(found)


def _lengths(examples: Sequence[Example], share: range) -> list[int]:
    return [len(examples[index].token_ids) for index in share]
