"""The benchmarks run, and those that compare traces find them equal."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def run(name: str, *arguments: str, cwd: Path) -> str:
    """A benchmark's output; it has to succeed."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=cwd,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_crafter_and_concentration_survive_four_kills(tmp_path: Path) -> None:
    output = run("durability.py", "--kills", "4", "--seed", "1", cwd=tmp_path)
    assert output.count(": equal") == 4


@pytest.mark.slow
def test_the_rollout_benchmark_measures_overhead_and_growth(tmp_path: Path) -> None:
    output = run("rollout.py", "--quick", "--only", "overhead,growth", cwd=tmp_path)
    assert "platform CPU per step" in output
    assert "bytes per step at 100" in output
