"""Engines as actors that workers share, on a real Ray."""

import asyncio
import os
import pickle
import signal
from types import SimpleNamespace

import pytest
import ray

from automem.engine.actor import RemoteEngine, start_engine
from automem.engine.health import Health, health_of
from automem.engine.host import EngineHost
from automem.engine.protocol import GenerateRequest, Message
from automem.errors import EngineError, EngineRequestError, UsageError


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", configure_logging=False)
    yield
    ray.shutdown()


@pytest.fixture
def start():
    engines = []

    def make(target="odd_engines.WatchedEngine", adapters=None, **arguments):
        spec = SimpleNamespace(
            target={"_target_": target, **arguments},
            adapters=adapters or {},
            num_cpus=0.0,
            num_gpus=0.0,
            resources={},
            labels={},
        )
        engines.append(start_engine(spec))
        return engines[-1]

    yield make
    for engine in engines:
        engine.shutdown()


def request(content: str, seed: int = 0, **fields) -> GenerateRequest:
    return GenerateRequest(
        id=f"e/0/{seed}", messages=(Message("user", content),), seed=seed, **fields
    )


async def running(engine) -> int:
    """Calls under way in the actor, asked anew."""
    state = await engine._actor.__ray_call__.remote(lambda host: host._engine.running)
    return int(state)


async def test_calls_of_one_tick_travel_together_and_each_gets_its_own_answer(start):
    engine = start()
    flushes = []
    flush = engine._flush
    engine._flush = lambda: (flushes.append(1), flush())
    answers = await asyncio.gather(*(engine.generate(request("hi", n)) for n in range(300)))
    assert [answer.completion_tokens for answer in answers] == list(range(300))
    assert len(flushes) == 1
    assert (await engine.generate(request("later", 7))).completion_tokens == 7


async def test_a_quick_answer_does_not_wait_for_a_slow_one(start):
    engine = start()
    slow = asyncio.create_task(engine.generate(request("wait")))
    quick = await asyncio.gather(*(engine.generate(request("hi", n)) for n in range(5)))
    assert len(quick) == 5
    assert not slow.done()
    slow.cancel()


async def test_exceptions_cross_as_they_are(start):
    engine = start()
    with pytest.raises(EngineRequestError, match="too long"):
        await engine.generate(request("refuse"))
    with pytest.raises(KeyError, match="own mistake"):
        await engine.generate(request("break"))
    with pytest.raises(EngineRequestError, match="no path"):
        await engine.load_adapter("a", "")


async def test_a_cancelled_call_is_cancelled_in_the_actor(start):
    engine = start()
    call = asyncio.create_task(engine.generate(request("wait")))
    await engine.generate(request("hi"))
    assert await running(engine) == 1
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await engine.generate(request("hi"))
    assert await running(engine) == 0


async def test_workers_share_the_actor_and_do_not_mix_their_answers(start):
    engine = start()
    other = pickle.loads(pickle.dumps(engine))
    mine, yours = await asyncio.gather(
        asyncio.gather(*(engine.generate(request("mine", n)) for n in range(20))),
        asyncio.gather(*(other.generate(request("yours", n)) for n in range(20))),
    )
    assert {answer.text.split()[0] for answer in mine} == {"mine"}
    assert {answer.text.split()[0] for answer in yours} == {"yours"}
    assert mine[0].text.split()[1] == yours[0].text.split()[1]


async def test_adapters_are_loaded_at_the_start_and_on_demand(start):
    engine = start(adapters={"v1": "/adapters/v1"})
    await engine.capabilities()
    await engine.load_adapter("v2", "/adapters/v2")
    assert await engine.score([1, 2], "v1") == [-1.0, -2.0]
    assert await engine.score([1, 2], "v2") == [-1.0, -2.0]


async def test_the_actors_death_fails_what_waits_and_later_calls_reach_the_new_one(start):
    engine = start()
    process = int((await engine.generate(request("hi"))).text.split()[1])
    calls = [asyncio.create_task(engine.generate(request("wait", n))) for n in range(3)]
    await engine.generate(request("hi"))
    os.kill(process, signal.SIGKILL)
    for answer in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(answer, EngineError)
        assert "actor is gone" in str(answer)
    for _ in range(100):  # each try fails at once or waits for the new process
        try:
            answer = await engine.generate(request("hi"))
            break
        except EngineError:
            await asyncio.sleep(0.1)
    assert int(answer.text.split()[1]) != process


