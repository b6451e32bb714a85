"""`automem serve` on a Ray that was there before: whose Serve it is, and at which address."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from support.ports import free_port
from support.served_policy import make_served_spec

from automem.errors import UsageError
from automem.rollout.ray_local import connected
from automem.rollout.spec import EngineSpec
from automem_serving.deployment import _end_serve, serving
from automem_serving.settings import ServedSpec

pytestmark = pytest.mark.slow

SCRIPT = {
    "_target_": "automem.engine.scripted.ScriptedEngine",
    "player": {"_target_": "automem_envs.concentration.players.PerfectMemoryPlayer"},
}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with connected():
        yield


def spec_of(folder: Path, **settings: Any) -> ServedSpec:
    engine = EngineSpec(target=SCRIPT, placement="worker")
    spec = make_served_spec(folder, port=free_port(), **settings)
    return msgspec.structs.replace(spec, engine=engine)


def is_answered(url: str) -> bool:
    answer = httpx.get(f"{url}/readyz", timeout=60)
    assert answer.status_code == 200, answer.text
    return bool(answer.json()["status"] == "ready")


def test_where_serve_runs_already_its_address_is_used_and_it_stays(tmp_path: Path) -> None:
    from ray import serve

    spec, port = spec_of(tmp_path), free_port()
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    try:
        with serving(spec) as url:
            assert url == f"http://127.0.0.1:{port}"
            assert is_answered(url)
            with pytest.raises(UsageError, match=f"served on this Ray already, at {url}"):  # noqa: SIM117
                with serving(spec_of(tmp_path)):
                    pass
            assert is_answered(url)  # whoever was refused has ended nobody else's
        assert httpx.get(f"http://127.0.0.1:{port}/-/routes", timeout=60).json() == {}
    finally:
        _end_serve()


def test_a_server_leaves_no_serve_behind_that_would_refuse_the_next_one(tmp_path: Path) -> None:
    for spec in (spec_of(tmp_path), spec_of(tmp_path)):  # each at a port of its own
        with serving(spec) as url:
            assert url.endswith(f":{spec.settings.port}")
            assert is_answered(url)


def test_a_serve_that_everybody_reaches_takes_no_server_without_authentication(
    tmp_path: Path,
) -> None:
    from ray import serve

    serve.start(proxy_location="HeadOnly", http_options={"host": "0.0.0.0", "port": free_port()})
    try:
        with pytest.raises(UsageError, match="everybody could get in"):  # noqa: SIM117
            with serving(spec_of(tmp_path)):
                pass
    finally:
        _end_serve()
