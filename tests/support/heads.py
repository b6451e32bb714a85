"""A head of a Ray cluster as `ray start --head` makes it: token, dashboard, ports of its own."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

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
        "RAY_agent_register_timeout_ms": "200000",  # a busy machine needs longer
    }
    gcs, dashboard, agent, client = _free_ports(4)
    words = [
        *("start", "--head", "--block", f"--port={gcs}", f"--dashboard-port={dashboard}"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-agent-listen-port={agent}"),
        *("--node-ip-address=127.0.0.1", f"--ray-client-server-port={client}"),
        *(f"--num-cpus={cpus}", "--object-store-memory=100000000", f"--temp-dir={folder}"),
    ]
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        [str(BIN / "ray"), *words],
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{dashboard}"
    try:
        _wait_for(dashboard, process, folder / "log")
        yield Head(address, environment)
    finally:
        process.terminate()  # `ray start --block` ends what it has started
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"the head did not come up:\n{log.read_text()}")
