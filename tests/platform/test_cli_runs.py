"""The command line on real runs: small decks of Concentration by the scripted player."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from automem import cli
from automem.rollout.run_dir import locked

SMALL = ["env=concentration", "engine=scripted", "env.world.cards=8", "rollout.max_steps=12"]
HERE = [*SMALL, "rollout.workers=0", "rollout.seeds=[1,2]"]


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_rollout_says_what_it_wrote_and_what_to_try_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["rollout", *HERE]) == 0
    [run] = (tmp_path / "runs").iterdir()
    assert run.name.endswith("-concentration-scripted")
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["episodes"], summary["pending"]) == (2, 0)
    assert summary["wall_s"] > 0
    assert OmegaConf.load(run / "config.yaml").rollout.seeds == [1, 2]
    assert (run / "report.html").stat().st_size > 1000
    printed = capsys.readouterr()
    assert f"written: runs/{run.name}/summary.json" in printed.out
    assert f"automem show runs/{run.name} concentration-1-0" in printed.out
    assert "2/2 episodes" in printed.err
    assert cli.main(["show", f"runs/{run.name}"]) == 0
    assert capsys.readouterr().out == "concentration-1-0\nconcentration-2-0\n"
    assert cli.main(["query", f"runs/{run.name}", "select episode from episodes", "--csv"]) == 0
    assert "concentration-2-0" in capsys.readouterr().out
    assert cli.main(["report", f"runs/{run.name}"]) == 0


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    for _ in range(2):
        assert cli.main(["rollout", *HERE]) == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_a_folder_with_a_run_is_refused_and_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["rollout", *HERE, "run.dir=first"]) == 0
    before = (tmp_path / "first" / "config.yaml").read_text()
    assert cli.main(["rollout", *HERE, "run.dir=first", "run.seed=5"]) == cli.USAGE
    assert "already holds a run: continue it with `automem resume first`" in capsys.readouterr().err
    assert (tmp_path / "first" / "config.yaml").read_text() == before


def test_a_run_that_is_just_beginning_is_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with locked(tmp_path / "first"):  # by another process, which has no run.json yet
        code = subprocess.run(
            [sys.executable, "-m", "automem.cli", "rollout", *HERE, "run.dir=first"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert code.returncode == cli.USAGE
    assert "is being played by" in code.stderr
    assert [path.name for path in (tmp_path / "first").iterdir()] == ["run.lock"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run.dir=file"], "cannot be written"),
        (["run.dir=file/below"], "cannot be written"),
        (["~rollout"], "do without ~rollout"),
        (["run.dir='a\0b'"], "run.dir must be text"),
        (["scaffold=broken"], "scaffold.yaml"),
        (["rollout.deadlines.step_s=-1"], "rollout.deadlines.step_s must be a number of at least"),
        (["rollout.watchdog.silent_s=0"], "rollout.watchdog.silent_s must be"),
        (["rollout.segment_steps=-1"], "rollout.segment_steps must be a whole number"),
        (
            ["engine=openai", "engine.base_url=http://127.0.0.1:notaport/v1", "engine.model=m"],
            "engine.base_url must be an address",
        ),
    ],
)
def test_what_cannot_be_played_is_told_in_a_line(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/scaffold.yaml").write_text("files: [\n")
    if words == ["scaffold=broken"]:
        words = [f"scaffold={tmp_path}/broken"]
    assert cli.main(["rollout", *HERE, *words]) == cli.USAGE
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "runs").exists()


def test_a_runs_folder_that_is_a_file_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").write_text("mine")
    assert cli.main(["rollout", *HERE]) == cli.FAILED
    assert "runs: File exists" in capsys.readouterr().err
    assert cli.main(["rollout", *HERE, "run.dir=run"]) == 0
    capsys.readouterr()
    assert cli.main(["report", "run", "--out", "/dev/null/x.html"]) == cli.FAILED
    assert "cannot write /dev/null/x.html" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["- a list", "a: [", "\0"])
def test_a_damaged_configuration_is_told_when_a_run_is_resumed(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["rollout", *HERE, "run.dir=run"]) == 0
    (tmp_path / "run/config.yaml").write_text(text)
    capsys.readouterr()
    assert cli.main(["resume", "run"]) != 0
    said = capsys.readouterr().err
    assert "remove it to go on without" in said
    (tmp_path / "run/config.yaml").unlink()
    assert cli.main(["resume", "run"]) == 0


def test_a_sweep_plays_every_point_even_if_one_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "sweep" / "000"
    taken.mkdir(parents=True)
    (taken / "run.json").write_text("{}")
    code = cli.main(["rollout", "-m", *HERE, "run.seed=1,2,3", "run.dir=sweep"])
    assert code == cli.FAILED
    for number in (1, 2):
        config = OmegaConf.load(tmp_path / "sweep" / f"00{number}" / "config.yaml")
        assert config.run.seed == number + 1
    printed = capsys.readouterr().out
    assert "000 run.seed=1" in printed
    assert "failed: " in printed
    assert "002 run.seed=3" in printed


def test_every_point_of_a_sweep_is_checked_before_the_first_is_played(tmp_path: Path) -> None:
    assert cli.main(["rollout", "-m", *HERE, "rollout.max_steps=5,none"]) == cli.USAGE
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_a_run_that_resume_finishes(tmp_path: Path) -> None:
    slow = ["engine.target.latency_s=0.4", "run.dir=stopped"]
    command = [sys.executable, "-m", "automem.cli", "rollout", *HERE, *slow]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    journal = tmp_path / "stopped" / "episodes" / "concentration-1-0" / "journal" / "0001.jsonl"
    deadline = time.monotonic() + 60
    while not (journal.exists() and b'"commit"' in journal.read_bytes()):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == cli.INTERRUPTED
    assert "Play on with: automem resume stopped" in errors
    assert json.loads((tmp_path / "stopped" / "summary.json").read_text())["pending"] == 2
    plan = tmp_path / "stopped" / "run.json"
    plan.write_text(plan.read_text().replace('"latency_s": 0.4', '"latency_s": 0.0'))
    assert cli.main(["resume", "stopped"]) == 0
    assert json.loads((tmp_path / "stopped" / "summary.json").read_text())["complete"]


def test_an_engine_that_is_not_there_leaves_the_episodes_pending(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(
        [
            "rollout",
            "env=concentration",
            "engine=openai",
            "engine.base_url=http://127.0.0.1:9/v1",
            "engine.model=none",
            "engine.target.ready_timeout_s=0.5",
            "rollout.deadlines.patience_s=1",
            "rollout.workers=0",
            "rollout.seeds=[1]",
            "run.dir=pending",
        ]
    )
    assert code == cli.PENDING
    assert "Play on with: automem resume pending" in capsys.readouterr().err
    summary = json.loads((tmp_path / "pending" / "summary.json").read_text())
    assert (summary["pending"], summary["progression"]["mean"]) == (1, None)


@pytest.mark.slow
def test_the_command_of_the_readme_plays_crafter_on_two_workers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "automem.cli", "rollout"]
    command += ["env=crafter", "engine=scripted", "rollout.workers=2"]
    done = subprocess.run(
        [*command, "rollout.seeds=[42,43]", "rollout.max_steps=30", "run.dir=here"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "here" / "summary.json").read_text())["steps"] == 60
