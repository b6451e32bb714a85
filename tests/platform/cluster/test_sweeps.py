"""Sweeps: points as Ray tasks, their comparison, and Optuna's search; from the command line."""

import csv
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.toy_world import toy_spec

from automem import cli
from automem.commands.compare import names_of, run_folders
from automem.commands.sweep import Point, play_grid
from automem.commands.sweep_search import play_search, split
from automem.config import compose
from automem.errors import UsageError
from automem.rollout.ray_local import connected

SHORT = ["engine=scripted", "rollout.max_steps=6", "rollout.workers=0", "rollout.seeds=[1,2]"]


@pytest.fixture(scope="module")
def ray_is_up() -> Iterator[None]:
    with connected():
        yield


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_sweep_of_two_by_two_points_on_ray_ends_in_one_table(
    ray_is_up: None, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swept = ["sweep=ray", "env=concentration,crafter", "run.seed=1,2", "run.dir=sweep"]
    assert cli.main(["rollout", "-m", *SHORT, *swept]) == 0
    printed = capsys.readouterr().out
    for number, words in enumerate(
        ["concentration run.seed=1", "concentration run.seed=2", "crafter run.seed=1"]
    ):
        assert f"00{number} env={words}" in printed
        summary = json.loads((here / f"sweep/00{number}/summary.json").read_text())
        assert summary["complete"]
    assert "automem compare sweep" in printed
    assert (here / "sweep/comparison.html").stat().st_size > 1000

    assert cli.main(["compare", "sweep", "--csv", "table.csv"]) == 0
    rows = list(csv.DictReader((here / "table.csv").open()))
    assert [row["run"] for row in rows] == [
        "env.name=concentration run.seed=1",
        "env.name=concentration run.seed=2",
        "env.name=crafter run.seed=1",
        "env.name=crafter run.seed=2",
    ]
    assert rows[1]["pairs"] == "2"  # the same two decks
    assert rows[2]["pairs"] == "0"  # another world has no pairs


def test_a_point_whose_process_dies_does_not_stop_the_others(
    ray_is_up: None, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def point(seed: int, dies: str) -> Point:
        words = ["engine=scripted", f"run.seed={seed}", "run.dir=sweep"]
        config = compose(overrides=words)
        player = {"dies_file": dies} if dies else {}
        return Point(words, config, toy_spec(run_seed=seed, player_args=player))

    points = [point(1, ""), point(2, str(here / "died")), point(3, "")]
    settings = {"launcher": "ray", "parallel": 2, "cpus": 0.0}
    assert play_grid(points, settings) == cli.PENDING
    printed = " ".join(capsys.readouterr().out.split())
    assert "its process died" in printed
    assert "automem resume sweep/001" in printed
    for number in ("000", "002"):
        assert json.loads((here / f"sweep/{number}/summary.json").read_text())["complete"]
    assert cli.main(["resume", "sweep/001"]) == 0


def slow_point(words: list[str]) -> Point:
    """Some seconds of a toy world."""
    config = compose(overrides=["engine=scripted", *words])
    return Point(words, config, toy_spec(run_seed=config.run.seed, latency_s=0.1))


@contextmanager
def ctrl_c_once_steps_flow_in(run_dir: Path) -> Iterator[None]:
    def person() -> None:
        while not list(run_dir.glob("episodes/*/journal/*.jsonl")):
            if is_over.wait(0.05):
                return
        os.kill(os.getpid(), signal.SIGINT)

    is_over = threading.Event()
    terminal = threading.Thread(target=person)
    terminal.start()
    try:
        yield
    finally:
        is_over.set()
        terminal.join()


def test_ctrl_c_stops_points_where_they_stand(
    ray_is_up: None, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the background, too: what a shell starts there has SIGINT ignored."""
    points = [slow_point([f"run.seed={seed}", "run.dir=sweep"]) for seed in (1, 2)]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ctrl_c_once_steps_flow_in(here / "sweep/000"):
            settings = {"launcher": "ray", "parallel": 1, "cpus": 0.0}
            assert play_grid(points, settings) == cli.INTERRUPTED
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert "not started" in capsys.readouterr().out
    assert not (here / "sweep/001").exists()
    assert cli.main(["resume", "sweep/000"]) == 0


def test_ctrl_c_ends_a_search(here: Path) -> None:
    settings = {
        "launcher": "local",
        "parallel": 1,
        "trials": 3,
        "direction": "maximize",
        "metric": "progression",
        "seed": 0,
    }
    with ctrl_c_once_steps_flow_in(here / "search/000"):
        words = ["run.dir=search", "run.seed=range(1,4)"]
        assert play_search(words, settings, slow_point) == cli.INTERRUPTED
    assert not (here / "search/001").exists()


def test_optuna_searches_and_the_same_command_goes_on(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = ["sweep=optuna", "sweep.launcher=local", "sweep.parallel=1", "run.dir=search"]
    swept = ["env=concentration", "env.world.cards=8,12", "run.seed='range(1,4)'"]
    words = [*(word for word in SHORT if "seeds" not in word), "rollout.seeds=[1]", *search, *swept]
    words = [word.replace("'", "") for word in words]
    assert cli.main(["rollout", "-m", *words, "sweep.trials=2"]) == 0
    assert "best:" in capsys.readouterr().out
    assert cli.main(["rollout", "-m", *words, "sweep.trials=3"]) == 0
    assert sorted(path.name for path in here.glob("search/0*")) == ["000", "001", "002"]
    assert "in 3 points" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep=optuna", "run.seed=1"], "nothing to search over"),
        (["sweep=ray", "sweep.launcher=slurm", "run.seed=1,2"], "one of local, ray"),
        (["sweep=raay", "run.seed=1,2"], "did you mean 'ray'"),
        (["sweep=optuna", "sweep.direction=up", "run.seed=1,2"], "sweep.direction"),
        (["sweep=optuna", "sweep.metric=progresion", "run.seed=1,2"], "mean 'progression'"),
        (["sweep=optuna", "sweep.parallel=0", "run.seed=1,2"], "at least 1, got 0"),
        (["sweep=ray", "sweep.parallel=0", "run.seed=1,2"], "at least 1, got 0"),
        (["sweep=optuna", "run.seed=range(3,0,-1)"], "nothing between these bounds"),
        (["sweep=optuna", "run.seed=interval(2,1)"], "nothing between these bounds"),
    ],
)
def test_a_sweep_that_cannot_be_is_told_before_anything_is_played(
    words: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["rollout", "-m", *SHORT, *words]) == cli.USAGE
    assert message in capsys.readouterr().err
    assert list(here.iterdir()) == []


def test_intervals_and_ranges_are_searched_as_what_they_are() -> None:
    fixed, space = split(["env=crafter", "a=x,y", "b=range(1,10,2)", "c=interval(0.5,2)"])
    assert fixed == ["env=crafter"]
    assert space["a"].choices == ("x", "y")
    assert (space["b"].low, space["b"].high, space["b"].step) == (1, 9, 2)
    assert (space["c"].low, space["c"].high) == (0.5, 2.0)


def test_a_point_without_finished_episodes_stays_in_the_comparison(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["rollout", "-m", *SHORT, "run.seed=1,2", "run.dir=sweep"]) == 0
    shutil.rmtree(here / "sweep/001/tables")
    for done in here.glob("sweep/001/episodes/*/episode.json"):
        done.unlink()
    capsys.readouterr()
    assert cli.main(["compare", "sweep"]) == 0
    assert "0/2, 2 pending" in capsys.readouterr().out
    assert cli.main(["compare", "sweep", "--metric", "stop"]) == cli.USAGE
    assert "no metric 'stop'" in capsys.readouterr().err


def test_a_comparison_needs_two_runs_and_names_them_apart(here: Path) -> None:
    for name in ("one", "two"):
        (here / name / "tables").mkdir(parents=True)
    assert names_of(run_folders(["one", "two"])) == ["one", "two"]
    with pytest.raises(UsageError, match="needs two runs"):
        run_folders(["one"])
    with pytest.raises(UsageError, match="expected the folder of a run"):
        run_folders(["one", "nowhere"])
