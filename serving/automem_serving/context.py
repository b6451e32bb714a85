"""What the routes of one replica share, and how it comes up and goes down."""

import asyncio
import secrets
from contextlib import suppress
from pathlib import Path

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
        self.is_ready = False

    async def start(self) -> None:
        """Ready when this returns: the model is loaded and the aliases are followed."""
        await self.policies.start()
        await self.chat.start()
        await asyncio.to_thread(warm_up)
        self._watcher = asyncio.create_task(self.policies.watch())
        self.is_ready = True

    async def stop(self) -> None:
        """Let acts under way finish, then free everything."""
        self.is_ready = False
        if self._watcher is not None:
            self._watcher.cancel()
            with suppress(asyncio.CancelledError):
                await self._watcher
        await self.episodes.close()
        await self.policies.engine.close()
