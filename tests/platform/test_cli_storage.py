"""What the command line makes of places in a store, and of what a job would do with them."""

import json
from pathlib import Path

import pytest
from support.toy_world import toy_spec

from automem import cli
from automem.commands.plan import storage_url
from automem.commands.submit import _check, _storage
from automem.config import compose
from automem.errors import UsageError
from automem.loops.stored_loop import is_loop
from automem.rollout.run import run_rollout
from automem.rollout.run_dir import read_run


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOMEM_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("word", "place"), [("store", "{here}/store"), ("'~/s'", "{here}/home/s"), ("s3://b/a", "")]
)
def test_a_path_as_store_is_the_same_from_every_folder(word: str, place: str, here: Path) -> None:
    config = compose(overrides=[f"storage.url={word}"])
    assert storage_url(config) == (place.format(here=here) or word)


def test_a_run_in_a_folder_as_store_is_resumed_from_there(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = toy_spec(seeds=[1, 2], storage_url=str(here / "store"))
    assert run_rollout(spec, here / "first").is_complete
    url = read_run(here / "first").spec.storage_url
    assert cli.main(["resume", url]) == 0
    assert "2/2" in capsys.readouterr().out
    [fetched] = (here / "runs").iterdir()
    assert json.loads((fetched / "summary.json").read_text())["complete"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://b/loops/mine", True),
        ("s3://b/loops/automem/runs/mine-1a2b", False),
        ("s3://b/loops/automem/loops/mine", True),
        ("file:///loops/runs/x", False),
    ],
)
def test_a_loop_is_told_from_a_run_by_where_it_lies(url: str, expected: bool) -> None:
    assert is_loop(url) == expected


def test_a_job_that_resumes_a_stored_run_is_known_to_store() -> None:
    words = ["--workers", "2", "s3://bucket/automem/runs/mine-1a2b"]
    assert _storage("resume", words, {}) == "s3://bucket/automem"
    assert _storage("resume", ["runs/mine"], {}) == ""
    assert _storage("rollout", ["storage.url='s3://b'"], {}) == "s3://b"


@pytest.mark.parametrize("command", ["rollout", "proficiency", "evolve", "run"])
def test_a_mistake_is_told_before_a_job_is_sent(command: str) -> None:
    with pytest.raises(UsageError, match="did you mean 'embedded'"):
        _check(command, ["experiment=embeddedd"])
    with pytest.raises(UsageError, match=f"automem {command} --show"):
        _check(command, ["nonsense.key=1"])
    _check(command, ["experiment=embedded"])


def test_a_sweep_over_loops_is_checked_before_a_job_is_sent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["-m", "experiment=embedded", "selector=provenance,outcome"]
    with pytest.raises(UsageError, match="did you mean 'outcome'"):
        _check("proficiency", [*words[:-1], "selector=provenance,outcom"])
    _check("proficiency", words)
    assert capsys.readouterr().out == ""
