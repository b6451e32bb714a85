"""The application as a RayService deploys it: built from `args` alone, on a Ray that was there."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError
from support.ports import free_port

from automem.cli import main
from automem.errors import UsageError
from automem.rollout.ray_local import connected
from automem_serving.cluster import Arguments, application

READY_S = 240.0


def overrides(folder: Path) -> list[str]:
    """What the chart gives, at this folder, with a small engine."""
    return [
        "serving=shared",
        f"serving.dir={folder}/serving",
        f"serving.registry={folder}/registry",
        "serving.replicas.num_cpus=0",
        "serving.replicas.autoscaling.max_replicas=1",
        "agent.hooks=off",
        "engine.model=random",
        "engine.target.threads=1",
        "engine.target.context_tokens=2048",
        "scaffolds=[embedded]",
        "worlds=[concentration]",
    ]


def test_arguments_that_it_does_not_know_are_refused() -> None:
    with pytest.raises(ValidationError, match="overrydes"):
        Arguments(overrydes=[])


def test_a_misspelt_key_is_told_before_anything_is_deployed() -> None:
    with pytest.raises(UsageError, match=r"serving\.port"):
        application(Arguments(overrides=["serving.prt=8000"]))


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("cluster")
    port = free_port()
    with connected():
        from ray import serve

        serve.start(http_options={"host": "127.0.0.1", "port": port})
        try:
            serve.run(application(Arguments(overrides=overrides(folder))), route_prefix="/")
            yield f"http://127.0.0.1:{port}", folder
        finally:
            serve.shutdown()


@pytest.mark.slow
def test_it_answers_whoever_has_a_token(
    address: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    url, folder = address
    deadline = time.monotonic() + READY_S
    while httpx.get(f"{url}/readyz", timeout=30).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    call = {"json": {"world": "concentration"}, "timeout": 120}
    assert httpx.post(f"{url}/v1/episodes", **call).status_code == 401
    assert main(["token", "ann", "--dir", f"{folder}/serving"]) == 0
    token = capsys.readouterr().out.split()[-1]
    answer = httpx.post(f"{url}/v1/episodes", headers={"Authorization": f"Bearer {token}"}, **call)
    assert answer.status_code in (200, 201), answer.text
    assert "automem_requests_total" in httpx.get(f"{url}/metrics", timeout=30).text