async def well(engine) -> None:
    """Returns once it can answer."""
    async with asyncio.timeout(60):
        while (await health_of(engine)).problem:  # noqa: ASYNC110  it is elsewhere
            await asyncio.sleep(0.05)


async def test_an_actor_that_was_replaced_while_nobody_called_answers_the_first_call(start):
    engine = start()
    process = int((await engine.generate(request("hi"))).text.split()[1])
    os.kill(process, signal.SIGKILL)
    await asyncio.sleep(0.5)  # Ray has noticed
    await well(engine)
    assert int((await engine.generate(request("hi"))).text.split()[1]) != process


async def test_it_is_replaced_however_often_it_dies(start):
    engine = start()
    for _ in range(5):
        await well(engine)
        os.kill(int((await engine.generate(request("hi"))).text.split()[1]), signal.SIGKILL)
        await asyncio.sleep(0.5)
    await well(engine)
    assert (await engine.generate(request("hi"))).text


class Relayed:
    """An actor whose process is replaced between two messages of one call."""

    def __init__(self, *hosts: EngineHost) -> None:
        self._hosts = list(hosts)

    def __getattr__(self, method: str) -> SimpleNamespace:
        def remote(*arguments):
            host = self._hosts[0]
            if method == "submit" and len(self._hosts) > 1:
                del self._hosts[0]
            return asyncio.ensure_future(getattr(host, method)(*arguments))

        return SimpleNamespace(remote=remote)


async def test_a_call_taken_by_an_actor_that_died_before_any_news_fails_at_once():
    hosts = [EngineHost({"_target_": "odd_engines.WatchedEngine"}, []) for _ in range(2)]
    engine = RemoteEngine(Relayed(*hosts))
    async with asyncio.timeout(5):
        with pytest.raises(EngineError, match="was replaced"):
            await engine.generate(request("wait"))
        assert (await engine.generate(request("hi"))).text


async def test_an_engine_that_is_lost_is_replaced_after_it_said_why(start):
    engine = start("odd_engines.FragileEngine")
    await engine.capabilities()
    assert await health_of(engine) == Health()
    process = int((await engine.generate(request("hi"))).text.split()[1])
    for _ in range(2):
        with pytest.raises(EngineError, match="it is lost"):
            await engine.generate(request("lose"))
    with pytest.raises(EngineError, match="it is lost"):
        await engine.capabilities()
    health = await health_of(engine)
    assert health.problem == "it is lost"
    assert not health.needs_new_process  # it is not the process of him who asks
    async with asyncio.timeout(60):
        while (await health_of(engine)).problem == "it is lost":  # noqa: ASYNC110  it is elsewhere
            await asyncio.sleep(0.05)
    await well(engine)
    assert int((await engine.generate(request("hi"))).text.split()[1]) != process


async def test_an_actor_that_was_shut_down_is_an_engine_error(start):
    engine = start()
    await engine.capabilities()
    waiting = asyncio.create_task(engine.generate(request("wait")))
    await engine.generate(request("hi"))
    engine.shutdown()
    with pytest.raises(EngineError):
        await waiting  # until it is gone
    with pytest.raises(EngineError):
        await engine.generate(request("hi"))
    with pytest.raises(EngineError):
        await engine.capabilities()


async def test_a_target_that_cannot_be_built_is_explained(start):
    with pytest.raises(UsageError, match=r"odd_engines\.Missing"):
        await start("odd_engines.Missing").capabilities()
    engine = start("automem.engine.transformers.TransformersEngine", model="x", dtype="int4")
    with pytest.raises(UsageError, match="expected auto, float32"):
        await engine.generate(request("hi"))


async def test_a_silent_actor_is_given_up_at_the_deadline(start, monkeypatch):
    monkeypatch.setattr("automem.engine.actor._GRACE_S", 0.0)
    engine = start()
    await engine.capabilities()
    with pytest.raises(EngineError, match="did not answer within"):
        await engine.generate(request("wait", deadline_s=0.05))
    assert (await engine.generate(request("hi"))).text


async def test_a_model_in_an_actor(start, tiny_model, make_request):
    engine = start("automem.engine.transformers.TransformersEngine", model=tiny_model, threads=1)
    assert (await engine.capabilities()).token_ids
    requests = [make_request(n, temperature=0.0) for n in range(10)]
    together = await asyncio.gather(*(engine.generate(r) for r in requests))
    assert (await engine.generate(requests[3])).token_ids == together[3].token_ids
    with pytest.raises(EngineRequestError, match="not loaded"):
        await engine.generate(make_request(1, adapter="unheard-of"))
