"""How engines are, as whoever asks any of them sees it."""

import asyncio

from odd_engines import WatchedEngine

from automem.engine.health import Health, health_of
from automem.errors import EngineError


class Telling(WatchedEngine):
    """Tells what it is given, or raises it; where that is None, never."""

    def __init__(self, told: Health | Exception | None) -> None:
        super().__init__()
        self.told = told

    async def health(self) -> Health:
        if self.told is None:
            await asyncio.Event().wait()
        if isinstance(self.told, Health):
            return self.told
        raise self.told


async def test_an_engine_that_does_not_tell_is_taken_to_be_well():
    assert await health_of(WatchedEngine()) == Health()


async def test_what_an_engine_tells_is_passed_on():
    told = Health(problem="loading", waiting=3, running=1)
    assert await health_of(Telling(told)) == told


async def test_an_engine_that_fails_or_hangs_cannot_answer(monkeypatch):
    monkeypatch.setattr("automem.engine.health.ANSWER_S", 0.01)
    assert await health_of(Telling(EngineError("gone"))) == Health(problem="gone")
    assert "did not say within" in (await health_of(Telling(None))).problem
