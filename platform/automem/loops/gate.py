"""The gate: what decides whether a contender replaces the champion.

A contender is *raced* on `select` seeds in stages; racing eliminates, it never accepts. A survivor
meets the champion, both freshly run, once, on `confirm` seeds that nobody has used. Statistic: the
mean paired difference of progression; a one-sided sign-flip test with 99,999 flips gives
p = (1 + b) / (1 + B). Accepted where p <= alpha / K and the mean reaches the declared minimum gain;
K is the number of confirmations declared beforehand. The bootstrap interval is reported and decides
nothing.

Promise: over a whole run without any true effect, the chance of any acceptance is at most alpha
(Bonferroni over K; racing looks at other seeds and can only reject). Pairs are exchangeable under
the null by construction: same seed, two players. Pending pairs leave a comparison undecided: an
infrastructure failure never decides.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec
import numpy as np

from automem.errors import UsageError
from automem.seeds import derive
from automem.trace.statistics import Estimate, bootstrap_interval, estimate

FLIPS = 99_999
_CHUNK_VALUES = 4_000_000
_TIE = 1e-12
"""Means of flipped differences that equal the observed one but for rounding count as ties."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was declared before the first look."""

    confirmations: int = 5
    """K: how many confirmations the whole run may hold, continuations included."""
    alpha: float = 0.10
    """Chance of any wrong acceptance over all of them."""
    pairs: int = 64
    """n: confirm seeds per confirmation (and per task)."""
    minimum_gain: float = 0.0
    """Smallest mean difference of progression worth having."""
    race: tuple[int, ...] = (8, 16, 32)
    """Select seeds in all after each stage of the race."""
    race_level: float = 0.80
    """A contender is out once this share of its bootstrapped means lies below `minimum_gain`."""
    flips: int = FLIPS

    def __post_init__(self) -> None:
        if self.confirmations < 1 or self.pairs < 1 or not 0 < self.alpha < 1:
            raise UsageError(
                "the gate needs confirmations >= 1, pairs >= 1 and alpha in (0, 1); got "
                f"{self.confirmations}, {self.pairs}, {self.alpha}"
            )
        if 2.0**-self.pairs > self.threshold:
            need = int(np.ceil(-np.log2(self.threshold)))
            raise UsageError(
                f"with {self.pairs} pairs no result can reach p <= {self.alpha} / "
                f"{self.confirmations}: take at least {need} pairs or declare fewer confirmations"
            )
        if list(self.race) != sorted(set(self.race)) or any(goal < 1 for goal in self.race):
            raise UsageError(f"race must be rising numbers of seeds, got {list(self.race)}")
        if not 0.5 <= self.race_level < 1:
            raise UsageError(f"race_level must be in [0.5, 1), got {self.race_level}")
        if self.flips < 1 or 1 / (1 + self.flips) > self.threshold:
            raise UsageError(
                f"with {self.flips} flips no result can reach p <= {self.alpha} / "
                f"{self.confirmations}: take at least {int(np.ceil(1 / self.threshold))} flips"
            )

    @property
    def threshold(self) -> float:
        """alpha / K."""
        return self.alpha / self.confirmations


class Verdict(StrEnum):
    """What came of a comparison."""

    ACCEPTED = "accepted"
    """Better on the confirm seeds by the rule."""
    REJECTED = "rejected"
    """Compared to the end and not better by the rule."""
    ELIMINATED = "eliminated"
    """Left in the race; never confirmed."""
    SURVIVED = "survived"
    """Still in the race: nothing is decided."""
    UNDECIDED = "undecided"
    """Some pair is pending: resume it first."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict with the numbers it rests on."""

    verdict: Verdict
    difference: Estimate
    """Of the paired difference over seeds; the interval describes, it does not decide."""
    p: float | None = None
    threshold: float | None = None
    pending: int = 0
    reason: str = ""


Pairs = Mapping[str, Sequence[tuple[float, float] | None]]
"""Task to (contender, champion) progressions, one per seed; None where either is pending."""


