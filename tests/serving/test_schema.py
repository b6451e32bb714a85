"""Requests that Schemathesis makes of our own OpenAPI schema, against a real server: no 5xx, and
every answer is one that the schema promises."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.live_policy import live
from support.served_policy import make_served_spec

from automem.engine.scripted import ScriptedEngine
from automem_envs.concentration.players import PerfectMemoryPlayer

schemathesis = pytest.importorskip("schemathesis", reason="pip install 'schemathesis>=4.30,<5'")
from schemathesis import GenerationMode  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    limits = {"requests_per_s": 1e6, "burst": 10**6, "open_episodes": 10**6}
    spec = make_served_spec(tmp_path_factory.mktemp("schema"), limits=limits)
    with live(spec, ScriptedEngine(PerfectMemoryPlayer())) as address:
        yield address


@pytest.fixture(scope="module")
def episode(url: str) -> str:
    return str(httpx.post(f"{url}/v1/episodes", json={"world": "concentration"}).json()["id"])


def right(operation: Any) -> st.SearchStrategy[Any]:
    """Requests that the schema allows."""
    return operation.as_strategy(generation_mode=GenerationMode.POSITIVE)


def wrong(operation: Any) -> st.SearchStrategy[Any]:
    """Requests that the schema does not allow, where there is anything to get wrong."""
    if operation.body or operation.path_parameters or operation.query:
        return operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    return st.nothing()


@pytest.mark.slow
def test_no_request_is_answered_with_more_than_the_schema_promises(url: str, episode: str) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/openapi")
    asked: Counter[str] = Counter()
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(max_examples=30, deadline=None, database=None, derandomize=True,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(
            case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE) | wrong(operation)
        )
        def ask(case: Any) -> None:
            if "episode" in case.path_parameters and case.method != "DELETE":
                case.path_parameters["episode"] = episode  # else all that answers is a 404
            response = case.call(timeout=30)
            asked[f"{case.method} {case.path}"] += 1
            case.validate_response(response, checks=CHECKS)

        ask()
    assert len(asked) >= 20
    assert min(asked.values()) >= 1


def test_the_schema_names_every_route_and_its_errors(url: str, tmp_path: Path) -> None:
    paths = httpx.get(f"{url}/openapi").json()["paths"]
    assert "/v1/episodes/{episode}/tools/memory" in paths
    for path, operations in paths.items():
        for operation in operations.values():
            if path.startswith("/v1/"):
                assert "4XX" in operation["responses"], path
