import numpy as np
import pytest
from scipy import stats

from automem.trace.statistics import bootstrap_interval, estimate, paired_difference

VALUES = [0.1, 0.4, 0.35, 0.8, 0.25, 0.6, 0.05, 0.9, 0.45, 0.3]


def test_mean_and_standard_error_are_those_of_the_textbook():
    result = estimate([1.0, 2.0, 3.0, 4.0])
    assert result.mean == 2.5
    assert result.se == pytest.approx(np.sqrt(5 / 3) / 2)
    assert result.se == pytest.approx(stats.sem([1.0, 2.0, 3.0, 4.0]))
    assert result.n == 4


def test_the_interval_agrees_with_scipys_percentile_bootstrap():
    low, high = bootstrap_interval(VALUES)
    theirs = stats.bootstrap(
        (VALUES,), np.mean, n_resamples=10_000, method="percentile", rng=1
    ).confidence_interval
    assert low == pytest.approx(theirs.low, abs=0.01)
    assert high == pytest.approx(theirs.high, abs=0.01)


def test_the_interval_is_the_same_every_time_and_differs_by_seed():
    assert bootstrap_interval(VALUES) == bootstrap_interval(VALUES)
    assert bootstrap_interval(VALUES, seed=1) != bootstrap_interval(VALUES, seed=2)


def test_chunking_bounds_memory_and_still_fills_every_resample():
    values = list(np.random.default_rng(0).normal(size=3000))
    low, high = bootstrap_interval(values, resamples=2000)
    assert low < np.mean(values) < high
    assert high - low == pytest.approx(2 * 1.96 * stats.sem(values), rel=0.1)


def test_below_two_values_no_uncertainty_is_claimed():
    assert estimate([]).mean is None
    one = estimate([0.5])
    assert (one.mean, one.se, one.ci95, one.n) == (0.5, None, None, 1)
    with pytest.raises(ValueError, match="at least one value"):
        bootstrap_interval([])


def test_pairs_are_compared_within_their_seed():
    ours, theirs = [0.5, 0.7, 0.9], [0.4, 0.6, 0.8]
    difference = paired_difference(ours, theirs)
    assert difference.mean == pytest.approx(0.1)
    assert difference.se == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match="equal numbers, got 3 and 2"):
        paired_difference(ours, theirs[:2])
