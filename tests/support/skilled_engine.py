"""An engine whose model is a skill at keeping memory: what a training would give, without one."""

from pathlib import Path

from automem.engine.protocol import Completion, GenerateRequest
from automem.engine.scripted import ScriptedEngine
from automem.errors import EngineError
from automem_envs.concentration.players import NoMemoryPlayer, PerfectMemoryPlayer, SloppyPlayer

SKILLS = {"base": SloppyPlayer, "good": PerfectMemoryPlayer, "bad": NoMemoryPlayer}
TARGET = "support.skilled_engine.SkilledEngine"


class SkilledEngine(ScriptedEngine):
    """`model`: a skill. `outage`: a file; as long as it is there, calls of episodes whose id holds
    its text fail, as they do when a server is away."""

    def __init__(self, model: str = "base", outage: str = "") -> None:
        super().__init__(SKILLS[model](), model)
        self._outage = Path(outage) if outage else None

    async def generate(self, request: GenerateRequest) -> Completion:
        away = self._outage
        if away is not None and away.exists() and away.read_text() in request.id:
            raise EngineError("the server is away")
        return await super().generate(request)
