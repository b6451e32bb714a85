"""Loops beside their controls: paired by deck, played once, counted by training seed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.loop_parts import SkillTrainer, TableStage, make_loop, recipe, small_stage

from automem.errors import UsageError
from automem.loops.arm_results import report_runs
from automem.loops.experiment import RESULTS, Control, Experiment, Plan, Results, read_results
from automem.loops.proficiency import Loop, Unfinished
from automem.loops.results_table import print_results, sentence
from automem.loops.seedbook import SeedBook
from automem.loops.stage import Stage, read_arm
from automem.seeds import SeedRange, range_of, seeds_from

ARMS = {
    "base": {},
    "specialist": {"memory": "champion"},
    "specialist, round 1": {"memory": "round:1"},
    "control: random": {"memory": "control:random"},
    "perfect": {
        "memory": "player",
        "player": {"_target_": "automem_envs.concentration.players.PerfectMemoryPlayer"},
    },
}
CONTROLS = {"random": Control(selector="random", matches=True)}


def plan(
    arms: Mapping[str, Any] = ARMS,
    controls: Mapping[str, Control] = CONTROLS,
    training_seeds: tuple[int, ...] = (0, 3),
    games: int = 4,
) -> Plan:
    return Plan(
        training_seeds=training_seeds,
        games=games,
        arms={name: read_arm(arm, name) for name, arm in arms.items()},
        controls=dict(controls),
    )


class WatchedStage(TableStage):
    """Counts what is really played."""

    def __init__(self) -> None:
        super().__init__()
        self.plays: list[str] = []

    def play(self, folder: Path, *rest: Any) -> Any:
        self.plays.append(str(folder))
        return super().play(folder, *rest)


def experiment(
    folder: Path,
    *recipes: dict[str, Any],
    what: Plan | None = None,
    stage: Stage | None = None,
    trainer: SkillTrainer | None = None,
) -> Results:
    stage, trainer = stage or WatchedStage(), trainer or SkillTrainer()
    book = SeedBook(folder / "seeds.jsonl")

    def loop(seed: int, place: Path) -> Loop:
        return make_loop(place, *recipes, stage=stage, trainer=trainer, seed=seed, book=book)

    made = Experiment(what or plan(), folder, stage, trainer, loop, lambda line: None)
    return made.run("base", "v1")


def test_arms_are_paired_by_deck_and_counted_by_training_seed(tmp_path: Path) -> None:
    results = experiment(tmp_path, recipe("good"))
    arms = {arm.name: arm for arm in results.arms}
    assert list(arms) == list(ARMS)
    trained = arms["specialist"]
    assert list(trained.by_training_seed) == [0, 3]
    # by table, every deck is 0.4 better, so paired differences have no spread
    assert trained.difference == pytest.approx(0.4)
    assert trained.difference_interval is None
    assert trained.mean == pytest.approx(arms["base"].mean + 0.4)
    assert trained.ratios == pytest.approx([trained.mean / arms["base"].mean] * 2)
    means = [found.mean or 0.0 for found in trained.by_training_seed.values()]
    assert means[0] == means[1]
    assert trained.interval is None
    assert trained.metrics == {"redundant_writes": pytest.approx(0.7)}
    assert arms["base"].difference is None
    assert list(arms["base"].by_training_seed) == [-1]
    first, last = results.report_seeds
    assert (range_of(first), range_of(last)) == (SeedRange.REPORT, SeedRange.REPORT)
    assert list(results.rounds) == [0, 3]
    assert results.rounds[0][0]["verdict"] == "accepted"


def test_results_are_read_as_they_were_written_and_printed(tmp_path: Path) -> None:
    results = experiment(tmp_path, recipe("good"))
    assert read_results(tmp_path) == results
    console = Console(record=True, width=200, file=(tmp_path / "table.txt").open("w"))
    print_results(results, console)
    printed = console.export_text()
    assert "specialist, round 1" in printed
    assert "+0.400" in printed
    assert "mean over 2 training seeds with Student's 95 % interval" in sentence(results)
    assert [name for name, _ in report_runs(results.arms, tmp_path)] == [
        "base", "specialist, training seed 0", "specialist, round 1, training seed 0",
        "control: random, training seed 0", "perfect",
    ]  # fmt: skip
    assert all(path.is_dir() for _, path in report_runs(results.arms, tmp_path))


def test_a_training_that_the_gate_rejected_stays_in_its_arm_and_is_marked(tmp_path: Path) -> None:
    results = experiment(tmp_path, recipe("bad"))
    arms = {arm.name: arm for arm in results.arms}
    assert arms["specialist"].fell_back == (0, 3)
    assert arms["specialist, round 1"].fell_back == ()
    assert "specialist: training seeds 0, 3" in sentence(results)
    assert "specialist" not in " ".join(dict(report_runs([arms["specialist"]], tmp_path)))


@pytest.mark.parametrize("wrong", [{"training_seeds": (-1,)}, {"games": 20_000_000}])
def test_seeds_that_cannot_be_are_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="must be"):
        plan(**wrong)


def test_arms_without_training_are_played_once_and_a_second_call_trains_nothing(
    tmp_path: Path,
) -> None:
    stage, trainer = WatchedStage(), SkillTrainer()
    first = experiment(tmp_path, recipe("good"), stage=stage, trainer=trainer)
    arms = [path for path in stage.plays if "/arms/" in path]
    # the champion is round 1's specialist: one folder, in which nothing is left to play
    assert len(set(arms)) == 2 + 2 * 2
    assert sum(path.startswith(f"{tmp_path}/arms/") for path in set(arms)) == 2
    loops = len(trainer.trainings)
    again = experiment(tmp_path, recipe("good"), stage=stage, trainer=trainer)
    # the trainer itself does nothing where its folder holds the result: controls ask it again
    assert [path.parent.name for _, _, path, *_ in trainer.trainings[loops:]] == ["random"] * 2
    assert [arm.mean for arm in again.arms] == [arm.mean for arm in first.arms]


def test_a_second_call_plays_no_game_again(tmp_path: Path) -> None:
    arms = {name: ARMS[name] for name in ("base", "specialist", "perfect")}
    what = plan(arms, {}, training_seeds=(0,), games=2)
    first = experiment(tmp_path, recipe("good"), what=what, stage=small_stage())
    by_name = {arm.name: arm for arm in first.arms}
    decks = seeds_from(SeedRange.REPORT, 2)
    for arm in first.arms:
        played = sorted(path.name for path in (tmp_path / arm.runs[0] / "episodes").iterdir())
        assert played == [f"concentration-{seed}-0" for seed in decks]
    assert by_name["specialist"].by_training_seed[0].mean is not None
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jsonl")}
    again = experiment(tmp_path, recipe("good"), what=what, stage=small_stage())
    assert again.arms == first.arms
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jsonl")} == before


def test_controls_are_trained_as_the_rounds_first_contender_was(tmp_path: Path) -> None:
    trainer = SkillTrainer()
    two = recipe("good", "bad")
    two["trainings"][0]["steps"] = 11
    two["trainings"][1]["steps"] = 22
    what = plan(training_seeds=(5,))
    experiment(tmp_path, two, what=what, trainer=trainer)
    runs, data, _, seed = trainer.selections[-1]
    assert runs == [tmp_path / "seed-5" / "round-1" / "collect"]
    assert data.selector == "random"
    match = str(tmp_path / "seed-5" / "round-1" / "selection")
    assert data.settings == {"match": match, "seed": 5}
    _, training, _, seed, start = trainer.trainings[-1]
    assert (training["max_steps"], training["skill"], seed, start) == (11, "good", 5, None)


def test_a_controls_episodes_and_start_are_its_rounds(tmp_path: Path) -> None:
    trainer = SkillTrainer()
    second = recipe("good", source="reuse") | {"start": "champion"}
    controls = {"random": Control(round=2, selector="random")}
    what = plan(controls=controls, training_seeds=(0,))
    experiment(tmp_path, recipe("good"), second, what=what, trainer=trainer)
    runs, data, _, _ = trainer.selections[-1]
    assert runs == [tmp_path / "seed-0" / "round-1" / "collect"]
    assert data.settings == {}
    start = trainer.trainings[-1][-1]
    assert start is not None
    assert start.name == "round-1-specialist-1"


def test_a_control_that_finds_no_turns_is_left_out(tmp_path: Path) -> None:
    controls = {"random": Control(selector="nothing")}
    results = experiment(tmp_path, recipe("good"), what=plan(controls=controls))
    assert "control: random" not in {arm.name for arm in results.arms}


def test_a_loop_that_trained_nothing_is_reported_as_the_base(tmp_path: Path) -> None:
    results = experiment(tmp_path, recipe(selector="nothing"), what=plan(training_seeds=(0,)))
    arms = {arm.name: arm for arm in results.arms}
    assert set(arms) == {"base", "specialist", "perfect"}
    assert arms["specialist"].difference == 0.0
    assert results.rounds[0][0]["verdict"] is None
    print_results(results, Console(file=(tmp_path / "table.txt").open("w")))


def test_pending_games_leave_the_experiment_without_results(tmp_path: Path) -> None:
    outage = tmp_path / "outage"
    outage.write_text(f"concentration-{seeds_from(SeedRange.REPORT, 1)[0]}-")
    what = plan({"base": {}}, {}, training_seeds=(0,), games=2)
    nothing = recipe(selector="nothing")
    with pytest.raises(Unfinished, match=r"1 episodes of .*base are pending"):
        experiment(tmp_path / "x", nothing, what=what, stage=small_stage(outage))
    with pytest.raises(UsageError, match="the experiment is not finished"):
        read_results(tmp_path / "x")
    outage.unlink()
    experiment(tmp_path / "x", nothing, what=what, stage=small_stage(outage))
    assert json.loads((tmp_path / "x" / RESULTS).read_text())["schema"] == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"training_seeds": ()}, "training_seeds must name at least one seed"),
        ({"training_seeds": (1, 1)}, "training_seeds names a seed twice"),
        ({"games": 0}, "report.games must be at least 1 and at most 10,000,000, got 0"),
        ({"arms": {"x": {}}}, "needs an arm named 'base'"),
        ({"arms": {"base": {"memory": "champion"}}}, "report.arms.base is what others are"),
        ({"arms": {"base": {}, "x": {"memory": "control:rnd"}}}, "control:NAME of random"),
        ({"arms": {"base": {}, "x": {"memory": "round:one"}}}, "report.arms.x.memory is"),
        ({"arms": {"base": {}, "x": {"memory": "round:01"}}}, "report.arms.x.memory is"),
        ({"arms": {"base": {}, "x": {"memory": "champ"}}}, "expected base, champion, round:N"),
        ({"arms": {"base": {}, "a b": {}, "A, b": {}}}, "'A, b' and 'a b' would share a folder"),
        ({"arms": {"base": {}, "...": {}}}, "would share a folder"),
    ],
)
def test_what_is_wrong_with_a_plan_is_named(change: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as error:
        plan(**change)
    assert told in str(error.value)


def test_rounds_that_there_will_not_be_are_refused() -> None:
    with pytest.raises(UsageError, match=r"specialist, round 1\.memory names round 1, but"):
        plan(
            controls={}, arms={"base": {}, "specialist, round 1": ARMS["specialist, round 1"]}
        ).check_rounds(0)
    plan().check_rounds(1)
    controls = {"random": Control(round=3, selector="random")}
    with pytest.raises(UsageError, match=r"controls\.random\.round names round 3, but rounds is 2"):
        plan(controls=controls).check_rounds(2)
