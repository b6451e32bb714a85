"""The ledger: what the proficiency loop declared, chose, made and decided, one entry after another.

Promise: append-only and kill-safe (`records.py`); a loop that was killed reads here what it had
decided and never decides it again. Everything a decider or a person needs to judge a recipe is in
it, per-seed results included; nothing of the range `final` ever is. What lies beneath the ledger's
folder is written relative to it, so the folder can be moved.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from automem.errors import UsageError
from automem.loops.collection import Gathered, PartBegun, PartPlayed
from automem.loops.gate import Comparison, Rule, Verdict
from automem.loops.recipes import Recipe, Selected, Specialist, Weighed
from automem.loops.records import Records

LEDGER = "ledger.jsonl"
HERE = "./"
"""How a path begins that is relative to the ledger's folder."""


class Declared(msgspec.Struct, frozen=True, tag="declared"):
    """The rule of the whole loop, before the first look; a continuation must declare the same.
    Rounds may be added: the rule's K bounds them all."""

    rule: Rule
    base: str
    """The base model."""
    world: str
    scaffold: str


class Chosen(msgspec.Struct, frozen=True, tag="chosen"):
    """A decider's word, before it is carried out."""

    recipe: Recipe
    decider: str
    reason: str


class Picked(msgspec.Struct, frozen=True, tag="picked"):
    """What selection gave."""

    selected: Selected
    episodes: int


class Trained(msgspec.Struct, frozen=True, tag="trained"):
    """One contender."""

    contender: int
    specialist: Specialist


class Compared(msgspec.Struct, frozen=True, tag="compared"):
    """A look at a race, or the confirmation."""

    contender: int
    kind: str
    """`race` or `confirm`."""
    comparison: Comparison
    pairs: tuple[tuple[int, float, float], ...]
    """(seed, contender, champion)."""


class Closed(msgspec.Struct, frozen=True, tag="closed"):
    """The end of a round."""

    verdict: Verdict | None
    """None: nothing could be trained."""
    reason: str
    contender: Specialist | None
    """The one that went furthest."""
    champion: Specialist | None
    """From now on; None: the base."""
    gain: float | None
    """Mean paired difference on the largest sample that its contender saw."""


Happening = (
    Declared
    | Chosen
    | PartBegun
    | PartPlayed
    | Gathered
    | Picked
    | Weighed
    | Trained
    | Compared
    | Closed
)
HappeningType = TypeVar("HappeningType", bound=msgspec.Struct)


class Entry(msgspec.Struct, frozen=True):
    """One line of the ledger."""

    round: int
    """From 1; 0 for what holds for all."""
    at: float
    """Seconds since 1970."""
    what: Happening


class Trial(msgspec.Struct, frozen=True):
    """A finished round, as deciders see it."""

    round: int
    recipe: Recipe
    closed: Closed
    turns: int


class Ledger:
    """See the module's docstring."""

    def __init__(self, folder: Path, keep: Callable[[], None] | None = None) -> None:
        """`keep`: stores the loop's folder (`stored_loop`); called after each new entry."""
        self._folder = folder
        self._keep = keep
        self._records = Records(folder / LEDGER, Entry)

    def entries(self) -> list[Entry]:
        """All of it, oldest first; paths as they are now."""
        return [
            Entry(entry.round, entry.at, with_paths(entry.what, self._absolute))
            for entry in self._records.all()
        ]

    def declare(self, declared: Declared) -> None:
        """Declare the loop, or check that a continuation declares the same (UsageError)."""
        known = self.find(0, Declared)
        if known is None:
            self.add(0, declared)
            return
        for field in Declared.__struct_fields__:
            before, now = getattr(known, field), getattr(declared, field)
            if before != now:
                raise UsageError(
                    f"this loop declared {field} = {before} when it began and is continued with "
                    f"{now}: keep to it, or begin another loop in a new run.dir"
                )

    def add(self, round_number: int, what: Happening) -> None:
        """Write one entry; it is on disk, and where the loop is stored in the store, when this
        returns."""
        written = with_paths(what, lambda path: relative_path(path, self._folder))
        self._records.append(Entry(round_number, time.time(), written))
        if self._keep is not None:
            self._keep()

    def find(self, round_number: int, kind: type[HappeningType]) -> HappeningType | None:
        """The last entry of this kind in a round."""
        found = self.find_all(round_number, kind)
        return found[-1] if found else None

    def find_all(self, round_number: int, kind: type[HappeningType]) -> list[HappeningType]:
        """Every entry of this kind in a round."""
        return [
            entry.what
            for entry in self.entries()
            if entry.round == round_number and isinstance(entry.what, kind)
        ]

    def trials(self) -> list[Trial]:
        """The finished rounds."""
        trials = []
        for entry in self.entries():
            if isinstance(entry.what, Closed):
                chosen, picked = self.find(entry.round, Chosen), self.find(entry.round, Picked)
                if chosen is not None:
                    turns = picked.selected.turns if picked else 0
                    trials.append(Trial(entry.round, chosen.recipe, entry.what, turns))
        return trials

    def champion(self, before: int | None = None) -> Specialist | None:
        """Who plays the memory role now, or when round `before` began; None: the base."""
        trials = [trial for trial in self.trials() if before is None or trial.round < before]
        return trials[-1].closed.champion if trials else None

    def version(self, before: int | None = None) -> int:
        """How many champions there have been, the base left out: the policy's version now, or when
        round `before` began."""
        return sum(
            trial.closed.verdict is Verdict.ACCEPTED
            for trial in self.trials()
            if before is None or trial.round < before
        )

    def _absolute(self, path: str) -> str:
        return str(self._folder / path) if path.startswith(HERE) else path


def with_paths(what: HappeningType, change: Callable[[str], str]) -> HappeningType:
    """`what` with every path in it changed."""

    def moved(specialist: Specialist | None) -> Specialist | None:
        if specialist is None:
            return None
        return msgspec.structs.replace(specialist, path=change(specialist.path))

    match what:
        case Picked(selected=selected):
            there = msgspec.structs.replace(selected, folder=change(selected.folder))
            return msgspec.structs.replace(what, selected=there)
        case PartBegun(player=player):
            return msgspec.structs.replace(what, player=moved(player))
        case Trained(specialist=specialist):
            return msgspec.structs.replace(what, specialist=moved(specialist))
        case Closed(contender=contender, champion=champion):
            return msgspec.structs.replace(
                what, contender=moved(contender), champion=moved(champion)
            )
    return what


def relative_path(path: str, folder: Path) -> str:
    """`path` as seen from `folder`, marked so, where it lies beneath it; else as it is."""
    try:
        return HERE + Path(path).relative_to(folder).as_posix()
    except ValueError:
        return path
