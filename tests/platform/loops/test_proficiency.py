"""The proficiency loop: rounds, seeds, deaths; rollouts are real unless a test needs many loops."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.loop_parts import (
    RULE,
    SkillTrainer,
    TableStage,
    make_loop,
    recipe,
    small_stage,
    timeless,
)

from automem.errors import UsageError
from automem.loops.deciders import Check, Decision, FixedDecider
from automem.loops.gate import Rule, Verdict
from automem.loops.ledger import Chosen, Closed, Compared, Ledger, Picked, Trial
from automem.loops.proficiency import Unfinished
from automem.loops.recipes import Recipe, Specialist
from automem.loops.records import Records
from automem.loops.seedbook import SeedBook
from automem.loops.stage import Stage
from automem.rollout.journal import read_events
from automem.rollout.run_dir import read_run
from automem.seeds import SeedRange, range_of, seed_range
from automem.trace.events import Role, Turn


class Killed(BaseException):
    """The end of the process: nobody catches it."""


def test_a_better_specialist_is_accepted_and_plays_the_next_rounds_collection(
    tmp_path: Path,
) -> None:
    loop = make_loop(tmp_path, recipe("good"), recipe("bad"), stage=small_stage())
    outcome = loop.run()
    first, second = outcome.rounds
    assert first.verdict is Verdict.ACCEPTED
    assert first.gain is not None
    assert first.gain > 0
    assert outcome.champion == first.champion == second.champion == first.contender
    spec = read_run(tmp_path / "round-2" / "collect").spec
    assert spec.engines[spec.memory.engine].target["model"] == "good"
    assert spec.engines[spec.gameplay.engine].target["model"] == "base"
    [episode] = (tmp_path / "round-2" / "collect" / "episodes").iterdir()
    turns = [event for event in read_events(episode) if isinstance(event, Turn)]
    assert {turn.role for turn in turns} == {Role.MEMORY, Role.GAMEPLAY}
    # the race of the second round is against the new champion
    looks = loop.ledger.find_all(2, Compared)
    played = read_run(tmp_path / "round-2" / "race" / "1-4" / "champion").spec
    assert played.engines[played.memory.engine].target["model"] == "good"
    assert looks[0].comparison.verdict is Verdict.ELIMINATED


def test_a_worse_specialist_leaves_in_the_race_and_draws_no_confirm_seed(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, recipe("bad"), stage=small_stage())
    outcome = loop.run()
    assert outcome.champion is None
    assert [closed.verdict for closed in outcome.rounds] == [Verdict.ELIMINATED]
    ranges = {draw.range for draw in SeedBook(tmp_path / "seeds.jsonl").draws()}
    assert ranges == {SeedRange.TRAIN, SeedRange.SELECT}
    assert not (tmp_path / "round-1" / "confirm").exists()


def test_of_two_contenders_the_better_one_is_confirmed(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, recipe("bad", "good"))
    [closed] = loop.run().rounds
    assert closed.verdict is Verdict.ACCEPTED
    assert closed.contender is not None
    assert closed.contender.path == "good"
    assert [(look.contender, look.kind) for look in loop.ledger.find_all(1, Compared)] == [
        (0, "race"),
        (1, "race"),
        (1, "confirm"),
    ]


def test_an_empty_selection_closes_the_round_and_the_loop_goes_on(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, recipe("good", selector="nothing"), recipe("good"))
    first, second = loop.run().rounds
    assert (first.verdict, first.contender, first.gain) == (None, None, None)
    assert "nothing to learn from: the signal is scattered" in first.reason
    assert second.verdict is Verdict.ACCEPTED


def test_seeds_come_from_their_ranges_and_none_is_used_twice(tmp_path: Path) -> None:
    book = SeedBook(tmp_path / "seeds.jsonl")
    for seed in (0, 1):
        folder = tmp_path / f"seed-{seed}"
        make_loop(folder, recipe(), recipe("good", "bad"), book=book, seed=seed).run()
    drawn = [(draw.range, seed) for draw in book.draws() for seed in draw.seeds]
    assert len(set(drawn)) == len(drawn)
    assert {name for name, _ in drawn} == {SeedRange.TRAIN, SeedRange.SELECT, SeedRange.CONFIRM}
    assert all(range_of(seed) is name for name, seed in drawn)
    for seed in (0, 1):
        for look in Ledger(tmp_path / f"seed-{seed}").entries():
            if isinstance(look.what, Compared):
                name = SeedRange.SELECT if look.what.kind == "race" else SeedRange.CONFIRM
                assert {range_of(seed) for seed, *_ in look.what.pairs} == {name}


def test_later_rounds_reuse_or_add_to_the_episodes_as_the_recipe_says(tmp_path: Path) -> None:
    trainer = SkillTrainer()
    recipes = [recipe(source=source) for source in ("reuse", "reuse", "fresh", "all")]
    make_loop(tmp_path, *recipes, trainer=trainer).run()
    played = [[run.parent.name for run in runs] for runs, *_ in trainer.selections]
    assert played == [["round-1"], ["round-1"], ["round-3"], ["round-1", "round-3", "round-4"]]


def test_training_goes_on_from_the_champion_where_the_recipe_says_so(tmp_path: Path) -> None:
    trainer = SkillTrainer()
    make_loop(tmp_path, recipe("good"), recipe() | {"start": "champion"}, trainer=trainer).run()
    assert [start and start.path for *_, start in trainer.trainings] == [None, "good"]


def test_a_continuation_that_declares_another_rule_is_refused(tmp_path: Path) -> None:
    make_loop(tmp_path, recipe()).run()
    other = Rule(confirmations=4, alpha=0.9, pairs=7, race=(4,), flips=999)
    with pytest.raises(UsageError, match=r"declared rule = .*is continued with"):
        make_loop(tmp_path, recipe(), rule=other).run()


def test_rounds_can_be_added_within_what_was_declared(tmp_path: Path) -> None:
    first = make_loop(tmp_path, recipe()).run()
    longer = make_loop(tmp_path, recipe(), recipe()).run()
    assert longer.rounds[:1] == first.rounds
    assert len(longer.rounds) == 2


def test_more_rounds_than_declared_confirmations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"raise gate\.confirmations"):
        make_loop(tmp_path, recipe(), rounds=5)


def test_a_pending_episode_decides_nothing_and_the_next_call_goes_on(tmp_path: Path) -> None:
    outage = tmp_path / "outage"
    loop = make_loop(tmp_path, recipe("good"), stage=small_stage(outage))
    first_race_seed = seed_range(SeedRange.SELECT)[2]
    outage.write_text(f"concentration-{first_race_seed}-")
    with pytest.raises(Unfinished, match=r"1 episodes of .* are pending .*the server is away"):
        loop.run()
    assert loop.ledger.find_all(1, Compared) == []
    assert loop.ledger.find(1, Closed) is None
    champion = tmp_path / "round-1" / "race" / "1-4" / "champion" / "episodes"
    done = {path: path.stat().st_mtime_ns for path in champion.glob("*/episode.json")}
    assert len(done) == 3
    outage.unlink()
    assert loop.run().rounds[0].verdict is Verdict.ACCEPTED
    assert {path: path.stat().st_mtime_ns for path in done} == done


# Deaths


class AskedOnce:
    """A decider that remembers for how many trials it was asked."""

    name = "asked"

    def __init__(self, *recipes: dict[str, Any]) -> None:
        self._recipes = FixedDecider(recipes)
        self.asked: list[int] = []

    def choose(self, trials: Sequence[Trial], check: Check) -> Decision:
        decision = self._recipes.choose(trials, check)
        self.asked.append(len(trials))
        return decision


class Fate:
    """Ends the process at a call: just before its work, or just after."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed

    def around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def fated(*args: Any, **kwargs: Any) -> Any:
            self()
            result = work(*args, **kwargs)
            self()
            return result

        return fated


