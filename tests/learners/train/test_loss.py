"""The loss contract: weights sum to 1 over the global batch, conversations count alike."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from automem_learners.train.loss import Imitation, global_weights, log_probabilities
from automem_learners.train.packing import Example, rows_of_step

token_weights = st.lists(
    st.lists(st.sampled_from([0.0, 0.25, 1.0, 3.0]), min_size=1, max_size=12).map(
        lambda weights: np.asarray([0.0, *weights, 1.0], np.float32)
    ),
    min_size=1,
    max_size=8,
)


def examples_of(weights: list[np.ndarray], shares: list[float] | None = None) -> list[Example]:
    shares = shares or [1.0] * len(weights)
    return [
        Example(np.arange(1, len(given_weights) + 1, dtype=np.int32), given_weights, share=share)
        for given_weights, share in zip(weights, shares, strict=True)
    ]


@given(token_weights)
def test_every_conversation_counts_alike(weights: list[np.ndarray]) -> None:
    scaled = global_weights(examples_of(weights))
    for given_weights, share in zip(weights, scaled, strict=True):
        assert share.sum() == pytest.approx(1 / len(weights), rel=1e-5)
        assert np.allclose(share * given_weights.sum() * len(weights), given_weights, rtol=1e-5)


def test_a_selections_shares_weigh_conversations() -> None:
    one = np.asarray([0, 1, 1], np.float32)
    scaled = global_weights(examples_of([one, one], [3.0, 1.0]))
    assert [float(each.sum()) for each in scaled] == pytest.approx([0.75, 0.25])


@given(token_weights, st.integers(1, 4), st.sampled_from([5, 16, 1000]))
def test_weights_sum_to_one_over_all_workers_and_rows(
    weights: list[np.ndarray], workers: int, capacity: int
) -> None:
    examples = examples_of(weights, [1.0 + n % 3 for n in range(len(weights))])
    scaled = global_weights(examples)
    rows = [
        row
        for worker in range(workers)
        for row in rows_of_step(examples, scaled, worker, workers, capacity)
    ]
    assert sum(float(row.weights.sum()) for row in rows) == pytest.approx(1.0, rel=1e-5)
    trained = sum(int((w > 0).sum()) for w in weights)
    assert sum(int((row.weights > 0).sum()) for row in rows) == trained


def test_the_mean_is_taken_per_conversation_first() -> None:
    short, long = np.asarray([0, 1], np.float32), np.asarray([0, 1, 1, 1, 1], np.float32)
    weights = np.concatenate(global_weights(examples_of([short, long])))
    surprise = torch.tensor([0.0, 8.0, 0.0, 1.0, 1.0, 1.0, 1.0])
    loss = Imitation()(-surprise, torch.from_numpy(weights), {})
    assert float(loss) == pytest.approx((8.0 + 1.0) / 2)  # over tokens it were 12 / 5


def test_a_conversation_without_trained_tokens_has_no_mean() -> None:
    with pytest.raises(ValueError, match="no mean"):
        global_weights(examples_of([np.zeros(3, np.float32)]))


def test_log_probabilities_are_those_of_the_softmax() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    found = log_probabilities(logits, torch.tensor([2, 0]))
    expected = torch.log_softmax(logits, -1)[[0, 1], [2, 0]]
    assert torch.allclose(found, expected)
