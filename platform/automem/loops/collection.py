"""Collecting ahead of training: what is configured and kept, how staleness is counted.

A *version* of the policy is a champion: 0 is the base, and every accepted round makes the next. The
*lag* of a turn is how many versions the policy is ahead, when a round learns from the turn, of the
version that made it. In the asynchronous mode episodes are played in *parts*: one rollout by one
version, so that every turn of a part has the same lag.

Promise: collection waits rather than have more episodes in store than `max_staleness` rounds learn
from, and parts are used in the order in which they were begun; so while rounds learn from equally
many episodes, no turn's lag exceeds `max_staleness`. Where they do not, what would exceed it is
dropped. Nothing is dropped or weighted without being counted. Not covered: a change of version in
the middle of an episode.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec
import pyarrow.parquet as pq

from automem.errors import UsageError
from automem.loops.recipes import Specialist, Weighed


class Collection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When episodes are collected, and what becomes of stale turns."""

    mode: Literal["synchronous", "asynchronous"] = "synchronous"
    """`synchronous`: a round plays its episodes, then trains; `asynchronous`: the next rounds'
    episodes are played while this one selects, trains and decides."""
    part: int = 32
    """Asynchronous: episodes by one version before the newest version is looked up again."""
    max_staleness: int = 1
    """Asynchronous: the highest lag that is learned from, and how many rounds collection may be
    ahead."""
    tolerated: int = 0
    """A turn is stale where its lag is above this."""
    stale: Literal["drop", "weight"] = "drop"
    """Stale turns are played anew by the present version, or learned from with their importance
    weight: the present version's probability of the turn over that of the version that made it."""
    truncation: float = 1.0
    """Importance weights are cut off at this."""

    def __post_init__(self) -> None:
        if self.part < 1:
            raise UsageError(f"part must be at least 1 episode, got {self.part}")
        if self.max_staleness < 1:
            raise UsageError(
                f"max_staleness must be at least 1, got {self.max_staleness}: nothing can be "
                "collected ahead without any; for that, set mode=synchronous"
            )
        if not 0 <= self.tolerated <= self.max_staleness:
            raise UsageError(
                f"tolerated must be from 0 to max_staleness={self.max_staleness}, "
                f"got {self.tolerated}"
            )
        if not self.truncation > 0:
            raise UsageError(f"truncation must be above 0, got {self.truncation}")

    @property
    def is_asynchronous(self) -> bool:
        return self.mode == "asynchronous"

    def drops(self, lag: int) -> bool:
        """Whether turns of this lag are not learned from."""
        return lag > self.max_staleness or (self.stale == "drop" and lag > self.tolerated)

    def weighs(self, lag: int) -> bool:
        """Whether turns of this lag are learned from with a weight."""
        return self.stale == "weight" and self.tolerated < lag <= self.max_staleness


class PartBegun(msgspec.Struct, frozen=True, tag="part-begun"):
    """A part of the collection, before its first episode; in the round that is then open."""

    part: int
    """From 1."""
    version: int
    player: Specialist | None
    """None: the base."""
    episodes: int


class PartPlayed(msgspec.Struct, frozen=True, tag="part-played"):
    """All episodes of a part have been played."""

    part: int
    progression: float
    turns: int
    """Of the memory role."""


class Use(msgspec.Struct, frozen=True):
    """What a round did with a part."""

    part: int
    version: int
    lag: int
    episodes: int
    turns: int
    """Of the memory role; where a part was given up, those of its finished episodes."""
    is_dropped: bool = False


class Gathered(msgspec.Struct, frozen=True, tag="gathered"):
    """Which parts a round learns from, and which it dropped."""

    version: int
    """The policy's, when the round learned."""
    uses: tuple[Use, ...]

    @property
    def kept(self) -> tuple[Use, ...]:
        return tuple(use for use in self.uses if not use.is_dropped)


class Staleness(msgspec.Struct, frozen=True, kw_only=True):
    """A round's staleness in figures, for the results and the metrics."""

    version: int
    turns_by_lag: dict[int, int]
    """Turns that selection chose from, by lag."""
    dropped_by_lag: dict[int, int]
    """Turns that were dropped as stale."""
    episodes: int
    dropped_episodes: int
    weighed: Weighed | None = None

    def metrics(self) -> dict[str, float]:
        """What a tracker gets."""
        turns = sum(self.turns_by_lag.values())
        lags = sum(lag * count for lag, count in self.turns_by_lag.items())
        figures = {
            "staleness/version": float(self.version),
            "staleness/turns": float(turns),
            "staleness/mean_lag": lags / turns if turns else 0.0,
            "staleness/max_lag": float(max(self.turns_by_lag, default=0)),
            "staleness/dropped_turns": float(sum(self.dropped_by_lag.values())),
            "staleness/dropped_episodes": float(self.dropped_episodes),
        }
        if self.weighed is not None:
            figures["staleness/weighed_turns"] = float(self.weighed.turns)
            figures["staleness/mean_weight"] = self.weighed.mean
            figures["staleness/truncated_weights"] = float(self.weighed.truncated)
        return figures

    def told(self) -> str:
        """In words."""
        kept = ", ".join(f"{count} of lag {lag}" for lag, count in self.turns_by_lag.items())
        words = f"{self.episodes} episodes, turns: {kept or 'none'}"
        if self.dropped_by_lag:
            lost = ", ".join(f"{count} of lag {lag}" for lag, count in self.dropped_by_lag.items())
            words += f"; dropped as stale: {lost}"
        if self.weighed is not None:
            words += (
                f"; {self.weighed.turns} selected turns weighted, mean {self.weighed.mean:.2f}, "
                f"{self.weighed.truncated} cut off"
            )
        return words


def staleness(gathered: Gathered, weighed: Weighed | None = None) -> Staleness:
    """What a round's parts come to."""
    dropped = [use for use in gathered.uses if use.is_dropped]
    return Staleness(
        version=gathered.version,
        turns_by_lag=_turns(gathered.kept),
        dropped_by_lag=_turns(dropped),
        episodes=sum(use.episodes for use in gathered.kept),
        dropped_episodes=sum(use.episodes for use in dropped),
        weighed=weighed,
    )


def _turns(uses: Iterable[Use]) -> dict[int, int]:
    found: dict[int, int] = {}
    for use in uses:
        found[use.lag] = found.get(use.lag, 0) + use.turns
    return dict(sorted(found.items()))


def store_limit(collection: Collection, want: int, is_waiting: bool, rounds_left: int) -> int:
    """Back-pressure: a part is begun only while fewer episodes than this are in store (begun and
    not used). `want`: episodes that a round learns from; `is_waiting`: the open round has still to
    gather its own; `rounds_left`: rounds after it."""
    ahead = min(collection.max_staleness, rounds_left)
    return want * (ahead + (1 if is_waiting else 0))


def memory_turns(run_dir: Path) -> int:
    """Turns of the memory role in a run's finished episodes."""
    count = 0
    for path in (run_dir / "tables" / "turns").glob("*.parquet"):
        roles = pq.read_table(path, columns=["role"])["role"].to_pylist()
        count += sum(role == "memory" for role in roles)
    return count