RECIPES = (recipe("bad", "good"), recipe("good", selector="nothing"), recipe("bad"))


def fated_loop(folder: Path, fate: Fate, decider: AskedOnce, stage: Stage, patch: Any) -> None:
    trainer = SkillTrainer()
    for owner, name in ((trainer, "select"), (trainer, "train"), (stage, "play")):
        patch.setattr(owner, name, fate.around(getattr(owner, name)))
    patch.setattr(Records, "_write", fate.around(Records._write))
    choose, asked = decider.choose, decider.asked

    def fated_choice(trials: Sequence[Trial], check: Check) -> Decision:
        fate()
        return choose(trials, check)

    patch.setattr(decider, "choose", fated_choice)
    make_loop(folder, *RECIPES, stage=stage, trainer=trainer, decider=decider).run()
    assert asked == sorted(set(asked))


def test_a_loop_killed_at_every_point_ends_with_the_same_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = tmp_path / "calm"
    make_loop(calm, *RECIPES, decider=AskedOnce(*RECIPES)).run()
    expected = timeless(calm)
    deaths = 0
    while True:
        fate, folder = Fate(deaths + 1), tmp_path / f"killed-{deaths}"
        decider, stage = AskedOnce(*RECIPES), TableStage()
        try:
            with monkeypatch.context() as patch:
                fated_loop(folder, fate, decider, stage, patch)
            break
        except Killed:
            deaths += 1
        again = AskedOnce(*RECIPES)
        make_loop(folder, *RECIPES, decider=again).run()
        assert timeless(folder) == expected, f"killed at call {deaths}"
        # asked again only where the answer had not been written down
        assert len(decider.asked + again.asked) <= len(RECIPES) + 1
        assert again.asked == sorted(set(again.asked))
    assert deaths > 60  # two per play, selection, training and record
    assert timeless(folder) == expected


