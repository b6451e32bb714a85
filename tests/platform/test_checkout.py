"""Which code a Ray job runs; here without Ray, by the variable that it sets."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from automem.checkout import RAY_JOB, is_checkout, worker_environment

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The repository's packages, with a help text of their own."""
    for name in ("platform", "envs", "learners", "serving"):
        ignored = shutil.ignore_patterns("__pycache__", ".mypy_cache", "assets")
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=ignored)
    cli = tmp_path / "platform/automem/cli.py"
    cli.write_text(cli.read_text().replace("AutoMem: language models", "COPY: language models"))
    return tmp_path


def help_in(folder: Path, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "automem.cli", "help"],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def test_a_job_runs_the_code_of_its_working_directory(checkout: Path) -> None:
    assert "COPY: language models" in help_in(checkout, **{RAY_JOB: "{}"})


def test_outside_of_a_job_the_installed_code_runs(checkout: Path) -> None:
    assert "AutoMem: language models" in help_in(checkout)


def test_a_job_without_a_checkout_runs_the_installed_code(tmp_path: Path) -> None:
    assert not is_checkout(tmp_path)
    assert "AutoMem: language models" in help_in(tmp_path, **{RAY_JOB: "{}"})


def test_workers_of_other_processes_get_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RAY_JOB, raising=False)
    assert worker_environment() == {}
    monkeypatch.setenv(RAY_JOB, "{}")
    monkeypatch.chdir(REPOSITORY)
    assert worker_environment() == {"PYTHONPATH": "platform:envs:learners:serving"}
