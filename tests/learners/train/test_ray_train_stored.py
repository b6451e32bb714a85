"""A training whose machine is lost goes on on another one, from what object storage holds."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.drivers import TESTS
from support.s3_server import s3_server

from automem_learners.dataset import Dataset

pytestmark = pytest.mark.slow


def driver(dataset: Dataset, base: str, folder: Path, url: str) -> "subprocess.Popen[str]":
    python_path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "support.train_driver", str(dataset.path), base, str(folder), url],
        env={**os.environ, "PYTHONPATH": python_path},
        stdout=subprocess.PIPE,
        stderr=(folder.parent / f"{folder.name}.log").open("w"),
        text=True,
    )


def kill_with_all_below(process: "subprocess.Popen[str]") -> None:
    """As when the machine goes: the driver, its Ray, the workers, none of them told."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for each in family:
        each.kill()
    process.wait()


@pytest.mark.timeout(600)
def test_a_training_goes_on_from_s3_when_machine_and_disk_are_gone(
    dataset: Dataset, base: str, tmp_path: Path
) -> None:
    with s3_server() as bucket:
        first = driver(dataset, base, tmp_path / "first", f"{bucket}/automem")
        assert first.stdout is not None
        for line in first.stdout:
            if line.strip().isdigit() and int(line) >= 10:
                break
        assert first.poll() is None, (tmp_path / "first.log").read_text()
        kill_with_all_below(first)
        shutil.rmtree(tmp_path / "first", ignore_errors=True)
        second = driver(dataset, base, tmp_path / "second", f"{bucket}/automem")
        printed, _ = second.communicate(timeout=300)
    assert second.returncode == 0, (tmp_path / "second.log").read_text()
    steps = [int(line) for line in printed.split() if line.isdigit()]
    assert steps == list(range(steps[0], 24))
    assert steps[0] > 0
    assert steps[0] % 3 == 0
    assert list((tmp_path / "second").rglob("adapter_model.safetensors"))
