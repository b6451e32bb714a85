"""From good turns to selected ones: no episode, pattern or kind of turn may drown the others.

In this order: at most `per_episode` of one kind from an episode, at most `per_cluster` of one form,
and of no kind more than `balance` times the median kind. What is left out is drawn by a hash of the
turn, so the same traces give the same selection, and more traces change little.
"""

import statistics
from collections import Counter

import msgspec

from automem.seeds import derive
from automem_learners.select.verdict import Kind, TurnKey


class Thinning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much may be taken; 0 sets no limit."""

    per_episode: int = 12
    """Turns of one kind from one episode."""
    per_cluster: int = 400
    """Turns of one form: near-duplicates."""
    balance: float = 1.5
    """Turns of one kind, as a multiple of the median over the kinds that are there."""
    at_most: int = 0
    """Turns in all, shares of the kinds kept."""
    seed: int = 0
    episode_share: float = 1.0
    """Turns come from this share of each world's episodes, the best by progression."""

    def __post_init__(self) -> None:
        for name in ("per_episode", "per_cluster", "balance", "at_most"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 (no limit) or more, got {getattr(self, name)}")
        if not 0 < self.episode_share <= 1:
            raise ValueError(
                f"episode_share must be above 0 and at most 1, got {self.episode_share}"
            )


class Candidate(msgspec.Struct, frozen=True):
    """A good turn, as far as thinning needs it."""

    key: TurnKey
    kind: Kind
    form: str


def thin(candidates: list[Candidate], settings: Thinning) -> dict[TurnKey, str]:
    """Why each candidate that is left out is: key to reason; the others are selected."""
    drawn = sorted(candidates, key=lambda c: (_draw(c.key, settings.seed), c.key.run))
    left_out: dict[TurnKey, str] = {}
    episodes: Counter[tuple[str, str, Kind]] = Counter()
    clusters: Counter[str] = Counter()
    kept: list[Candidate] = []
    for candidate in drawn:
        key = candidate.key
        episode = (key.run, key.episode, candidate.kind)
        if settings.per_episode and episodes[episode] >= settings.per_episode:
            left_out[key] = "enough of its kind from its episode"
        elif settings.per_cluster and clusters[candidate.form] >= settings.per_cluster:
            left_out[key] = "enough of its form"
        else:
            episodes[episode] += 1
            clusters[candidate.form] += 1
            kept.append(candidate)
    limits = _limits(Counter(candidate.kind for candidate in kept), settings)
    taken: Counter[Kind] = Counter()
    for candidate in kept:
        taken[candidate.kind] += 1
        if taken[candidate.kind] > limits[candidate.kind]:
            left_out[candidate.key] = "enough of its kind"
    return left_out


def _limits(counts: Counter[Kind], settings: Thinning) -> dict[Kind, int]:
    limits = dict(counts)
    if settings.balance and counts:
        most = round(settings.balance * statistics.median(counts.values()))
        limits = {kind: min(count, max(1, most)) for kind, count in counts.items()}
    total = sum(limits.values())
    if settings.at_most and total > settings.at_most:
        share = settings.at_most / total
        limits = {kind: max(1, int(share * count)) for kind, count in limits.items()}
    return limits


def _draw(key: TurnKey, seed: int) -> int:
    return derive("thin", seed, key.episode, key.step, key.turn)
