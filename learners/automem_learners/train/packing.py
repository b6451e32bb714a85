"""From conversations to optimizer steps: order, workers, packed rows.

The order of the data depends on the recipe alone (its seed and batch size), so any number of
workers takes the same optimizer steps. Within a step, conversations are dealt to workers by length
and packed into rows of at most `microbatch_tokens`; every worker gets the same number of rows (an
idle one trains on an empty row), because ZeRO's collectives wait for all.
"""

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np

from automem.seeds import derive


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """What the trainer needs of a conversation. All arrays have its length."""

    token_ids: np.ndarray
    """int32."""
    weights: np.ndarray
    """float32: 0 is context. The first token is never trained: nothing predicts it."""
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    """float32 values per token that an objective reads, e.g. log-probabilities."""
    share: float = 1.0
    """How much it counts beside other conversations, above 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One packed forward pass. T tokens, K of them trained."""

    token_ids: np.ndarray
    """int64 [T]."""
    positions: np.ndarray
    """int64 [T]: restart at 0 with each conversation."""
    lengths: tuple[int, ...]
    """Tokens of each conversation, in order; they sum to T."""
    predictors: np.ndarray
    """int64 [K]: where in the row the token before a trained one stands."""
    labels: np.ndarray
    """int64 [K]: the trained tokens."""
    weights: np.ndarray
    """float32 [K]: of the global batch; see `loss.global_weights`."""
    columns: Mapping[str, np.ndarray]
    """float32 [K] each."""


def order_steps(conversations: int, per_step: int, epochs: int, seed: int) -> list[list[int]]:
    """Indices of the conversations of every optimizer step; each epoch is shuffled anew.

    An epoch's last step takes what is left."""
    steps = []
    for epoch in range(epochs):
        order = list(range(conversations))
        Random(derive(seed, "order", epoch)).shuffle(order)
        steps += [order[i : i + per_step] for i in range(0, conversations, per_step)]
    return steps


def deal(lengths: Sequence[int], workers: int) -> list[list[int]]:
    """Indices per worker with about equal numbers of tokens: longest first, to the least loaded."""
    hands: list[list[int]] = [[] for _ in range(workers)]
    loads = [0] * workers
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        worker = loads.index(min(loads))
        hands[worker].append(index)
        loads[worker] += lengths[index]
    return hands


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Bins of indices whose lengths sum to at most `capacity`: best fit, longest first.

    What is longer than `capacity` gets a bin of its own."""
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (space left, bin), sorted
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        at = bisect.bisect_left(room, (length, -1))
        if at == len(room):
            bins.append([index])
            space, number = capacity - length, len(bins) - 1
        else:
            space, number = room.pop(at)
            bins[number].append(index)
            space -= length
        bisect.insort(room, (space, number))
    return bins


def rows_of_step(
    examples: Sequence[Example],
    weights: Sequence[np.ndarray],
    worker: int,
    workers: int,
    capacity: int,
) -> list[Row]:
    """One worker's rows of one optimizer step; `weights`: `loss.global_weights` of the examples."""
    lengths = [len(example.token_ids) for example in examples]
    packed = [
        [[hand[i] for i in bin_] for bin_ in pack([lengths[i] for i in hand], capacity)]
        for hand in deal(lengths, workers)
    ]
    rounds = max(len(bins) for bins in packed)
    names = tuple(examples[0].columns)
    rows = [
        make_row([examples[i] for i in bin_], [weights[i] for i in bin_]) for bin_ in packed[worker]
    ]
    return rows + [empty_row(names)] * (rounds - len(rows))


def make_row(examples: Sequence[Example], token_weights: Sequence[np.ndarray]) -> Row:
    """Examples one behind the other."""
    token_ids = np.concatenate([example.token_ids for example in examples]).astype(np.int64)
    weights = np.concatenate(token_weights)
    lengths = tuple(len(example.token_ids) for example in examples)
    trained = np.flatnonzero(weights)
    return Row(
        token_ids=token_ids,
        positions=np.concatenate([np.arange(n, dtype=np.int64) for n in lengths]),
        lengths=lengths,
        predictors=trained - 1,
        labels=token_ids[trained],
        weights=weights[trained],
        columns={
            name: np.concatenate([example.columns[name] for example in examples])[trained]
            for name in examples[0].columns
        },
    )


def empty_row(columns: Sequence[str]) -> Row:
    """Two tokens that weigh nothing: keeps an idle worker in step with the others."""
    return Row(
        token_ids=np.zeros(2, np.int64),
        positions=np.arange(2, dtype=np.int64),
        lengths=(2,),
        predictors=np.zeros(1, np.int64),
        labels=np.zeros(1, np.int64),
        weights=np.zeros(1, np.float32),
        columns={name: np.zeros(1, np.float32) for name in columns},
    )
