"""Replicas of an engine on a real Ray: who is asked, and what happens when one is gone."""

import asyncio
import os
import pickle
import signal

import msgspec
import pytest
import ray
from ray.util import placement_group_table

from automem.engine.actor import RemoteEngine
from automem.engine.health import health_of
from automem.engine.protocol import GenerateRequest, Message
from automem.engine.replicas import ReplicatedEngine, start_replicas
from automem.errors import EngineError, EngineRequestError, UsageError
from automem.rollout.spec import EngineSpec


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", configure_logging=False)
    yield
    ray.shutdown()


SPEC = EngineSpec(target={"_target_": "odd_engines.WatchedEngine"}, replicas=2)


@pytest.fixture
def engine():
    replicated = start_replicas(SPEC)
    assert isinstance(replicated, ReplicatedEngine)
    yield replicated
    replicated.shutdown()


def request(content: str, episode: str = "e", **fields) -> GenerateRequest:
    return GenerateRequest(
        id=f"{episode}/0/0", messages=(Message("user", content),), seed=3, **fields
    )


async def process(engine, episode: str) -> int:
    """Who answers an episode's calls."""
    return int((await engine.generate(request("hi", episode))).text.split()[1])


async def test_an_episode_stays_with_one_replica_and_episodes_are_spread(engine):
    first = [await process(engine, f"e-{n}") for n in range(24)]
    assert len(set(first)) == 2
    assert min(first.count(each) for each in set(first)) >= 4
    assert [await process(engine, f"e-{n}") for n in range(24)] == first
    other = pickle.loads(pickle.dumps(engine))
    assert [await process(other, f"e-{n}") for n in range(24)] == first


async def running(replica) -> int:
    """Calls under way in an actor."""
    return int(await replica._actor.__ray_call__.remote(lambda host: host._engine.running))


async def test_a_call_that_loses_its_replica_is_made_once_more_by_the_other(engine):
    home = await process(engine, "e-1")
    [first] = [n for n in (0, 1) if await pid_of(engine._replicas[n]) == home]
    calls = [asyncio.create_task(engine.generate(request("wait", "e-1"))) for _ in range(5)]
    async with asyncio.timeout(60):
        while await running(engine._replicas[first]) < 5:  # noqa: ASYNC110  it is elsewhere
            await asyncio.sleep(0.01)
        os.kill(home, signal.SIGKILL)
        while await running(engine._replicas[1 - first]) < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not any(call.done() for call in calls)
    for call in calls:
        call.cancel()


async def test_a_replica_that_came_back_is_asked_again(engine):
    home = await process(engine, "e-1")
    [other] = {await pid_of(replica) for replica in engine._replicas} - {home}
    os.kill(home, signal.SIGKILL)
    assert await process(engine, "e-1") == other
    async with asyncio.timeout(60):
        while (now := await process(engine, "e-1")) == other:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert now != home


async def test_it_is_well_as_long_as_one_of_them_is(engine):
    await engine.capabilities()
    home = await process(engine, "e-1")
    os.kill(home, signal.SIGKILL)
    assert not (await health_of(engine)).problem
    for replica in engine._replicas:
        replica.shutdown()
    async with asyncio.timeout(60):
        while not (await health_of(engine)).problem:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert not (await health_of(engine)).needs_new_process


async def pid_of(replica) -> int:
    return int((await replica.generate(request("hi"))).text.split()[1])


async def test_a_refusal_is_not_tried_elsewhere(engine):
    with pytest.raises(EngineRequestError, match="too long"):
        await engine.generate(request("refuse"))
    assert engine._returning == {}


async def test_a_deadline_holds_for_both_attempts_together(engine, monkeypatch):
    monkeypatch.setattr("automem.engine.actor._GRACE_S", 0.0)
    await engine.capabilities()
    with pytest.raises(EngineError, match=r"no completion within the deadline of 0\.2 s"):
        await engine.generate(request("wait", deadline_s=0.2))


async def test_adapters_are_loaded_everywhere(engine):
    await engine.load_adapter("v1", "/adapters/v1")
    for number in range(8):
        assert await engine.score([number, 2], "v1") == [-float(number), -2.0]


async def test_a_replicas_workers_are_reserved_with_it_and_given_back_with_it():
    spec = msgspec.structs.replace(SPEC, bundles=({"CPU": 0.5}, {"CPU": 0.25}))
    engine = start_replicas(spec)
    try:
        groups = [group for group in placement_group_table().values() if _is_up(group)]
        reserved = [sorted(b["CPU"] for b in group["bundles"].values()) for group in groups]
        assert reserved == [[0.001, 0.25, 0.5]] * 2
        assert (await process(engine, "e-1")) > 0
    finally:
        engine.shutdown()
    async with asyncio.timeout(60):
        while any(map(_is_up, placement_group_table().values())):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def _is_up(group) -> bool:
    return group["state"] == "CREATED"


async def test_what_the_cluster_has_no_room_for_is_said_and_not_kept(monkeypatch):
    monkeypatch.setattr("automem.engine.replicas.GROUP_WAIT_S", 0.0)
    with pytest.raises(UsageError, match=r"no room for 2 replicas of the engine with 1 workers"):
        start_replicas(msgspec.structs.replace(SPEC, bundles=({"GPU": 64.0},)))
    assert not any(map(_is_up, placement_group_table().values()))


def test_one_replica_alone_is_an_actor_and_no_more():
    engine = start_replicas(msgspec.structs.replace(SPEC, replicas=1))
    assert isinstance(engine, RemoteEngine)
    engine.shutdown()
