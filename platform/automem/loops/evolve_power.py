"""Whole structure loops, simulated: how often anything is accepted, by chance or for being better.

Scores are drawn from recorded distributions; everything else is the plan's own: waves, racing with
a champion that all of a wave share, one confirmation a wave, K in all, continuations, and the very
draws of the gate (the same bootstrap samples and sign flips that `gate.py` makes for this seed), so
that thousands of loops are a few matrix products. Promise: a verdict here is the gate's for the
same pairs. Not covered: a reviewer that gets better; seeds that make champion and contender alike,
which would only sharpen the comparison; crashes, which end a contender before it is compared.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from automem.loops.evolve_plan import Plan
from automem.loops.gate import Rule
from automem.seeds import derive

Floats = NDArray[np.float64]
RESAMPLES = 2_000
"""`gate.race`'s."""
_TIE = 1e-9
"""Sums are taken in another order here, and scores are fractions."""
_ROWS = 500
"""Comparisons at once: 10,000 flips of as many are 40 MB."""


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """What simulated loops came to."""

    runs: int
    accepted: float
    """Share with any acceptance."""
    better: float
    """Share that accepted a contender which is truly better."""
    confirmations: float
    """Mean number used."""
    raced_out: float
    """Share of contenders that were eliminated in a race."""

    @property
    def standard_error(self) -> float:
        return float(np.sqrt(self.accepted * (1 - self.accepted) / self.runs))


class Draws:
    """The gate's own random draws for one rule and seed."""

    def __init__(self, rule: Rule, seed: int = 0) -> None:
        self.rule = rule
        generator = np.random.default_rng(derive("sign flips", seed))
        signs = generator.integers(0, 2, size=(rule.flips, rule.pairs), dtype=np.int8)
        self._signs = (signs * 2.0 - 1.0) / rule.pairs
        self._samples = {goal: _samples(goal, seed) for goal in rule.race}

    def p(self, differences: Floats) -> Floats:
        """Of each row of (comparisons, pairs), as `gate.sign_flip_p`."""
        found = np.empty(len(differences))
        for first in range(0, len(differences), _ROWS):
            rows = differences[first : first + _ROWS]
            reached = rows @ self._signs.T >= rows.mean(axis=1, keepdims=True) - _TIE
            found[first : first + _ROWS] = (1 + reached.sum(axis=1)) / (1 + self.rule.flips)
        return found

    def accepts(self, differences: Floats) -> NDArray[np.bool_]:
        """Whether `gate.confirm` accepts each row."""
        means = differences.mean(axis=1)
        gains = (means >= self.rule.minimum_gain - _TIE) & (means > _TIE)
        accepted: NDArray[np.bool_] = (self.p(differences) <= self.rule.threshold) & gains
        return accepted

    def survives(self, differences: Floats) -> NDArray[np.bool_]:
        """Whether each row is still in the race after every look of it."""
        alive = np.ones(len(differences), dtype=bool)
        for goal, samples in self._samples.items():
            left = np.flatnonzero(alive)
            for first in range(0, len(left), _ROWS):
                part = left[first : first + _ROWS]
                alive[part] = self._stays(differences[part, :goal] @ samples.T)
        return alive

    def _stays(self, means: Floats) -> NDArray[np.bool_]:
        """Whether the race level's quantile of each row's bootstrapped means is high enough: by
        counting, and by sorting only where the quantile lies between two samples."""
        gain, level = self.rule.minimum_gain, self.rule.race_level
        bar = gain - _TIE if gain > 2 * _TIE else _TIE
        reached = (means >= bar).sum(axis=1)
        below = int(level * (RESAMPLES - 1))
        stays: NDArray[np.bool_] = reached >= RESAMPLES - below
        for row in np.flatnonzero(reached == RESAMPLES - below - 1):
            stays[row] = np.quantile(means[row], level) >= bar
        return stays


def _samples(goal: int, seed: int) -> Floats:
    """Weights of each seed in the bootstrap's samples, (resamples, goal)."""
    drawn = np.random.default_rng(seed).integers(0, goal, size=(RESAMPLES, goal))
    weights = np.zeros((RESAMPLES, goal))
    np.add.at(weights, (np.arange(RESAMPLES)[:, None], drawn), 1.0 / goal)
    return weights


class Players(msgspec.Struct, frozen=True, kw_only=True):
    """Who plays in a simulation, as recorded scores."""

    champion: Sequence[float]
    better: Sequence[float] = ()
    share: float = 0.0
    """Share of a better contender's games that are drawn from `better`, not from the champion's."""
    is_only_one: bool = False
    """Whether the first attempt alone is better, else every one."""

    @property
    def gain(self) -> float:
        """Of a better contender, in the mean."""
        return (
            self.share * float(np.mean(self.better) - np.mean(self.champion)) if self.share else 0.0
        )


def simulate(plan: Plan, players: Players, runs: int, seed: int = 0) -> Rates:
    """Play `runs` loops up to their first acceptance (a gate that errs later has erred already)."""
    generator, draws, rule = np.random.default_rng(seed), Draws(plan.rule, plan.seed), plan.rule
    is_open = np.ones(runs, dtype=bool)
    is_better = np.zeros(runs, dtype=bool)
    used = np.zeros(runs, dtype=int)
    raced = left = 0
    games = _Games(players, generator)
    last = rule.race[-1] if rule.race else 0
    for revision in range(1, plan.revisions + 1):
        for wave in plan.waves(revision):
            here = np.flatnonzero(is_open & (used < rule.confirmations))
            width = len(wave.slots)
            good = np.zeros((len(here), width), dtype=bool)
            good[:, 0] = revision == 1 and wave.name == "wave-1"
            good |= not players.is_only_one
            good &= players.share > 0
            champion = games.champion((len(here), 1, last))
            gaps = games.contender(good, last) - champion
            alive = draws.survives(gaps.reshape(-1, last)).reshape(len(here), width)
            raced, left = raced + alive.size, left + int(alive.size - alive.sum())
            means = gaps.mean(axis=2) if last else np.zeros(alive.shape)
            best = np.where(alive, means, -np.inf).argmax(axis=1)
            meets = np.flatnonzero(alive.any(axis=1))
            chosen = good[meets, best[meets]]
            fresh = games.contender(chosen[:, None], rule.pairs)[:, 0]
            accepted = draws.accepts(fresh - games.champion(fresh.shape))
            used[here[meets]] += 1
            is_open[here[meets[accepted]]] = False
            is_better[here[meets[accepted]]] = chosen[accepted]
    return Rates(
        runs=runs,
        accepted=float(1 - is_open.mean()),
        better=float(is_better.mean()),
        confirmations=float(used.mean()),
        raced_out=left / raced if raced else 0.0,
    )


class _Games:
    """Draws scores."""

    def __init__(self, players: Players, generator: np.random.Generator) -> None:
        self._champion = np.asarray(players.champion, dtype=np.float64)
        self._better = np.asarray(players.better or players.champion, dtype=np.float64)
        self._share = players.share
        self._generator = generator

    def champion(self, shape: tuple[int, ...]) -> Floats:
        return self._generator.choice(self._champion, size=shape)

    def contender(self, good: NDArray[np.bool_], games: int) -> Floats:
        """Scores of shape (*good.shape, games)."""
        shape = (*good.shape, games)
        plain = self.champion(shape)
        improved = self._generator.choice(self._better, size=shape)
        is_improved = good[..., None] & (self._generator.random(shape) < self._share)
        return np.where(is_improved, improved, plain)
