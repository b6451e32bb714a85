"""`automem proficiency`: mistakes are told before anything is played; the rest is a real loop."""

import csv
import fcntl
import json
import shutil
from pathlib import Path

import pytest
from support.loop_parts import RULE, SkillTrainer
from support.skilled_engine import TARGET, SkilledEngine

from automem import cli
from automem.loops.ledger import Ledger
from automem.trace.statistics import t_interval

SMALL = [
    "env=concentration", "env.world.cards=8", "env.world.max_steps=12", "rollout.workers=0",
    "rounds=1", "report.games=2", "gate.confirmations=1", f"gate.pairs={RULE.pairs}",
    "gate.race=[4]", "gate.alpha=0.5", "gate.flips=999",
]  # fmt: skip


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What is said; nothing may have been played or made."""
    assert cli.main(["proficiency", *words]) == cli.USAGE
    assert list(Path().glob("runs/*")) == []
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("gate.pair=3", "unknown key 'gate.pair'; did you mean 'gate.pairs'"),
        ("experiment=embeded", "did you mean 'embedded'"),
        ("learner=lokal", "did you mean 'local'"),
        ("engine=scripted", "engine=scripted has no model to train: choose engine=transformers"),
        ("engine.model=/no/such/model", "there is no base model '/no/such/model'"),
        (
            "+report.arms.x.memory=control:rnd",
            "expected base, champion, round:N, player or control",
        ),
        ("+report.arms.x.memory=round:5", "names round 5, but rounds is 2"),
        ("+report.arms.x.memry=base", "no field of report.arms.x 'memry'; did you mean 'memory'"),
        ("+report.arms.x.sampling={temprature: 0}", "did you mean 'temperature'"),
        ("+report.arms.x.agent={memory: blank}", "did you mean 'blanked'"),
        ("+controls.x={selecter: all}", "no field of controls.x 'selecter'; did you mean"),
        ("+controls.x={selector: all, round: 7}", "controls.x.round names round 7"),
        ("+controls.x={round: 1}", "controls.x: "),
        ("collection.mod=x", "did you mean 'collection.mode'"),
        ("collection.mode=later", "collection: "),
        ("collection.max_staleness=0", "for that, set mode=synchronous"),
        ("gate.alpha=2", "gate: the gate needs"),
        ("gate.race=[8,4]", "gate: race must be rising"),
        ("gate.race=[0,4]", "gate: race must be rising"),
        ("gate.race_level=0.3", "gate: race_level must be in [0.5, 1)"),
        ("gate.flips=10", "gate: with 10 flips no result can reach"),
        ("gate.pairs=2", "with 2 pairs no result can reach"),
        ("env.world.cards=7", "`cards` must be even"),
        ("+report.arms.x={memory: player, player: {_target_: no.Such}}", "report.arms.x.player: "),
        ("training_seeds=3", "training_seeds must be a list such as"),
        ("training_seeds=[one]", "training_seeds: "),
        ("rounds=3", "raise gate.confirmations"),
        ("rounds=0", "rounds must be at least 1"),
        ("training_seeds=[1,1]", "training_seeds names a seed twice"),
        ("training_seeds=[-1]", "training_seeds must be 0 or more"),
        ("report.games=0", "report.games must be at least 1"),
        ("report.games=20000000", "at most 10,000,000"),
        ("agent.memory=window", "agent.memory=window: the loops improve memory that the model"),
        ("decider.recipes=[{dat: {}}]", "no field of decider.recipes[0] 'dat'; did you mean"),
        ("decider.recipes=[{data: {selector: provenence}}]", "did you mean 'provenance'"),
        ("decider.recipes=[{data: {settings: {progress.horizn: 3}}}]", "progress.horiz"),
        ("decider.recipes=[{trainings: [{learning_rat: 1}]}]", "did you mean 'learning_rate'"),
        ("decider.recipes=[{trainings: [{lora: {rank: 9999}}]}]", "lora.rank is 9999"),
        ("decider.recipes=[{},{trainings: [{epochs: 0}]}]", "epochs must be at least 1"),
    ],
)
def test_a_mistake_is_told_before_anything_is_played(
    word: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refused(capsys, word)


def test_collecting_ahead_needs_processes_to_play_in(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["collection.mode=asynchronous", "rollout.workers=0"]
    assert "set rollout.workers to at least 1" in refused(capsys, *words)


def test_a_folder_that_another_process_works_in_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    with (taken / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write('{"host": "elsewhere", "pid": 17}')
        lock.flush()
        assert "by process 17 on elsewhere" in refused(capsys, "run.dir=taken")
    assert [path.name for path in taken.iterdir()] == ["run.lock"]


def test_a_folder_that_something_else_began_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text("env: {name: concentration}\n")
    assert "was not begun by automem proficiency" in refused(capsys, "run.dir=other")
    (tmp_path / "other" / "run.json").write_text("{}")
    assert "was not begun by automem proficiency" in refused(capsys, "run.dir=other", "rounds=1")
    (tmp_path / "other" / "config.yaml").rename(tmp_path / "other" / "kept.yaml")
    assert "holds a run of automem rollout" in refused(capsys, "run.dir=other", "rounds=1")
    assert (tmp_path / "other" / "kept.yaml").read_text() == "env: {name: concentration}\n"


def test_show_prints_the_configuration_and_plays_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["proficiency", "experiment=embedded", "--show"]) == 0
    printed = capsys.readouterr().out
    assert "training_seeds:" in printed
    assert "control: memory blanked" in printed
    assert list(tmp_path.iterdir()) == []


def test_students_interval_is_wider_than_its_few_values_and_none_for_one() -> None:
    assert t_interval([0.5]) is None
    low, high = t_interval([0.4, 0.6]) or (0.0, 0.0)
    assert (low, high) == pytest.approx((0.5 - 12.706 * 0.1, 0.5 + 12.706 * 0.1), abs=1e-3)
    assert t_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)


# A whole loop from the command line, with a trainer that takes no time.


class Trainer(SkillTrainer):
    """Takes what conf/proficiency.yaml gives a trainer."""

    def __init__(self, **settings: object) -> None:
        super().__init__()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words of a small experiment: real games, trainings by name."""
    monkeypatch.setattr("automem_learners.specialist.SpecialistTrainer", Trainer)
    (tmp_path / "conf" / "engine").mkdir(parents=True)
    (tmp_path / "conf" / "engine" / "skilled.yaml").write_text(
        "name: skilled\nplacement: worker\nmodel: base\noutage: ''\nsampling: {}\n"
        f"target:\n  _target_: {TARGET}\n"
        "  model: ${engine.model}\n  outage: ${engine.outage}\n"
    )
    recipes = "decider.recipes=[{data: {episodes: 1}, trainings: [{skill: good}]}]"
    return [*SMALL, "engine=skilled", recipes, "--config-dir", str(tmp_path / "conf")]


