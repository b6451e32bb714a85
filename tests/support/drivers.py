"""Drivers in processes of their own, to be killed and resumed; and what their traces must equal."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from automem.rollout.journal import read_events
from automem.trace.compare import first_difference

TESTS = Path(__file__).resolve().parents[1]
PATIENCE_S = 120.0


def start_driver(run_dir: Path, changes: dict[str, Any], **env: str) -> subprocess.Popen[str]:
    """`support.play_toy` in a new session, so that signals reach it alone."""
    python_path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "support.play_toy", str(run_dir), json.dumps(changes)],
        env={**os.environ, "PYTHONPATH": python_path, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end_of(driver: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code (negative: the signal) and output."""
    output, _ = driver.communicate(timeout=PATIENCE_S)
    return driver.returncode, output


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """The first true value of `condition`, polled; an assertion error where it never comes."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(0.01)
    return value


def records(run_dir: Path) -> int:
    """Lines in all journals of a run."""
    paths = (run_dir / "episodes").glob("*/journal/*.jsonl")
    return sum(path.read_bytes().count(b"\n") for path in paths)


def assert_same_traces(run_dir: Path, other: Path) -> None:
    """Every episode of both runs is finished and the same play, memory included."""
    names = [{path.name for path in (run / "episodes").iterdir()} for run in (run_dir, other)]
    assert names[0] == names[1] != set()
    for folder in sorted((other / "episodes").iterdir()):
        mine = run_dir / "episodes" / folder.name
        assert (mine / "episode.json").exists(), f"{folder.name} is not finished"
        assert first_difference(read_events(mine), read_events(folder)) == "", folder.name
        assert memory_of(mine) == memory_of(folder), folder.name


def memory_of(folder: Path) -> dict[str, str]:
    """Name to text of a finished episode's memory."""
    return {path.name: path.read_text() for path in (folder / "memory").iterdir()}
