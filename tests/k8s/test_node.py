"""A real Ray head, started with what the chart gives it (other ports: these may be taken here)."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.ports import free_ports
from support.rendered_chart import ROOT, cluster_specs, pod_templates, render

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # three tries on a busy machine

UP_S = 150.0
TRIES = 3
TOKEN = "0123456789abcdef" * 4


@dataclass
class Head:
    """A head that is up."""

    ports: dict[int, int]
    """Port of the chart to port here."""
    process: subprocess.Popen[bytes]
    log: Path

    def health(self, urls: list[str]) -> subprocess.CompletedProcess[str]:
        """The chart's probe, at these ports."""
        for port, here in self.ports.items():
            urls = [url.replace(f":{port}/", f":{here}/") for url in urls]
        command = [sys.executable, str(ROOT / "k8s" / "health.py"), *urls]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def probe_urls(kind: str) -> list[str]:
    templates = dict(pod_templates(render()))
    [container] = templates["RayCluster/automem/head"]["spec"]["containers"]
    program, *urls = container[kind]["exec"]["command"]
    assert program == "automem-health"
    return [str(url) for url in urls]


def start_options() -> tuple[dict[int, int], list[str]]:
    """What the chart starts a head with, at ports that are free here; which port became which."""
    [(_, spec)] = cluster_specs(render())
    params = dict(spec["headGroupSpec"]["rayStartParams"])
    single = [name for name in params if name.endswith("port") and "worker-port" not in name]
    ports = {
        int(params[name]): port for name, port in zip(single, free_ports(len(single)), strict=True)
    }
    for name in single:
        params[name] = str(ports[int(params[name])])
    params["dashboard-host"] = "127.0.0.1"
    params["object-store-memory"] = str(80 * 1024 * 1024)
    return ports, [f"--{name}={value}" for name, value in params.items()]


@contextmanager
def started() -> Iterator[Head]:
    """A head that was told to start; it ends with the block."""
    folder = Path(tempfile.mkdtemp(prefix="rh", dir="/tmp"))  # short: sockets' names are limited
    ports, options = start_options()
    ray = Path(sys.executable).parent / "ray"
    home = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "HOME": str(folder)}
    with (folder / "start.log").open("wb") as log:
        process = subprocess.Popen(
            [str(ray), "start", "--head", "--block", f"--temp-dir={folder}", *options],
            env={**os.environ, **home},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Head(ports, process, folder / "start.log")
    finally:
        process.send_signal(signal.SIGTERM)  # it ends what it started
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=60)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    for _ in range(TRIES):
        with started() as one:
            if comes_up(one):
                yield one
                return
    pytest.skip(f"Ray did not come up {TRIES} times: this machine is too busy for its 30 s")


def comes_up(head: Head) -> bool:
    """False where Ray gave up on itself, as it does when the machine is busy."""
    deadline = time.monotonic() + UP_S
    while (last := head.health(probe_urls("readinessProbe"))).returncode:
        if head.process.poll() is not None:
            said = head.log.read_text()
            assert "timed out during startup" in said, said
            return False
        assert time.monotonic() < deadline, last.stderr
        time.sleep(1.0)
    return True


def test_the_probes_of_the_chart_find_a_head_well_without_its_token(head: Head) -> None:
    for kind in ("readinessProbe", "livenessProbe"):
        done = head.health(probe_urls(kind))
        assert done.returncode == 0, done.stderr


def test_whoever_comes_without_the_token_may_submit_nothing(head: Head) -> None:
    url = f"http://127.0.0.1:{head.ports[8265]}/api/jobs/"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url, timeout=30)
    assert refused.value.code in (401, 403)
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def test_a_head_that_is_gone_is_not_well(head: Head) -> None:
    urls = probe_urls("livenessProbe")
    gone = free_ports(1)[0]
    done = Head({**head.ports, 8265: gone}, head.process, head.log).health(urls)
    assert done.returncode == 1
    assert "gcs_healthz" in done.stderr
