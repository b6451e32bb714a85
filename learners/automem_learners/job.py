"""A training job: everything it needs, checked before any time is spent."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from automem.errors import UsageError
from automem_learners import adapters
from automem_learners.base_model import Base, find_base
from automem_learners.dataset import Dataset
from automem_learners.recipe import Recipe, Scaling, check_rank
from automem_learners.train.loss import Imitation, Objective
from automem_learners.train.packing import Example


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What a worker is sent; it loads its own model."""

    base: Base
    recipe: Recipe
    scaling: Scaling
    examples: tuple[Example, ...]
    skipped: int
    """Conversations longer than the recipe's `max_tokens`."""
    dataset: str
    """Digest of the dataset."""
    start: Path | None
    """An adapter to go on from."""
    objective: Objective
    digest: str
    """Of all that decides the result; the scaling is not in it."""
    sources: tuple[str, ...]
    """Digests of the dataset and of the weights to go on from: what it learns from."""


def make_job(
    dataset: Dataset,
    recipe: Recipe,
    base_model: str,
    scaling: Scaling,
    *,
    start: Path | None = None,
    engine_max_rank: int | None = None,
    examples: tuple[Example, ...] | None = None,
    objective: Objective | None = None,
) -> Job:
    """Check everything that can be wrong and cost nothing; UsageError says what to do.

    `examples`: in place of the dataset's own, one per conversation (RL adds columns)."""
    objective = objective or Imitation()
    check_rank(recipe, engine_max_rank)
    base = find_base(base_model)
    check_fits(dataset, base)
    adapters.check_targets(base, recipe)
    if start is not None:
        adapters.check_start(start, recipe, base)
    given = examples or tuple(row.example() for row in dataset.conversations)
    fitting = tuple(e for e in given if len(e.token_ids) <= recipe.max_tokens)
    if not fitting:
        shortest = min(len(example.token_ids) for example in given)
        raise UsageError(
            f"every conversation is longer than max_tokens={recipe.max_tokens} (the shortest has "
            f"{shortest} tokens): raise max_tokens"
        )
    start_weights = adapters.weights_digest(start) if start is not None else ""
    parts = (
        _digest(given),
        msgspec.json.encode(recipe).decode(),
        base.name,
        base.tokenizer,
        start_weights,
        repr(objective),
    )
    return Job(
        base=base,
        recipe=recipe,
        scaling=scaling,
        examples=fitting,
        skipped=len(given) - len(fitting),
        dataset=dataset.card.digest,
        start=start,
        objective=objective,
        digest=hashlib.blake2b("\x1f".join(parts).encode(), digest_size=16).hexdigest(),
        sources=tuple(source for source in (dataset.card.digest, start_weights) if source),
    )


def check_fits(dataset: Dataset, base: Base) -> None:
    """UsageError where the dataset's ids are not the base model's."""
    card = dataset.card
    if card.tokenizer != base.tokenizer:
        raise UsageError(
            f"the dataset was made with the tokenizer of {card.base_model!r} "
            f"({card.tokenizer}), but {base.name!r} has another ({base.tokenizer}): make the "
            f"dataset with base_model={base.name}, or train {card.base_model}"
        )
    largest = max(int(row.token_ids.max()) for row in dataset.conversations)
    if largest >= base.vocabulary:
        raise UsageError(
            f"the dataset holds token {largest}, but {base.name!r} has only {base.vocabulary}"
        )


def _digest(examples: tuple[Example, ...]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for example in examples:
        digest.update(
            f"{len(example.token_ids)} {example.share} {sorted(example.columns)}".encode()
        )
        for values in (example.token_ids, example.weights, *example.columns.values()):
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
