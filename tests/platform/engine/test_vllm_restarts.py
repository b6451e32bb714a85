"""How often the vllm engine replaces vLLM's processes, tried without any vLLM."""

import asyncio
from types import SimpleNamespace

import pytest

from automem.engine import vllm
from automem.engine.health import Health
from automem.engine.vllm import VllmEngine
from automem.errors import EngineError


@pytest.fixture
def cores(monkeypatch):
    """Those that were started, the running one last."""
    started = []

    def start(settings):
        core = SimpleNamespace(is_dead=False, context_tokens=8, stop=lambda: None)
        started.append(core)
        return core

    monkeypatch.setattr(vllm, "start_core", start)
    return started


async def well(engine: VllmEngine) -> None:
    """Returns once it can answer; asks for nothing but its health."""
    async with asyncio.timeout(30):
        while (await engine.health()).problem:  # noqa: ASYNC110  a thread starts it
            await asyncio.sleep(0.001)


async def test_a_core_that_died_while_nobody_called_is_replaced_when_it_is_asked_for_its_health(
    cores,
):
    engine = VllmEngine("embedded")
    await well(engine)
    cores[-1].is_dead = True
    health = await engine.health()
    assert "died; it is started again" in health.problem
    assert not health.needs_new_process
    await well(engine)
    assert len(cores) == 2
    assert await engine.health() == Health()
    await engine.close()


async def test_restarts_are_counted_by_the_hour_and_then_a_new_process_is_asked_for(
    cores, monkeypatch
):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(vllm, "time", SimpleNamespace(monotonic=lambda: clock.now))
    engine = VllmEngine("embedded", restarts=2)
    for _ in range(2):
        await well(engine)
        cores[-1].is_dead = True
        clock.now += 1000
        await engine.capabilities()
    cores[-1].is_dead = True
    with pytest.raises(EngineError, match="restarted 2 times already within an hour"):
        await engine.capabilities()
    assert (await engine.health()).needs_new_process
    clock.now = 1000 + 3600  # the first was an hour ago
    await engine.capabilities()
    assert len(cores) == 4
    await engine.close()
