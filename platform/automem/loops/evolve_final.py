"""The last word on an evolved scaffold: start and champion on `final` seeds, read by nothing else.

Every reading is a line of `final_looks.jsonl` beside the runs, written before the first of its
games is played, and its number stands beside the result: the more often anybody looks, the less a
look is worth. Promise: a champion is read once per run; what came of it is told again, not played
again, and a miss is not retried. A killed reading goes on and stays the same look; it is played
under the loop's own settings only. No loop, reviewer, gate or ledger imports this module.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from automem.errors import UsageError
from automem.loops.evolve_stage import Arena, Entrant
from automem.loops.lineage import Lineage, Node
from automem.loops.proficiency import Unfinished
from automem.loops.records import Records
from automem.loops.stage import Played
from automem.rollout.run_dir import RUN_FILE
from automem.seeds import SeedRange, seeds_from
from automem.trace.statistics import Estimate, estimate, paired_difference

LOOKS = "final_looks.jsonl"


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """A reading of the range `final`: begun, and once more when its result is known."""

    number: int
    """From 1, over everything that was read beside this file."""
    run: str
    """The run's folder, by name."""
    world: str
    start: str
    """Version of the starting scaffold."""
    champion: str
    games: int
    at: float
    reached: tuple[Estimate, Estimate] | None = None
    """Start and champion; None while it is not finished."""
    difference: Estimate | None = None
    """Paired by seed, champion minus start."""


class FinalTable:
    """See the module's docstring."""

    def __init__(self, folder: Path, arena: Arena) -> None:
        self._folder = folder
        self._arena = arena
        self._lineage = Lineage(folder)
        self._records = Records(folder.parent / LOOKS, Look)

    def read(self, games: int) -> Look:
        """The result, played if it was not yet. UsageError where nothing was accepted, or where the
        arena would play under other settings than the loop did."""
        start, champion = self._lineage.nodes()[0], self._lineage.champion()
        if champion.id == start.id:
            raise UsageError(
                "nothing was accepted: the champion is the starting scaffold, so there is nothing "
                "to compare, and no final seed was read"
            )
        self._check_settings(start)
        known = [look for look in self._records.all() if self._is_this(look, champion)]
        finished = [look for look in known if look.difference is not None]
        if finished:
            return finished[-1]
        look = known[-1] if known else self._begin(start, champion, games)
        seeds = seeds_from(SeedRange.FINAL, look.games)
        place = self._folder / "final" / champion.id
        entrants = [
            Entrant(name, self._lineage.folder(node), place / name)
            for name, node in (("start", start), ("champion", champion))
        ]
        played = self._arena.play(entrants, seeds, "final seeds: start and champion")
        done = _with_result(look, played, seeds)
        self._records.append(done)
        return done

    def looks(self) -> int:
        """How often the range was read, by anything beside this file."""
        return max((look.number for look in self._records.all()), default=0)

    def _check_settings(self, start: Node) -> None:
        declared, world = self._lineage.declared(), self._arena.world
        if declared is not None and declared.world != world:
            differs = f"world: {declared.world}, not {world}"
        else:
            study = self._folder / "studies" / start.id
            if not (study / RUN_FILE).exists():
                raise UsageError(f"{study} is gone: nothing says how the loop's games were played")
            fields = self._arena.differing_from(study)
            if not fields:
                return
            differs = f"{', '.join(fields)}; {study / RUN_FILE} has the loop's"
        raise UsageError(
            f"the loop was played with other settings ({differs}): judge it with its own, so give "
            "nothing but finalize.games; no final seed was read"
        )

    def _is_this(self, look: Look, champion: Node) -> bool:
        return (look.run, look.champion) == (self._folder.name, champion.grown.version)

    def _begin(self, start: Node, champion: Node, games: int) -> Look:
        def begun(looks: list[Look]) -> Look:
            return Look(
                number=max((look.number for look in looks), default=0) + 1,
                run=self._folder.name,
                world=self._arena.world,
                start=start.grown.version,
                champion=champion.grown.version,
                games=games,
                at=time.time(),
            )

        return self._records.append_after(begun)


def _with_result(look: Look, played: Sequence[Played], seeds: Sequence[int]) -> Look:
    pending = sum(result.summary["pending"] for result in played)
    if pending:
        raise Unfinished(
            f"{pending} final games are pending: nothing is lost, run the same command again to go "
            "on; it stays the same look"
        )
    ours, theirs = ([result.progressions[seed] for seed in seeds] for result in reversed(played))
    return msgspec.structs.replace(
        look,
        at=time.time(),
        reached=(estimate(theirs), estimate(ours)),
        difference=paired_difference(ours, theirs),
    )