def test_a_loop_ends_with_one_table_and_the_same_folder_goes_on_for_nothing(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["proficiency", *small, "run.dir=whole"]) == 0
    printed = capsys.readouterr().out
    assert "control: memory blanked" in printed
    assert "round 1: 5 turns, accepted" in printed
    assert "Written: whole/results.json" in printed
    whole = tmp_path / "whole"
    arms = {arm["name"]: arm for arm in json.loads((whole / "results.json").read_text())["arms"]}
    assert arms["specialist"]["by_training_seed"]["0"]["n"] == 2
    assert (whole / "report.html").stat().st_size > 1000
    assert (whole / "config.yaml").is_file()
    played = {path: path.stat().st_mtime_ns for path in whole.rglob("journal/*.jsonl")}
    ledger = (whole / "seed-0" / "ledger.jsonl").read_bytes()
    # the configuration's own words come from the folder
    again = ["run.dir=whole", "--config-dir", str(tmp_path / "conf")]
    assert cli.main(["proficiency", *again, "report.games=2"]) == 0
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("journal/*.jsonl")} == played
    assert (whole / "seed-0" / "ledger.jsonl").read_bytes() == ledger
    capsys.readouterr()
    assert cli.main(["proficiency", *again, "learner.recipe.learning_rate=1e-9"]) == cli.USAGE
    assert "learner.recipe.learning_rate: " in capsys.readouterr().err
    assert "rounds: 1\n" in (whole / "config.yaml").read_text()
    assert cli.main(["proficiency", *again, "training_seeds=[0,1]"]) == 0
    assert cli.main(["proficiency", *again]) == 0  # as it was extended
    assert json.loads((whole / "results.json").read_text())["training_seeds"] == [0, 1]


