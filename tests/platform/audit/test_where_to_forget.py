"""Which folder is forgotten in, and what becomes of a forgetting that was cut short in another."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.drivers import TESTS
from support.toy_world import toy_spec

from automem import cli
from automem.errors import UsageError
from automem.rollout.redactions import check
from automem.rollout.run import resume_run, run_rollout


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs") / "run"
    assert run_rollout(toy_spec(seeds=[1]), place).is_complete
    return place


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A folder with one run in it, `run`."""
    shutil.copytree(finished, tmp_path / "all" / "run")
    return tmp_path / "all"


def killed(folder: Path, point: str, fact: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "automem.cli", "forget", str(folder), fact],
        env={"AUTOMEM_CRASH": point, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(TESTS)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL


def test_a_part_of_a_run_is_refused_and_the_run_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [episode] = (folder / "run" / "episodes").iterdir()
    for part in (episode, folder / "run" / "episodes", folder / "run" / "tables"):
        assert cli.main(["forget", str(part), "dark"]) == cli.USAGE
        assert f"automem forget {folder / 'run'}" in capsys.readouterr().err.replace("\n", "")
    assert not (episode / "redactions.jsonl").exists()


@pytest.mark.parametrize("point", ["forget.move:2", "forget.move:3", "forget.move:4"])
def test_a_forgetting_that_was_killed_in_a_run_is_completed_from_a_folder_above(
    folder: Path, point: str
) -> None:
    killed(folder / "run", point, "coloured glass")
    with pytest.raises(UsageError, match="automem forget"):
        resume_run(folder / "run")
    assert cli.main(["forget", str(folder)]) == 0
    [episode] = (folder / "run" / "episodes").iterdir()
    assert check(episode) == 1
    assert resume_run(folder / "run").is_complete
    assert not list(folder.rglob(".forget"))


def test_a_forgetting_that_was_killed_above_is_finished_first(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed(folder, "forget.move:3", "coloured glass")
    assert cli.main(["forget", str(folder / "run"), "dark"]) == cli.USAGE
    assert f"automem forget {folder}`" in capsys.readouterr().err
    assert cli.main(["forget", str(folder)]) == 0
    assert cli.main(["forget", str(folder / "run"), "dark"]) == 0
