"""What the routes of one replica share, and how it comes up and goes down."""

import asyncio
import logging
import secrets
from contextlib import suppress
from pathlib import Path

from automem.engine.health import Health, health_of
from automem.engine.protocol import Engine
from automem.registry import Registry
from automem.trace.compact import warm_up
from automem_serving.access import Access, Rates, Tokens
from automem_serving.chat import Chat
from automem_serving.episodes import EpisodeService
from automem_serving.metrics import Metrics
from automem_serving.policies import Policies
from automem_serving.settings import ServedSpec
from automem_serving.store import EpisodeStore

TOKENS_FILE = "tokens.jsonl"
_log = logging.getLogger("automem.serving")


class Context:
    """One replica's parts, wired together."""

    def __init__(self, spec: ServedSpec, engine: Engine) -> None:
        settings = spec.settings.check()
        root = Path(settings.dir).expanduser().resolve()
        self.spec = spec
        self.metrics = Metrics()
        self.registry = Registry(Path(settings.registry).expanduser().resolve())
        self.policies = Policies(spec, self.registry, engine)
        self.episodes = EpisodeService(settings, spec.worlds, EpisodeStore(root), self.policies)
        self.chat = Chat(self.policies, settings.limits, settings.call_s)
        tokens = Tokens(root / TOKENS_FILE) if settings.auth == "tokens" else None
        limits = settings.limits
        self.access = Access(tokens, Rates(limits.requests_per_s, limits.burst))
        self.replica = secrets.token_hex(4)
        """Names this process in answers, so that one can see who answered."""
        self._watcher: asyncio.Task[None] | None = None
        self._problem = ""
        self.is_ready = False
        """Whether it has come up and is not going down."""

    async def start(self) -> None:
        """Ready when this returns: the model is loaded and the aliases are followed."""
        await self.policies.start()
        await self.chat.start()
        await asyncio.to_thread(warm_up)
        self._watcher = asyncio.create_task(self.policies.watch())
        self.is_ready = True

    async def health(self) -> Health:
        """How the engine is. What is wrong with it is logged when that changes: it may name folders
        of this machine, so nobody outside is told."""
        found = await health_of(self.policies.engine)
        if found.problem != self._problem:
            _log.warning("engine: %s", found.problem or "it answers again")
            self._problem = found.problem
        return found

    async def stop(self) -> None:
        """Let acts under way finish, then free everything."""
        self.is_ready = False
        if self._watcher is not None:
            self._watcher.cancel()
            with suppress(asyncio.CancelledError):
                await self._watcher
        await self.episodes.close()
        await self.policies.engine.close()
