"""Retention: what goes, and above all what stays."""

import json
import os
from contextlib import nullcontext
from pathlib import Path

import pytest
from support.toy_world import toy_spec

from automem import cli
from automem.rollout.run import resume_run, run_rollout
from automem.rollout.run_dir import locked, read_run
from automem.rollout.stored_run import fetch
from automem.trace.summary import write_summary


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOMEM_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("AUTOMEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def played(run_dir: Path, **changes: object) -> Path:
    assert run_rollout(toy_spec(seeds=[1, 2], **changes), run_dir).is_complete
    return run_dir


def journals(run_dir: Path) -> list[Path]:
    return list(run_dir.glob("episodes/*/journal/*.jsonl"))


def test_nothing_goes_without_yes_and_then_only_journals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = played(tmp_path / "runs/one")
    before = write_summary(run_dir)
    assert cli.main(["gc", "runs"]) == 0
    assert "nothing was removed; add --yes" in capsys.readouterr().out
    assert journals(run_dir)
    assert cli.main(["gc", "runs", "--yes"]) == 0
    assert not journals(run_dir)
    assert write_summary(run_dir) == before
    assert resume_run(run_dir).is_complete
    assert cli.main(["gc", "runs", "--level", "runs", "--older-than", "1", "--yes"]) == 0
    assert run_dir.exists()
    assert cli.main(["gc", "runs", "--level", "runs", "--yes"]) == 0
    assert not run_dir.exists()


def test_a_run_with_episodes_left_or_being_played_stays(tmp_path: Path) -> None:
    left, owned = played(tmp_path / "runs/left"), played(tmp_path / "runs/owned")
    (left / "episodes/toy-1-0/episode.json").unlink()
    with locked(owned):
        assert cli.main(["gc", "runs", "--level", "runs", "--yes"]) == 0
    assert left.exists()
    assert owned.exists()


@pytest.mark.parametrize(
    "stands", ["at work", "stopped", "begun again", "both loops, half way", "torn"]
)
def test_runs_of_a_loop_stay_until_it_has_come_to_its_results(tmp_path: Path, stands: str) -> None:
    """`automem proficiency` learns from journals of rollouts far below its folder."""
    loop = tmp_path / "runs/loop"
    run_dir = played(loop / "seed-0/round-1/collect")
    (loop / "config.yaml").write_text("rivals: {}\n" if "both" in stands else "trainer: {}\n")
    (loop / "seed-0/ledger.jsonl").touch()
    (loop / "run.lock").touch()
    (tmp_path / "config.yaml").write_text("somebody's, of no loop\n")
    if stands != "stopped":
        (loop / "results.json").touch()
    if stands == "torn":
        (loop / "config.yaml").write_text("a: [")
    if stands == "begun again":
        os.utime(loop / "results.json", (1, 1))
    words = ["gc", "runs/loop/seed-0", "--level", "runs", "--yes"]
    with locked(loop) if stands == "at work" else nullcontext():
        assert cli.main(words) == 0
        assert journals(run_dir)
    (loop / "config.yaml").write_text("trainer: {}\n")
    os.utime(loop / "seed-0/ledger.jsonl", (1, 1))
    for name in ("results.json", "results-of-both.json"):
        (loop / name).touch()
    assert cli.main(words) == 0
    assert not run_dir.exists()


def test_stored_runs_lose_their_segments_and_can_still_be_fetched(tmp_path: Path) -> None:
    run_dir = played(tmp_path / "one", storage_url=f"file://{tmp_path}/store")
    url = read_run(run_dir).spec.storage_url
    assert cli.main(["gc", "--storage", f"file://{tmp_path}/store", "--yes"]) == 0
    assert not list(Path(url.removeprefix("file://")).glob("segments/*/*/*.jsonl"))
    assert len(fetch(url, tmp_path / "fetched")) == 2
    assert json.loads((tmp_path / "fetched/run.json").read_bytes())["episodes"]
    assert write_summary(tmp_path / "fetched")["finished"] == 2


def test_bad_arguments_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["gc"], ["gc", "nowhere"], ["gc", ".", "--level", "all"]):
        assert cli.main(words) == cli.USAGE
    told = capsys.readouterr().err
    assert "there is no such folder" in told
    assert "expected one of journals, runs" in told
