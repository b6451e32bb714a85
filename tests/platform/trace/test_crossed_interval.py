"""The interval over training seeds and decks at once: what it says, and how often it is right."""

import numpy as np
import pytest

from automem.trace.statistics import crossed_interval, t_interval

REPETITIONS = 1_000
TRUTH, DECKS = 0.52, 50
"""About what training is worth in the embedded game, on as many decks as its table has."""


def drawn(generator: np.random.Generator, trainings: int, of_trainings: float) -> np.ndarray:
    """Differences of a trained arm from the base, which was played once: deviations of decks and of
    single games as they were seen there."""
    base = generator.normal(0, 0.085, DECKS)
    decks = generator.normal(0, 0.05, DECKS)
    each = generator.normal(0, of_trainings, (trainings, 1))
    return TRUTH + each + decks - base + generator.normal(0, 0.14, (trainings, DECKS))


@pytest.mark.parametrize("trainings", [2, 3, 5])
def test_it_holds_the_truth_as_often_as_it_says(trainings: int) -> None:
    generator = np.random.default_rng(trainings)
    for of_trainings in (0.0, 0.02, 0.04, 0.1):
        held, students = 0, 0
        for _ in range(REPETITIONS):
            rows = drawn(generator, trainings, of_trainings)
            low, high = crossed_interval(rows.tolist()) or (0.0, 0.0)
            held += low <= TRUTH <= high
            low, high = t_interval(rows.mean(axis=1).tolist()) or (0.0, 0.0)
            students += low <= TRUTH <= high
        coverage, alone = held / REPETITIONS, students / REPETITIONS
        print(
            f"{trainings} trainings, deviation {of_trainings}: coverage {coverage:.3f}; "
            f"Student's over trainings alone {alone:.3f}"
        )
        assert 0.93 <= coverage <= 0.995  # 0.95 less three standard errors


def test_a_base_that_was_lucky_once_is_no_certainty() -> None:
    base = np.random.default_rng(0).normal(0, 0.1, DECKS)
    rows = [(0.5 + seed / 10_000 - base).tolist() for seed in range(5)]
    low, high = crossed_interval(rows) or (0.0, 0.0)
    assert high - low > 2 * 0.1 / DECKS**0.5
    students = t_interval([float(np.mean(row)) for row in rows]) or (0.0, 0.0)
    assert students[1] - students[0] < 0.001


def test_values_that_are_all_the_same_and_single_ones_have_none() -> None:
    assert crossed_interval([[0.1, 0.2], [0.1, 0.2]]) is None
    assert crossed_interval([[0.1, 0.2, 0.3]]) is None
    assert crossed_interval([[0.1], [0.2]]) is None
