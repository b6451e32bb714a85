"""An engine that has died in its process and says so."""

from automem.engine.health import Health
from automem.engine.scripted import ScriptedEngine
from automem_envs.concentration.players import PerfectMemoryPlayer


class LostEngine(ScriptedEngine):
    """See the module's docstring."""

    def __init__(self) -> None:
        super().__init__(PerfectMemoryPlayer())

    async def health(self) -> Health:
        return Health(problem="it is lost", needs_new_process=True)
