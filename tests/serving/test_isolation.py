"""Every route that names an episode, tried with another tenant's ids, odd names and odd bodies."""

import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.live_policy import live
from support.served_policy import Server, Table, make_served_spec, raw_get, serving

from automem.engine.scripted import ScriptedEngine
from automem_envs.concentration.players import PerfectMemoryPlayer
from automem_serving.access import Tokens
from automem_serving.context import TOKENS_FILE

BODIES: dict[str, Any] = {
    "/act": Table().body(),
    "/tools/memory": {"command": "view", "path": "/memories"},
}
UNKNOWN = "ep-" + "0" * 24


def engine() -> ScriptedEngine:
    return ScriptedEngine(PerfectMemoryPlayer())


@pytest.fixture
async def tenants(tmp_path: Path) -> AsyncIterator[tuple[Server, dict[str, dict[str, str]]]]:
    """A replica that asks for tokens, and a header for each of two tenants and an admin."""
    spec = make_served_spec(tmp_path, auth="tokens")
    tokens = Tokens(tmp_path / "served" / TOKENS_FILE)
    scopes = {"ann": ("act",), "eve": ("act", "complete"), "ops": ("admin",)}
    headers = {
        name: {"Authorization": f"Bearer {tokens.issue(name, given)[0]}"}
        for name, given in scopes.items()
    }
    async with serving(spec, engine()) as running:
        yield running, headers


async def episode_routes(server: Server) -> list[tuple[str, str]]:
    """(method, path) of every route of the schema that names an episode."""
    paths = (await server.client.get("/openapi")).json()["paths"]
    return [
        (method.upper(), path)
        for path, operations in paths.items()
        for method in operations
        if "{episode}" in path
    ]


async def test_on_no_route_can_a_tenant_tell_anothers_episode_from_none(
    tenants: tuple[Server, dict[str, dict[str, str]]],
) -> None:
    server, headers = tenants
    client = server.client
    made = await client.post(
        "/v1/episodes", json={"world": "concentration"}, headers=headers["ann"]
    )
    episode = made.json()["id"]
    acted = await client.post(
        f"/v1/episodes/{episode}/act", json=Table().body(), headers=headers["ann"]
    )
    assert acted.status_code == 200
    before = (await client.get(f"/v1/episodes/{episode}", headers=headers["ann"])).json()
    routes = await episode_routes(server)
    assert len(routes) >= 7
    for method, path in routes:
        suffix = path.removeprefix("/v1/episodes/{episode}").replace("{file}", "cards.txt")
        body = BODIES.get(suffix)
        answers = [
            await client.request(
                method, f"/v1/episodes/{name}{suffix}", json=body, headers=headers[who]
            )
            for who, name in (("eve", episode), ("eve", UNKNOWN), ("ann", UNKNOWN))
        ]
        assert {answer.status_code for answer in answers} == {404}, (method, path)
        assert len({answer.content for answer in answers}) == 1
        address = f"/v1/episodes/{episode}{suffix}"
        admin = await client.request(method, address, json=body, headers=headers["ops"])
        assert admin.status_code == 403
    assert (await client.get("/v1/episodes", headers=headers["eve"])).json() == {"data": []}
    assert (await client.get(f"/v1/episodes/{episode}", headers=headers["ann"])).json() == before


@pytest.mark.parametrize("odd", ["..", "%2e%2e", "..%2f..", "%2fetc%2fpasswd", "%00", "ep-*", "."])
async def test_no_odd_name_reaches_anything_on_any_route_that_reads(
    server: Server, odd: str
) -> None:
    episode = (await server.create(world="concentration"))["id"]
    for method, path in await episode_routes(server):
        if method != "GET":
            continue
        odd_episode = path.format(episode=f"{episode}%2f{odd}", file="cards.txt")
        odd_file = path.format(episode=episode, file=f"{odd}/cards.txt")
        assert await raw_get(server, odd_episode) == 404
        if "{file}" in path:
            assert await raw_get(server, odd_file) == 404
    assert await raw_get(server, f"/v1/episodes/{episode}/memory/cards.txt") == 200


async def test_every_route_that_takes_a_body_refuses_a_large_one_and_a_deep_one(
    server: Server,
) -> None:
    paths = (await server.client.get("/openapi")).json()["paths"]
    episode = (await server.create(world="concentration"))["id"]
    tried = 0
    for path, operations in paths.items():
        if "post" not in operations or "requestBody" not in operations["post"]:
            continue
        address = path.format(episode=episode, alias="current")
        large = await server.client.post(address, content=b'{"a": "' + b"x" * 1_000_001 + b'"}')
        assert (large.status_code, large.json()["error"]["code"]) == (413, "body_too_large")
        for depth in (300, 900, 970, 985, 995, 5000):
            deep = '{"info": ' + "[" * depth + "]" * depth + ', "messages": [], "files": {}}'
            answer = await server.client.post(
                address, content=deep, headers={"Content-Type": "application/json"}
            )
            assert 400 <= answer.status_code < 500 or address.endswith("/tools/memory"), answer.text
            assert answer.status_code < 500
        tried += 1
    assert tried >= 6


def test_slow_bodies_and_slow_heads_hold_up_nobody_else(tmp_path: Path) -> None:
    """Over a real socket: forty callers that send a byte and stop, and one that is in a hurry."""
    spec = make_served_spec(tmp_path, limits={"body_s": 0.5, "requests_per_s": 1e4, "burst": 10**4})
    with live(spec, engine()) as url:
        port = int(url.rpartition(":")[2])
        head = b"POST /v1/episodes HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 50\r\n\r\n{"
        slow = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(40)]
        for number, caller in enumerate(slow):
            caller.sendall(head if number % 2 else head[:20])
        import httpx

        began = time.monotonic()
        made = httpx.post(f"{url}/v1/episodes", json={"world": "concentration"}, timeout=30)
        assert made.status_code == 201
        assert time.monotonic() - began < 10
        for caller in slow[1::2]:
            said = b""
            while b'"}}' not in said and (part := caller.recv(4096)):
                said += part
            assert said.startswith(b"HTTP/1.1 408")
            assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["code"] == "body_too_slow"
        for caller in slow:
            caller.close()
        assert httpx.get(f"{url}/healthz").status_code == 200