def test_a_loop_killed_again_and_again_plays_no_finished_episode_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = tmp_path / "calm"
    recipes = (recipe("good"),)
    make_loop(calm, *recipes, stage=small_stage()).run()
    died: set[str] = set()
    play = Stage.play

    def mortal(self: Stage, folder: Path, *rest: Any) -> Any:
        if f"before {folder}" not in died:
            died.add(f"before {folder}")
            raise Killed
        played = play(self, folder, *rest)
        if f"after {folder}" not in died:
            died.add(f"after {folder}")
            raise Killed
        return played

    monkeypatch.setattr(Stage, "play", mortal)
    killed, lives = tmp_path / "killed", 0
    while True:
        lives += 1
        try:
            make_loop(killed, *recipes, stage=small_stage()).run()
            break
        except Killed:
            continue
    assert lives == 11  # five plays, two deaths each
    assert timeless(killed) == timeless(calm)
    journals = list(killed.rglob("journal/*.jsonl"))
    assert len(journals) == 1 + 2 * RULE.race[-1] + 2 * RULE.pairs
    assert {path.name for path in journals} == {"0001.jsonl"}


def test_two_trainings_without_a_race_are_refused_before_anything_is_played(
    tmp_path: Path,
) -> None:
    rule = Rule(confirmations=1, alpha=0.9, pairs=4, race=(), flips=99)
    stage = TableStage()
    with pytest.raises(UsageError, match=r"two trainings need a race.*gate\.race"):
        make_loop(tmp_path, recipe("good", "bad"), rule=rule, stage=stage).run()
    assert not (tmp_path / "round-1").exists()
    assert make_loop(tmp_path, recipe("good"), rule=rule).run().champion is not None


def test_a_recipe_is_checked_against_the_champion_that_it_starts_from(tmp_path: Path) -> None:
    class Strict(SkillTrainer):
        def check(self, recipe: Recipe, start: Specialist | None = None) -> None:
            super().check(recipe)
            if start is not None:
                raise UsageError(f"{start.path} has another rank")

    recipes = (recipe("good"), recipe() | {"start": "champion"})
    with pytest.raises(UsageError, match="good has another rank"):
        make_loop(tmp_path, *recipes, trainer=Strict()).run()
    assert Ledger(tmp_path).find(2, Chosen) is None
    assert not (tmp_path / "round-2").exists()


def test_what_was_said_and_decided_is_in_the_ledger(tmp_path: Path) -> None:
    lines: list[str] = []
    loop = make_loop(tmp_path, recipe(), say=lines.append)
    loop.run()
    kinds = [type(entry.what).__name__ for entry in loop.ledger.entries()]
    assert kinds == ["Declared", "Chosen", "Picked", "Trained", "Compared", "Compared", "Closed"]
    assert loop.ledger.find(1, Chosen) is not None
    assert loop.ledger.find(1, Picked) is not None
    assert lines[0].startswith("round 1: provenance on fresh episodes, 1 training(s) (fixed:")
    assert "champion: round-1-specialist-1" in lines[-1]
    lines.clear()
    loop.run()
    assert lines == []