def test_a_sweep_over_loops_ends_in_one_table_and_the_same_command_goes_on(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["proficiency", "-m", *small, "run.dir=sweep", "selector=provenance,outcome"]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    for number, name in enumerate(("selector=provenance", "selector=outcome")):
        assert f"00{number} {name}" in printed
        assert name.replace("=", ": ") in (tmp_path / f"sweep/00{number}/config.yaml").read_text()
    assert "automem compare sweep" in printed
    assert (tmp_path / "sweep/comparison.html").stat().st_size > 1000
    played = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("journal/*.jsonl")}
    assert cli.main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("journal/*.jsonl")} == played

    capsys.readouterr()
    assert cli.main(["compare", "sweep", "--csv", "table.csv"]) == 0
    arms = json.loads((tmp_path / "sweep/001/results.json").read_text())["arms"]
    [reached] = [arm["mean"] for arm in arms if arm["name"] == "specialist"]
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert [row["run"] for row in rows] == ["selector=provenance", "selector=outcome"]
    assert float(rows[1]["progression"]) == pytest.approx(reached, abs=5e-4)
    assert rows[1]["pairs"] == "2"
    assert cli.main(["compare", "sweep", "--arm", "bas"]) == cli.USAGE
    assert "did you mean 'base'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("selector=provenance,outcom", "did you mean 'outcome'"),
        ("rounds=1,3", "raise gate.confirmations"),
        ("sweep=optuna", "sweep=local or sweep=ray"),
    ],
)
def test_a_sweep_with_a_wrong_point_is_told_before_anything_is_played(
    word: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refused(capsys, "-m", word)


def test_the_same_command_on_another_machine_fetches_the_loop_and_repeats_nothing(
    small: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [*small, "run.dir=mine", "storage.url=store", "~report.arms", "+report.arms={}"]
    assert cli.main(["proficiency", *words]) == 0
    ledger = (tmp_path / "mine" / "seed-0" / "ledger.jsonl").read_bytes()
    played = {path.name for path in (tmp_path / "mine").rglob("episodes/*")}
    shutil.rmtree(tmp_path / "mine")
    capsys.readouterr()
    monkeypatch.setattr(SkilledEngine, "generate", None)  # nobody is asked anything again
    assert cli.main(["proficiency", *words]) == 0
    assert f"fetched {tmp_path}/store/loops/mine, and going on with it" in capsys.readouterr().out
    assert (tmp_path / "mine" / "seed-0" / "ledger.jsonl").read_bytes() == ledger
    assert {path.name for path in (tmp_path / "mine").rglob("episodes/*")} <= played


def test_an_outage_leaves_a_loop_that_the_printed_command_goes_on_with(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outage = tmp_path / "outage"
    outage.write_text("concentration")
    words = [*small, f"engine.outage={outage}", "rollout.deadlines.patience_s=1"]
    words += ["~report.arms", "+report.arms={}"]
    assert cli.main(["proficiency", *words, "run.dir=out"]) == cli.PENDING
    said = capsys.readouterr().err
    assert "Go on with: automem proficiency run.dir=out" in said
    outage.unlink()
    again = ["run.dir=out", "--config-dir", str(tmp_path / "conf")]
    assert cli.main(["proficiency", *again]) == 0
    assert len(Ledger(tmp_path / "out" / "seed-0").trials()) == 1
