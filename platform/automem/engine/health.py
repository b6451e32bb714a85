"""Whether an engine can answer now, and how much it has to do: for readiness checks and metrics.

An addition to the engine protocol: an engine *may* have `health`. It is cheap, and an engine that
replaces what died in it does so when it is asked for its health too: an engine that is not ready
gets no calls, so nothing else might make it.
"""

import asyncio
from typing import Protocol, runtime_checkable

import msgspec

from automem.engine.protocol import Engine
from automem.errors import AutoMemError

ANSWER_S = 5.0
"""An engine that does not tell within this is taken for one that cannot answer."""


class Health(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an engine is."""

    problem: str = ""
    """Why it cannot answer now; empty where it can. May name folders of this machine."""
    needs_new_process: bool = False
    """What died will not come back in this process: whoever owns the process has to replace it."""
    waiting: int = 0
    """Calls for which there is no room yet."""
    running: int = 0
    """Calls that the model works on."""


@runtime_checkable
class EngineWithHealth(Protocol):
    """An engine that tells how it is."""

    async def health(self) -> Health:
        """At once, whatever the engine does."""
        ...


async def health_of(engine: Engine) -> Health:
    """As `health`, never an error of the engine's; one that does not tell is taken to be well."""
    if not isinstance(engine, EngineWithHealth):
        return Health()
    try:
        async with asyncio.timeout(ANSWER_S):
            return await engine.health()
    except TimeoutError:
        return Health(problem=f"the engine did not say within {ANSWER_S:g} s how it is")
    except AutoMemError as error:
        return Health(problem=str(error))
