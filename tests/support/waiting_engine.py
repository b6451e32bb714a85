"""An engine that takes for ever to load, and one that is there at once."""

import asyncio
from pathlib import Path

from automem.engine.protocol import Capabilities
from automem.engine.scripted import ScriptedEngine
from automem_envs.concentration.players import PerfectMemoryPlayer


class WaitingEngine(ScriptedEngine):
    """Leaves a mark when it is asked whether it is ready, and is not, unless `is_quick`."""

    def __init__(self, mark: str, is_quick: bool) -> None:
        super().__init__(PerfectMemoryPlayer())
        self._mark = Path(mark)
        self._is_quick = is_quick

    async def capabilities(self) -> Capabilities:
        self._mark.touch()
        if not self._is_quick:
            await asyncio.Event().wait()
        return await super().capabilities()
