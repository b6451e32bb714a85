"""A head of a Ray cluster as `ray start --head` makes it: token, dashboard, ports of its own."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.ports import free_ports

TRIES = 5
RAY_WITHOUT_ITS_CLIENT = """
import ray._private.utils
ray._private.utils.get_ray_client_dependency_error = lambda: ImportError("not wanted here")
from ray.scripts.scripts import main
main()
"""
"""The `ray` command; its Ray Client server, which nobody uses here, takes the head down with it
where it does not come up in time."""
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Head:
    """A running head."""

    address: str
    """Its dashboard, where jobs are submitted."""
    environment: dict[str, str]
    """What a client needs, the token among it; no other cluster can be found with it."""


@contextmanager
def started_head(cpus: int = 4) -> Iterator[Head]:
    """The head, in a temporary folder and a process group of its own."""
    folder = Path(tempfile.mkdtemp(prefix="rh", dir="/tmp"))  # short: sockets' names are limited
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "RAY_TMPDIR": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    process = None
    try:
        for _ in range(TRIES):
            process, port = _start(cpus, folder, environment)
            if _is_up(process, folder / "log"):
                break
            _end(process)
        else:
            raise AssertionError(f"the head did not come up:\n{(folder / 'log').read_text()}")
        yield Head(f"http://127.0.0.1:{port}", environment)
    finally:
        if process is not None:
            _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _start(
    cpus: int, folder: Path, environment: dict[str, str]
) -> tuple["subprocess.Popen[bytes]", int]:
    """`ray start --head` and its dashboard's port."""
    gcs, dashboard, agent = free_ports(3)
    words = [
        *("start", "--head", "--block", f"--port={gcs}", f"--dashboard-port={dashboard}"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-agent-listen-port={agent}"),
        *("--node-ip-address=127.0.0.1", f"--num-cpus={cpus}"),
        *("--object-store-memory=100000000", f"--temp-dir={folder}"),
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", RAY_WITHOUT_ITS_CLIENT, *words],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return process, dashboard


def _is_up(process: "subprocess.Popen[bytes]", log: Path) -> bool:
    """Whether the head says so in the end; on a busy machine Ray itself gives up after 30 s."""
    deadline = time.monotonic() + 150
    while process.poll() is None and time.monotonic() < deadline:
        if "Ray runtime started" in log.read_text():
            return True
        time.sleep(0.2)
    return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    """`ray start --block` ends what it has started when it is asked to end."""
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
