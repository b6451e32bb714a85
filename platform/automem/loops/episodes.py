"""The episodes that a round of the proficiency loop learns from: when they are played, and where.

Synchronous: a round's own, played by the champion when the round asks. Asynchronous: parts of a
collection that a thread plays ahead (`collecting`), and what of them the round may use. Promise:
either way, what has been played is not played again, and the ledger says what each round used.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from automem.loops.collecting import Collector, Stop
from automem.loops.collection import (
    Collection,
    Gathered,
    PartBegun,
    PartPlayed,
    memory_turns,
    store_limit,
)
from automem.loops.ledger import Ledger
from automem.loops.recipes import Recipe, Specialist
from automem.loops.seedbook import SeedBook
from automem.loops.stage import Arm, Played, Stage
from automem.rollout.progress import Progress
from automem.seeds import SeedRange


class Episodes:
    """See the module's docstring."""

    def __init__(
        self,
        collection: Collection,
        rounds: int,
        seed: int,
        folder: Path,
        book: SeedBook,
        stage: Stage,
        ledger: Ledger,
        check: Callable[[Played], None],
        say: Callable[[str], None],
    ) -> None:
        """`seed`: the training seed. `check`: raises where episodes are pending."""
        self._collection = collection
        self._rounds = rounds
        self._seed = seed
        self._folder = folder
        self._book = book
        self._stage = stage
        self._ledger = ledger
        self._check = check
        self._say = say
        self._collector: Collector | None = None

    @contextmanager
    def played_ahead(self) -> Iterator[None]:
        """In the asynchronous mode, a thread plays as long as the block lasts."""
        if not self._collection.is_asynchronous:
            yield
            return
        collector = Collector(self._collection, self._ledger, self._play_part, self._turns_of)
        try:
            with collector:
                self._collector = collector
                yield
        finally:
            self._collector = None

    def collect(self, number: int, recipe: Recipe, champion: Specialist | None) -> list[Path]:
        """The runs that a round learns from, once they are there."""
        if self._collector is not None:
            self._gather(self._collector, number, recipe)
        elif self._wants_new(number, recipe):
            self._play(number, recipe, champion)
        return self.runs_of(number, recipe)

    def runs_of(self, number: int, recipe: Recipe) -> list[Path]:
        """Where the turns of a round come from: its own episodes come last."""
        before = [runs for n in range(1, number) if (runs := self._own(n))]
        if not self._wants_new(number, recipe):
            return before[-1]
        earlier = [run for runs in before for run in runs] if recipe.data.source == "all" else []
        return [*earlier, *(self._own(number) or [self._run_of(number)])]

    def stale_runs(self, number: int) -> dict[str, int]:
        """Folder to lag, of the runs that a round learns from with a weight."""
        gathered = self._ledger.find(number, Gathered)
        return {
            str(self._folder_of(use.part).resolve()): use.lag
            for use in (gathered.kept if gathered else ())
            if self._collection.weighs(use.lag)
        }

    def _wants_new(self, number: int, recipe: Recipe) -> bool:
        """Whether a round learns from episodes of its own; the first one has no others."""
        return recipe.data.source != "reuse" or not any(map(self._own, range(1, number)))

    def _own(self, number: int) -> list[Path]:
        """What a round collected."""
        gathered = self._ledger.find(number, Gathered)
        if gathered is not None:
            return [self._folder_of(use.part) for use in gathered.kept]
        return [self._run_of(number)] if self._run_of(number).exists() else []

    def _run_of(self, number: int) -> Path:
        return self._folder / f"round-{number}" / "collect"

    # Synchronous

    def _play(self, number: int, recipe: Recipe, champion: Specialist | None) -> None:
        purpose = f"training seed {self._seed}, round {number}: training episodes"
        seeds = self._book.take(SeedRange.TRAIN, recipe.data.episodes, purpose)
        player = champion.name if champion else "base"
        title = f"round {number}: {player} plays to learn"
        played = self._stage.play(self._run_of(number), Arm(), champion, seeds, title)
        self._check(played)
        mean = sum(played.progressions.values()) / len(seeds)
        self._say(f"  {len(seeds)} training episodes by {player}: progression {mean:.3f}")

    # Asynchronous

    def _gather(self, collector: Collector, number: int, recipe: Recipe) -> None:
        """Wait for this round's parts, and let the thread play as far ahead as it may."""
        want, left = recipe.data.episodes, self._rounds - number
        later = store_limit(self._collection, want, False, left)
        if self._wants_new(number, recipe) and self._ledger.find(number, Gathered) is None:
            collector.allow(number, store_limit(self._collection, want, True, left))
            collector.gather(number, self._ledger.version(), want, later)
        collector.allow(number, later)

    def _play_part(self, part: PartBegun, should_stop: Stop) -> PartPlayed | None:
        """In the collector's thread."""
        purpose = f"training seed {self._seed}: collection, part {part.part}"
        seeds = self._book.take(SeedRange.TRAIN, part.episodes, purpose)
        folder = self._folder_of(part.part)
        try:
            played = self._stage.play(
                folder, Arm(), part.player, seeds, "", on_progress=_unseen, should_stop=should_stop
            )
        except KeyboardInterrupt:
            if should_stop():
                return None
            raise
        self._check(played)
        mean = sum(played.progressions.values()) / len(seeds)
        return PartPlayed(part.part, mean, memory_turns(folder))

    def _turns_of(self, part: PartBegun) -> int:
        return memory_turns(self._folder_of(part.part))

    def _folder_of(self, part: int) -> Path:
        return self._folder / "collect" / f"part-{part}"


def _unseen(_: Progress) -> None:
    """Episodes that are played ahead show no bar: the terminal has room for one."""
