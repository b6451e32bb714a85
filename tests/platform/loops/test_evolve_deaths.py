"""`kill -9` of a structure loop, for real: during evaluation, during review, during acceptance."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.drivers import TESTS, end_of
from support.evolve_driver import run
from support.evolve_parts import timeless

pytestmark = pytest.mark.slow
ACCEPTED = '"type":"judged","verdict":"accepted"'


def driver(folder: Path, death: str = "", **env: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "support.evolve_driver", str(folder)]
    python_path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        words + ([death] if death else []),
        env={**os.environ, "PYTHONPATH": python_path, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed loop."""
    folder = tmp_path_factory.mktemp("calm") / "run"
    run(folder)
    lines = [line for _, line in timeless(folder)]
    assert any(b'"verdict":"accepted"' in line for line in lines)
    return folder


def finished(folder: Path) -> dict[str, int]:
    """Finished episodes, and when each was finished."""
    marks = folder.rglob("episodes/*/episode.json")
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in marks}


@pytest.mark.parametrize(
    ("death", "crash"),
    [
        ("", "episode_json.after:1"),
        ("", "event.commit:60"),
        ("review", ""),
        ("before:" + ACCEPTED, ""),
        ("after:" + ACCEPTED, ""),
    ],
)
def test_a_loop_that_is_killed_goes_on_where_it_stood(
    calm: Path, tmp_path: Path, death: str, crash: str
) -> None:
    folder = tmp_path / "run"
    code, output = end_of(driver(folder, death, **({"AUTOMEM_CRASH": crash} if crash else {})))
    assert code == -9, output
    before = finished(folder)
    code, output = end_of(driver(folder))
    assert code == 0, output
    assert timeless(folder) == timeless(calm)
    after = finished(folder)
    assert sorted(after) == sorted(finished(calm))
    assert {name: after[name] for name in before} == before  # none was played again
    for name in before:
        journal = (folder / name).parent / "journal"
        assert [path.name for path in journal.iterdir()] == ["0001.jsonl"]