def confirm(rule: Rule, pairs: Pairs, seed: int = 0) -> Comparison:
    """The decision on fresh confirm seeds; every task must hold `rule.pairs` of them."""
    pending = _pending(pairs)
    for task, values in pairs.items():
        if len(values) != rule.pairs:
            raise UsageError(
                f"{task}: the rule declares {rule.pairs} pairs, the comparison has {len(values)}"
            )
    differences = _differences(pairs)
    described = _describe(differences)
    if pending:
        return Comparison(
            verdict=Verdict.UNDECIDED,
            difference=described,
            threshold=rule.threshold,
            pending=pending,
            reason=f"{pending} pairs are pending; resume their runs",
        )
    p = sign_flip_p(differences, rule.flips, seed)
    mean = _mean_over_tasks(differences)
    gains = mean >= rule.minimum_gain - _TIE and mean > 0
    verdict = Verdict.ACCEPTED if p <= rule.threshold and gains else Verdict.REJECTED
    return Comparison(
        verdict=verdict,
        difference=described,
        p=p,
        threshold=rule.threshold,
        reason=_reason(rule, p, mean, verdict),
    )


def race(rule: Rule, pairs: Pairs, seed: int = 0) -> Comparison:
    """One look at a race: `eliminated` or `survived`, never more."""
    differences = _differences(pairs)
    described = _describe(differences)
    pending = _pending(pairs)
    if pending:
        return Comparison(
            verdict=Verdict.UNDECIDED,
            difference=described,
            pending=pending,
            reason=f"{pending} pairs are pending; resume their runs",
        )
    values = _over_tasks(differences)
    _, high = bootstrap_interval(values, level=2 * rule.race_level - 1, resamples=2000, seed=seed)
    if high < rule.minimum_gain or high <= 0:
        return Comparison(
            verdict=Verdict.ELIMINATED,
            difference=described,
            reason=f"{rule.race_level:.0%} of the bootstrapped mean differences over {len(values)} "
            f"seeds lie below {max(high, 0.0):.4f}; at least {rule.minimum_gain} was declared",
        )
    return Comparison(verdict=Verdict.SURVIVED, difference=described)


def sign_flip_p(
    differences: Mapping[str, Sequence[float]], flips: int = FLIPS, seed: int = 0
) -> float:
    """One-sided p of the mean over tasks of the mean difference, by random sign flips within tasks.

    p = (1 + b) / (1 + B), b counting flips whose mean reaches the observed one (B. Phipson and
    G. Smyth, *Permutation p-values should never be zero*, 2010)."""
    observed = _mean_over_tasks(differences)
    totals = np.zeros(flips)
    generator = np.random.default_rng(derive("sign flips", seed))
    for task in sorted(differences):
        values = np.asarray(differences[task], dtype=np.float64)
        chunk = max(1, _CHUNK_VALUES // values.size)
        for start in range(0, flips, chunk):
            count = min(chunk, flips - start)
            signs = generator.integers(0, 2, size=(count, values.size), dtype=np.int8) * 2 - 1
            totals[start : start + count] += (signs * values).mean(axis=1)
    reached = int(np.count_nonzero(totals / len(differences) >= observed - _TIE))
    return (1 + reached) / (1 + flips)


def _differences(pairs: Pairs) -> dict[str, list[float]]:
    if not pairs:
        raise UsageError("a comparison needs at least one task")
    return {
        task: [pair[0] - pair[1] for pair in values if pair is not None]
        for task, values in pairs.items()
    }


def _pending(pairs: Pairs) -> int:
    return sum(pair is None for values in pairs.values() for pair in values)


def _mean_over_tasks(differences: Mapping[str, Sequence[float]]) -> float:
    return float(np.mean([np.mean(values) for values in differences.values()]))


def _over_tasks(differences: Mapping[str, Sequence[float]]) -> list[float]:
    """One value per seed position: the mean over tasks (tasks are equally long)."""
    return [float(value) for value in np.mean(list(differences.values()), axis=0)]


def _describe(differences: Mapping[str, Sequence[float]]) -> Estimate:
    lengths = {len(values) for values in differences.values()}
    if len(lengths) == 1 and lengths != {0}:
        return estimate(_over_tasks(differences))
    return estimate([value for values in differences.values() for value in values])


def _reason(rule: Rule, p: float, mean: float, verdict: Verdict) -> str:
    if verdict is Verdict.ACCEPTED:
        return f"p = {p:.5f} <= {rule.threshold:.5f}, gain {mean:+.4f}"
    if p > rule.threshold:
        return f"p = {p:.5f} > {rule.threshold:.5f} ({rule.alpha} / {rule.confirmations})"
    return f"gain {mean:+.4f} is below the declared minimum {rule.minimum_gain}"
