"""Whether it can answer: what a load balancer and Ray Serve are told of the engine."""

import asyncio
import logging
from pathlib import Path

import msgspec
import pytest
from support.served_policy import make_served_spec, serving

from automem.engine.health import Health
from automem.engine.scripted import ScriptedEngine
from automem.engine.transformers import TransformersEngine
from automem.errors import EngineError
from automem.rollout.spec import EngineSpec
from automem_envs.concentration.players import PerfectMemoryPlayer
from automem_serving.deployment import Replica

STATES = ("waiting", "running")
SECRET = "/home/somebody/model cannot be read"


class Ailing(ScriptedEngine):
    """Is as it is told to be."""

    def __init__(self) -> None:
        super().__init__(PerfectMemoryPlayer())
        self.state = Health()

    async def health(self) -> Health:
        return self.state


async def test_readiness_follows_the_engine_and_names_no_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Ailing()
    caplog.set_level(logging.WARNING)
    async with serving(make_served_spec(tmp_path), engine) as server:
        assert (await server.client.get("/readyz")).status_code == 200
        engine.state = Health(problem=SECRET)
        for _ in range(2):
            away = await server.client.get("/readyz")
            assert (away.status_code, away.json()["status"]) == (503, "engine away")
            assert SECRET not in away.text
        assert (await server.client.get("/healthz")).status_code == 200
        engine.state = Health()
        assert (await server.client.get("/readyz")).json()["status"] == "ready"
    said = [record.getMessage() for record in caplog.records if record.name == "automem.serving"]
    assert said == [f"engine: {SECRET}", "engine: it answers again"]


async def test_a_replica_is_given_up_only_where_its_engine_never_comes_back(
    tmp_path: Path,
) -> None:
    engine = Ailing()
    replica = Replica(make_served_spec(tmp_path), engine, [])
    await replica.check_health()
    engine.state = Health(problem="it is being replaced")
    await replica.check_health()
    engine.state = Health(problem="its thread has died", needs_new_process=True)
    with pytest.raises(EngineError, match="its thread has died"):
        await replica.check_health()


async def test_a_replica_asks_the_engine_that_it_has_built_itself(tmp_path: Path) -> None:
    target = {"_target_": "support.lost_engine.LostEngine"}
    spec = msgspec.structs.replace(make_served_spec(tmp_path), engine=EngineSpec(target=target))
    replica = Replica(spec, None, [])
    await replica.check_health()  # nothing is built yet
    replica.__serve_build_asgi_app__()
    with pytest.raises(EngineError, match="lost"):
        await replica.check_health()


@pytest.fixture
def small() -> TransformersEngine:
    return TransformersEngine("random", threads=1, context_tokens=512, max_batch=1)


async def test_the_engines_calls_are_counted(tmp_path: Path, small: TransformersEngine) -> None:
    chat = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 400}
    async with serving(make_served_spec(tmp_path), small) as server:

        async def counts() -> tuple[float, float]:
            page = (await server.client.get("/metrics")).text
            lines = dict(line.rsplit(" ", 1) for line in page.splitlines() if line[0] != "#")
            calls = {state: lines[f'automem_engine_calls{{state="{state}"}}'] for state in STATES}
            return float(calls["waiting"]), float(calls["running"])

        assert await counts() == (0, 0)
        body = {"model": "random", **chat}
        calls = [
            asyncio.create_task(server.client.post("/v1/chat/completions", json=body))
            for _ in range(3)
        ]
        while await counts() != (2, 1):  # the batch has room for one
            assert not any(call.done() for call in calls)
            await asyncio.sleep(0.01)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
