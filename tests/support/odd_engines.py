"""Engines that let a test see what goes on inside an actor."""

import asyncio
import os
from collections.abc import Sequence

from automem.engine.health import Health
from automem.engine.protocol import Capabilities, Completion, GenerateRequest
from automem.errors import EngineError, EngineRequestError


class WatchedEngine:
    """Says its process id; `wait` waits for ever; `break` and `refuse` raise."""

    def __init__(self) -> None:
        self.running = 0
        self.adapters: dict[str, str] = {}

    async def capabilities(self) -> Capabilities:
        """`context_tokens` is the number of calls under way, `tokenizer` what was loaded."""
        return Capabilities(
            model="watched", context_tokens=self.running, tokenizer=",".join(self.adapters)
        )

    async def generate(self, request: GenerateRequest) -> Completion:
        what = request.messages[0].content
        self.running += 1
        try:
            if what == "wait":
                await asyncio.Event().wait()
            if what == "break":
                raise KeyError("the player's own mistake")
            if what == "refuse":
                raise EngineRequestError("too long")
            return Completion(text=f"{what} {os.getpid()}", completion_tokens=request.seed)
        finally:
            self.running -= 1

    async def score(self, token_ids: Sequence[int], adapter: str | None = None) -> list[float]:
        return [-float(token) for token in token_ids] if adapter in self.adapters else []

    async def load_adapter(self, name: str, path: str) -> None:
        if not path:
            raise EngineRequestError("no path")
        self.adapters[name] = path

    async def close(self) -> None:
        pass


class FragileEngine(WatchedEngine):
    """Is lost with this process once it is asked to `lose`."""

    is_lost = False

    async def health(self) -> Health:
        return Health(problem="it is lost" if self.is_lost else "", needs_new_process=self.is_lost)

    async def generate(self, request: GenerateRequest) -> Completion:
        self.is_lost = self.is_lost or request.messages[0].content == "lose"
        if self.is_lost:
            raise EngineError("it is lost")
        return await super().generate(request)
