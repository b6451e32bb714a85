"""`automem serve`, told to stop: at once while the model loads, in peace when it is up."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import psutil
import pytest
from support.drivers import TESTS, wait_until
from support.ports import free_port

pytestmark = pytest.mark.slow
LOADS_S = 180.0
ENGINE = """
name: waiting
target:
  _target_: support.waiting_engine.WaitingEngine
  mark: {mark}
  is_quick: {is_quick}
placement: actor
replicas: 1
num_cpus: 0
"""


def start(folder: Path, is_quick: bool, output: IO[bytes]) -> subprocess.Popen[bytes]:
    engine = folder / "conf" / "engine" / "waiting.yaml"
    engine.parent.mkdir(parents=True)
    engine.write_text(ENGINE.format(mark=folder / "mark", is_quick=str(is_quick).lower()))
    command = [
        sys.executable, "-m", "automem.cli", "serve", "--config-dir", str(folder / "conf"),
        "engine=waiting", "worlds=[]", f"serving.port={free_port()}",
    ]  # fmt: skip
    python_path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": python_path}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
    )


@pytest.mark.parametrize(
    ("number", "is_quick", "code", "words"),
    [
        (signal.SIGINT, False, 130, "automem: stopped"),
        (signal.SIGTERM, False, 130, "automem: stopped"),
        (signal.SIGTERM, True, 0, "acts under way are finished first"),
    ],
)
def test_it_ends_when_it_is_told_to(
    tmp_path: Path, number: signal.Signals, is_quick: bool, code: int, words: str
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        server = start(tmp_path, is_quick, output)

    def has_come_so_far() -> bool:
        assert server.poll() is None, log.read_text()
        return "Ctrl-C stops" in log.read_text() if is_quick else (tmp_path / "mark").exists()

    family: list[psutil.Process] = []
    try:
        wait_until(has_come_so_far, "the server", LOADS_S)
        family = psutil.Process(server.pid).children(recursive=True)
        server.send_signal(number)
        assert server.wait(timeout=90) == code, log.read_text()
        assert words in log.read_text()
        wait_until(lambda: not any(map(is_alive, family)), "Ray to end", 60)
    finally:
        for process in (server, *filter(is_alive, family)):
            process.kill()
        server.wait()


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
