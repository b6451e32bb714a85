"""Making an episode: once per key, nothing left of what is refused, on the disk where asked for."""

import asyncio
import os
from pathlib import Path

import httpx
import pytest
from support.served_policy import Server, make_served_spec, serving

from automem.config import scaffold_path
from automem.engine.scripted import ScriptedEngine
from automem.errors import StoreError
from automem_envs.concentration.players import PerfectMemoryPlayer
from automem_serving.attempt import Attempt


async def test_creating_with_the_same_key_makes_one_episode(server: Server) -> None:
    async def create(**body: object) -> httpx.Response:
        headers = {"Idempotency-Key": "create-1"}
        return await server.client.post("/v1/episodes", json=body, headers=headers)

    answers = await asyncio.gather(*(create(world="concentration") for _ in range(4)))
    assert len({answer.json()["id"] for answer in answers}) == 1
    refused = await create(world="concentration", max_steps=3)
    assert refused.status_code == 422


@pytest.mark.parametrize("key", ["", "creation"])
async def test_a_creation_that_is_refused_leaves_nothing_behind(server: Server, key: str) -> None:
    registry = server.context.registry
    registry.publish("another", scaffold_path("embedded"), name="other")
    for _ in range(2):
        refused = await server.client.post(
            "/v1/episodes",
            json={"task": "t", "policy": "other"},
            headers={"Idempotency-Key": key} if key else {},
        )
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "invalid_value")
    assert (await server.client.get("/v1/episodes")).json() == {"data": []}


@pytest.mark.parametrize(("key", "left"), [("", 1), ("creation", 2)])
async def test_a_creation_that_fails_is_kept_for_a_retry_with_its_key_only(
    server: Server, key: str, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.create(task="t")  # so that nothing but the opening can fail
    headers = {"Idempotency-Key": key} if key else {}

    async def create() -> httpx.Response:
        return await server.client.post("/v1/episodes", json={"task": "t"}, headers=headers)

    async def broken(*_: object) -> Attempt:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("automem_serving.episodes.Attempt.open", broken)
        assert [(await create()).status_code for _ in range(2)] == [503, 503 if not key else 201]
    listed = (await server.client.get("/v1/episodes")).json()["data"]
    assert len(listed) == left
    if key:
        again = await create()
        assert again.status_code == 201
        assert (await server.act(again.json()["id"], "one")).status_code == 200


async def test_with_fsync_everything_an_episode_hangs_on_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced.append(str(path.relative_to(tmp_path)) if tmp_path in path.parents else str(path))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    async with serving(
        make_served_spec(tmp_path, fsync=True), ScriptedEngine(PerfectMemoryPlayer())
    ) as server:
        synced.clear()
        episode = (await server.create(task="t", max_steps=1))["id"]
        tenant = "served/tenants/local"
        folder = f"{tenant}/episodes/{episode}"
        [pinned] = [number for number, path in enumerate(synced) if "served.json" in path]
        names = [f"{tenant}/episodes", tenant, "served/tenants", "served", str(tmp_path)]
        assert set(names) <= set(synced[pinned:])
        assert {f"{folder}/journal", folder} <= set(synced)
        synced.clear()
        for number in range(2):
            answer = await server.act(episode, f"{number}")
        assert answer.json()["stop"] == "cap"
    [mark] = [number for number, path in enumerate(synced) if ".episode.json" in path]
    assert f"{tenant}/tables/steps/{episode}.parquet" in synced[:mark]
    assert folder in synced[mark:]
