"""Collecting while training: what is begun, how stale turns get, what is counted."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.drivers import wait_until
from support.loop_parts import SkillTrainer, TableStage, make_loop, recipe, small_stage

from automem.errors import UsageError
from automem.loops.collection import (
    Collection,
    Gathered,
    PartBegun,
    PartPlayed,
    staleness,
    store_limit,
)
from automem.loops.gate import Rule, Verdict
from automem.loops.ledger import Chosen, Ledger, Trained
from automem.loops.proficiency import Unfinished
from automem.loops.recipes import Recipe, Selected, Specialist, Weighed
from automem.loops.seedbook import SeedBook
from automem.loops.stage import Arm, Played
from automem.rollout.progress import Progress
from automem.seeds import SeedRange
from automem.tracker import Tracker

ROUNDS = 5
RISING = Rule(confirmations=ROUNDS, alpha=0.9, pairs=8, race=(4,), flips=999)


class RisingStage(TableStage):
    """Every specialist plays better than the one before it; an episode has one turn of each role.
    What a part was given up at can be left unplayed."""

    def play(
        self,
        folder: Path,
        arm: Arm,
        specialist: Specialist | None,
        seeds: Sequence[int],
        title: str,
        on_progress: Callable[[Progress], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Played:
        level = int(specialist.path) / 10 if specialist else 0.0
        turns = folder / "tables" / "turns"
        turns.mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            pq.write_table(pa.table({"role": ["memory", "gameplay"]}), turns / f"{seed}.parquet")
        (folder / "summary.json").write_text("{}")
        metrics: dict[str, Any] = {"redundant_writes": {"mean": level}}
        return Played(
            folder, dict.fromkeys(seeds, level), {"pending": 0, "failed": 0, "metrics": metrics}
        )


class SlowTrainer(SkillTrainer):
    """Trains until the collection has done all that it may do meanwhile."""

    def __init__(self, folder: Path, full: Callable[[int], int]) -> None:
        """`full`: a round to the episodes that are in store when collection has to wait."""
        super().__init__()
        self._ledger = Ledger(folder)
        self._full = full

    def check(self, recipe: Recipe, start: Specialist | None = None) -> None:
        pass

    def train(
        self,
        selected: Selected,
        training: Mapping[str, Any],
        folder: Path,
        seed: int,
        start: Specialist | None,
        tracker: Tracker,
    ) -> Specialist:
        number = int(folder.parent.name.removeprefix("round-"))
        full = self._full(number)
        wait_until(lambda: in_store(self._ledger) == (full, full), "the collection to fill")
        return super().train(selected, training, folder, seed, start, tracker)


def in_store(ledger: Ledger) -> tuple[int, int]:
    """Episodes that were begun, and played, and that no round has had."""
    entries = [entry.what for entry in ledger.entries()]
    gone = {use.part for what in entries if isinstance(what, Gathered) for use in what.uses}
    begun = {what.part: what.episodes for what in entries if isinstance(what, PartBegun)}
    played = {what.part for what in entries if isinstance(what, PartPlayed)}
    return (
        sum(episodes for part, episodes in begun.items() if part not in gone),
        sum(episodes for part, episodes in begun.items() if part in played - gone),
    )


def rising(
    folder: Path, collection: Collection, want: int = 2, tracker: Tracker | None = None
) -> Ledger:
    """A loop whose every round is accepted, after its collection has gone as far as it may."""

    def full(number: int) -> int:
        return store_limit(collection, want, False, ROUNDS - number)

    recipes = [recipe(str(number), episodes=want) for number in range(1, ROUNDS + 1)]
    loop = make_loop(
        folder, *recipes, stage=RisingStage(), trainer=SlowTrainer(folder, full), rule=RISING,
        collection=collection, tracker=tracker,
    )  # fmt: skip
    outcome = loop.run()
    assert [closed.verdict for closed in outcome.rounds] == [Verdict.ACCEPTED] * ROUNDS
    return loop.ledger


def gathered(ledger: Ledger) -> list[Gathered]:
    return [e.what for e in ledger.entries() if isinstance(e.what, Gathered)]


@pytest.mark.parametrize("bound", [1, 2, 3])
def test_no_turn_is_staler_than_the_bound_however_slow_training_is(
    tmp_path: Path, bound: int
) -> None:
    collection = Collection(mode="asynchronous", part=1, max_staleness=bound, stale="weight")
    ledger = rising(tmp_path, collection)
    found = gathered(ledger)
    lags = [[use.lag for use in each.uses] for each in found]
    assert len(found) == ROUNDS
    assert max(max(each) for each in lags) == bound  # the bound is reached, and never passed
    assert not any(use.is_dropped for each in found for use in each.uses)
    for number, each in enumerate(found):
        assert each.version == number
        assert [use.lag for use in each.uses] == [number - use.version for use in each.uses]


def test_collection_waits_where_its_store_is_full(tmp_path: Path) -> None:
    collection = Collection(mode="asynchronous", part=1, max_staleness=2, stale="weight")
    ledger = rising(tmp_path, collection, want=2)
    store, most, has_gathered = 0, 0, False
    for entry in ledger.entries():
        match entry.what:
            case Chosen():
                has_gathered = False
            case PartBegun(episodes=episodes):
                store += episodes
                assert store <= (4 if has_gathered else 6)
                most = max(most, store)
            case Gathered(uses=uses):
                store -= sum(use.episodes for use in uses)
                has_gathered = True
    assert most >= 4
    # nothing is collected for rounds that will not come
    assert store == 0


def test_episodes_are_played_while_a_round_trains(tmp_path: Path) -> None:
    collection = Collection(mode="asynchronous", part=2)
    kinds = [type(entry.what) for entry in rising(tmp_path, collection).entries()]
    first = kinds[: kinds.index(Trained)]
    assert first.count(PartPlayed) == 2  # the first round's own part, and the second's
    assert first.count(Gathered) == 1


def test_stale_turns_are_dropped_counted_and_played_anew(tmp_path: Path) -> None:
    collection = Collection(mode="asynchronous", part=1, max_staleness=2, stale="drop")
    found = gathered(rising(tmp_path, collection, want=2))
    for number, each in enumerate(found):
        figures = staleness(each)
        assert figures.turns_by_lag == {0: 2}
        assert figures.episodes == 2
        dropped = [use for use in each.uses if use.is_dropped]
        # what was collected ahead was the version before's
        assert {use.version for use in dropped} <= {number - 1}
        assert figures.dropped_episodes == sum(figures.dropped_by_lag.values()) == len(dropped)
        assert bool(dropped) is (number > 0)
    assert "dropped as stale" in staleness(found[1]).told()


def test_a_tolerated_lag_is_learned_from_as_it_is(tmp_path: Path) -> None:
    collection = Collection(mode="asynchronous", part=1, max_staleness=2, tolerated=1, stale="drop")
    found = gathered(rising(tmp_path, collection, want=2))
    assert max(use.lag for each in found for use in each.kept) == 1
    assert {use.lag for each in found for use in each.uses if use.is_dropped} <= {2}


def test_stale_turns_get_a_weight_against_the_present_champion(tmp_path: Path) -> None:
    collection = Collection(
        mode="asynchronous", part=2, max_staleness=1, stale="weight", truncation=1.5
    )
    values: list[dict[str, float]] = []

    class Listening:
        def log(self, metrics: Mapping[str, float], step: int) -> None:
            values.append(dict(metrics))

        def finish(self, summary: Mapping[str, Any]) -> None:
            pass

    ledger = rising(tmp_path, collection, tracker=Listening())
    weighed = [e.what for e in ledger.entries() if isinstance(e.what, Weighed)]
    assert weighed == [Weighed(1, 0.75, 0)] * (ROUNDS - 1)
    seen = [each for each in values if "staleness/version" in each]
    assert [each["staleness/max_lag"] for each in seen] == [0, 1, 1, 1, 1]
    assert [each.get("staleness/mean_weight") for each in seen] == [None] + [0.75] * 4


def test_the_gate_decides_as_it_does_without_collecting_ahead(tmp_path: Path) -> None:
    def decided(folder: Path, collection: Collection) -> list[Any]:
        recipes = [recipe("bad", "good"), recipe("bad"), recipe("good", "bad")]
        loop = make_loop(folder, *recipes, collection=collection)
        loop.run()
        own = (PartBegun, PartPlayed, Gathered)
        entries = [e for e in loop.ledger.entries() if not isinstance(e.what, own)]
        return [(e.round, repr(e.what).replace(str(folder), "HERE")) for e in entries]

    ahead = decided(tmp_path / "ahead", Collection(mode="asynchronous", part=1))
    assert ahead == decided(tmp_path / "one-after-another", Collection())


def test_a_pending_part_stops_the_loop_and_the_next_call_goes_on(tmp_path: Path) -> None:
    outage = tmp_path / "outage"
    outage.write_text("concentration")
    collection = Collection(mode="asynchronous", part=1)
    loop = make_loop(tmp_path, recipe("good"), stage=small_stage(outage), collection=collection)
    with pytest.raises(Unfinished, match="the server is away"):
        loop.run()
    assert loop.ledger.find(1, Gathered) is None
    outage.unlink()
    assert loop.run().rounds[0].verdict is Verdict.ACCEPTED
    parts = [e.what.part for e in loop.ledger.entries() if isinstance(e.what, PartBegun)]
    assert parts == [1]
    draws = SeedBook(tmp_path / "seeds.jsonl").draws()
    assert sum(draw.count for draw in draws if draw.range is SeedRange.TRAIN) == 1


def test_a_round_that_uses_old_episodes_gathers_none(tmp_path: Path) -> None:
    trainer = SkillTrainer()
    recipes = [recipe(), recipe(source="reuse"), recipe(source="all")]
    collection = Collection(mode="asynchronous", part=1, stale="weight")
    make_loop(tmp_path, *recipes, trainer=trainer, collection=collection).run()
    played = [[run.name for run in runs] for runs, *_ in trainer.selections]
    assert played == [["part-1"], ["part-1"], ["part-1", "part-2"]]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"part": 0}, "part must be at least 1"),
        ({"max_staleness": 0}, "for that, set mode=synchronous"),
        ({"tolerated": 2}, "tolerated must be from 0 to max_staleness=1"),
        ({"truncation": 0.0}, "truncation must be above 0"),
    ],
)
def test_impossible_settings_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as error:
        Collection(**fields)
    assert told in str(error.value)
