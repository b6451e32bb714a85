"""What counts as evidence that a retrieved line mattered.

`names`: the action (or its reasoning) names it, or another judge of use says so. `preceded`: it was
in the context of actions that led far: weaker, and all there is in a world whose actions come from
a closed list and were committed without reasoning. `auto` takes `names` for each world in which
enough of the consultations show a use, else `preceded`.
"""

import statistics
from array import array
from collections import Counter
from collections.abc import Iterable
from typing import Literal

import msgspec

from automem_learners.select.traces import Turn
from automem_learners.select.verdict import Kind


class EvidenceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How use and progress are judged."""

    kind: Literal["auto", "names", "preceded"] = "auto"
    names_at_least: float = 0.02
    """`auto`: share of consultations with a use from which on names are evidence."""
    min_progress: float = 0.0
    """What an action must lead to, above the mean at that point, to have made progress."""
    of_median: float = 0.5
    """`names`: and at least this share of the median progress of uses that made any; less is mostly
    luck in the steps that follow."""
    top_share: float = 0.25
    """`preceded`: the share of writes and of consultations, by what followed, that counts."""


class Evidence:
    """Judges single turns, once it has seen them all; see the module's docstring."""

    def __init__(self, settings: EvidenceSettings) -> None:
        self._settings = settings
        self._consulted: Counter[str] = Counter()
        self._used: Counter[str] = Counter()
        self._earned: dict[tuple[str, Kind], array[float]] = {}
        self._gained: dict[str, array[float]] = {}
        self._cuts: dict[tuple[str, Kind], float] = {}
        self._least: dict[str, float] = {}

    def gather(self, turns: Iterable[Turn]) -> None:
        """See every turn once."""
        for turn in turns:
            if turn.kind is Kind.CONSULT and turn.returned:
                self._consulted[turn.world] += 1
                self._used[turn.world] += turn.used > 0
            elif turn.shown_used:
                self._consulted[turn.world] += 1
                self._used[turn.world] += 1
            for line in turn.written:
                if line.mean is not None and line.mean > 0:
                    self._gained.setdefault(turn.world, array("d")).append(line.mean)
            if turn.kind in (Kind.CONSULT, Kind.WRITE):
                value = earned(turn)
                if value is not None:
                    self._earned.setdefault((turn.world, turn.kind), array("d")).append(value)
        self._least = {world: self._threshold(world) for world in self._consulted}
        for key, values in self._earned.items():
            rank = int((1 - self._settings.top_share) * len(values))
            cut = sorted(values)[min(rank, len(values) - 1)]
            self._cuts[key] = max(cut, self._settings.min_progress)

    def _threshold(self, world: str) -> float:
        """What a use must have led to."""
        values = self._gained.get(world)
        typical = statistics.median(values) if values else 0.0
        return max(self._settings.min_progress, self._settings.of_median * typical)

    def is_by_name(self, world: str) -> bool:
        """Whether names are this world's evidence."""
        if self._settings.kind != "auto":
            return self._settings.kind == "names"
        consulted = self._consulted[world]
        return consulted > 0 and self._used[world] >= self._settings.names_at_least * consulted

    def describe(self) -> dict[str, str]:
        """World to the evidence that is taken there, in words."""
        return {
            world: f"{'names' if self.is_by_name(world) else 'preceded'} "
            f"({self._used[world]} of {count} consultations with a result show a use)"
            for world, count in self._consulted.items()
        }

    def has_paid(self, turn: Turn) -> bool:
        """Whether a write or consultation mattered and progress followed."""
        return bool(self.payment(turn))

    def payment(self, turn: Turn) -> tuple[float, str] | None:
        """(worth, in words) of a write or a consultation that paid; None for others."""
        if not self.is_by_name(turn.world):
            return self._by_what_followed(turn)
        if turn.kind is Kind.CONSULT:
            if turn.used and (turn.progress or 0.0) > self._least.get(
                turn.world, self._settings.min_progress
            ):
                return turn.progress or 0.0, f"progress {turn.progress:+.3f}"
            return None
        best = max(turn.written, key=lambda line: _value(line.mean), default=None)
        if (
            best is None
            or best.mean is None
            or best.mean <= self._least.get(turn.world, self._settings.min_progress)
        ):
            return None
        return best.mean, f"`{best.text}` used in step {best.best_step}: progress {best.mean:+.3f}"

    def _by_what_followed(self, turn: Turn) -> tuple[float, str] | None:
        value = earned(turn)
        cut = self._cuts.get((turn.world, turn.kind), 0.0)
        if value is None or value <= 0 or value < cut:
            return None
        return value, f"actions with it in context led to {value:+.4f} in all"


def earned(turn: Turn) -> float | None:
    """What followed where its lines were in context; None where they never were."""
    if turn.kind is Kind.CONSULT:
        return turn.progress if turn.returned else None
    values = [line.earned for line in turn.written if line.retrieved]
    return max(values, default=None)


def _value(mean: float | None) -> float:
    return float("-inf") if mean is None else mean
