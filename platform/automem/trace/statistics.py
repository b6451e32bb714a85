"""Statistics of small samples: mean, standard error and bootstrap interval, alone or paired.

The interval is the percentile bootstrap (B. Efron and R. Tibshirani, *An Introduction to the
Bootstrap*, 1993, chapter 13): resample the n values with replacement B = 10,000 times, take the
means, cut 2.5 % off either end. Seeded, so a table can be printed again. It describes; decisions
are the gate's, by a test. Percentile intervals are too narrow below some 10 values.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

RESAMPLES = 10_000
_CHUNK_VALUES = 2_000_000
"""Drawn at once: 16 MB, whatever the sample's size."""
_SAME = 1e-12
"""Means nearer than this differ by rounding."""


class Estimate(msgspec.Struct, frozen=True):
    """A mean and how well it is known. `se` and `ci95` are None below two values."""

    mean: float | None
    se: float | None
    ci95: tuple[float, float] | None
    n: int
    """Number of values: the units of inference."""


def estimate(values: Sequence[float], seed: int = 0) -> Estimate:
    """Mean, standard error (sample deviation over root n) and 95 % interval of `values`."""
    n = len(values)
    if n == 0:
        return Estimate(None, None, None, 0)
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if n == 1:
        return Estimate(mean, None, None, 1)
    se = float(array.std(ddof=1) / np.sqrt(n))
    return Estimate(mean, se, bootstrap_interval(values, seed=seed), n)


def bootstrap_interval(
    values: Sequence[float], level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean; see the module's docstring."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError("an interval needs at least one value")
    means = np.empty(resamples)
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_VALUES // array.size)
    for start in range(0, resamples, chunk):
        count = min(chunk, resamples - start)
        drawn = generator.integers(0, array.size, size=(count, array.size))
        means[start : start + count] = array[drawn].mean(axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Student's interval of the mean, for the few values (training seeds) that a bootstrap would
    take for too sure; None below two."""
    from scipy import stats

    n = len(values)
    if n < 2:
        return None
    array = np.asarray(values, dtype=np.float64)
    half = float(stats.t.ppf(0.5 + level / 2, n - 1) * array.std(ddof=1) / np.sqrt(n))
    return float(array.mean()) - half, float(array.mean()) + half


def crossed_interval(
    rows: Sequence[Sequence[float]], level: float = 0.95
) -> tuple[float, float] | None:
    """Interval of the mean of values that come from two samples at once: `rows[i][j]` is training
    i on deck j, all trainings on the same decks (or such values less others of the same decks).

    The variance of the mean is estimated as that over trainings plus that over decks, each sample
    variance of the row (column) means over their number; the noise of single games is in both, so
    the sum is a little large. Student's interval with Welch and Satterthwaite's degrees of freedom
    (F. E. Satterthwaite, *Biometrics Bulletin* 2, 1946), never narrower than Student's over the
    trainings alone, which few trainings need. Coverage, simulated with 2, 3 and 5 trainings on 50
    decks (`tests/platform/trace/test_crossed_interval.py`): 0.94 to 0.99. None below two trainings
    or decks, and where all trainings came to the same: no spread was seen then, which does not say
    that there is none."""
    from scipy import stats

    values = np.asarray(rows, dtype=np.float64)
    if values.ndim != 2 or min(values.shape) < 2:
        return None
    trainings, decks = values.shape
    of_trainings = float(values.mean(axis=1).var(ddof=1)) / trainings
    of_decks = float(values.mean(axis=0).var(ddof=1)) / decks
    if np.ptp(values.mean(axis=1)) < _SAME:
        return None
    both = of_trainings + of_decks
    freedom = both**2 / (of_trainings**2 / (trainings - 1) + of_decks**2 / (decks - 1))
    tail = 0.5 + level / 2
    half = max(
        float(stats.t.ppf(tail, freedom)) * both**0.5,
        float(stats.t.ppf(tail, trainings - 1)) * of_trainings**0.5,
    )
    mean = float(values.mean())
    return mean - half, mean + half


def paired_difference(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> Estimate:
    """Estimate of the mean of `ours[i] - theirs[i]`: same seed, two players."""
    if len(ours) != len(theirs):
        raise ValueError(f"pairs need equal numbers, got {len(ours)} and {len(theirs)}")
    return estimate([one - other for one, other in zip(ours, theirs, strict=True)], seed=seed)
