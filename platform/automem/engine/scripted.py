"""Deterministic players behind the engine protocol: for tests, baselines and reference points.

A player is a pure function of the request, so the same request is answered the same way on any
number of workers and after any resume. Tokens are counted approximately.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from automem.engine.protocol import Capabilities, Completion, GenerateRequest
from automem.engine.render import ApproximateCounter
from automem.errors import EngineRequestError


class Player(Protocol):
    """Plays from what the request shows; keeps nothing between calls."""

    def reply(self, request: GenerateRequest) -> str:
        """The completion's text; `request.seed` is the only source of randomness."""
        ...


class ScriptedEngine:
    """An engine whose model is a `Player`."""

    def __init__(self, player: Player, model: str = "scripted", latency_s: float = 0.0) -> None:
        """`latency_s`: time that a call takes, to imitate a real model."""
        self._player = player
        self._model = model
        self._latency_s = latency_s
        self._counter = ApproximateCounter()

    async def capabilities(self) -> Capabilities:
        """No tokens, no log-probabilities; batch invariant by nature."""
        return Capabilities(model=self._model, batch_invariant=True)

    async def generate(self, request: GenerateRequest) -> Completion:
        """The player's reply. What a player raises is its own failure and passes through."""
        if request.adapter is not None:
            raise EngineRequestError(
                f"the scripted engine has no adapters, the request names {request.adapter!r}"
            )
        await asyncio.sleep(self._latency_s)
        text = self._player.reply(request)
        return Completion(
            text=text,
            prompt_tokens=sum(self._counter.count(m.content) for m in request.messages),
            completion_tokens=self._counter.count(text),
        )

    async def score(self, token_ids: Sequence[int], adapter: str | None = None) -> list[float]:
        """Never: a script has no probabilities."""
        raise EngineRequestError("the scripted engine cannot score tokens")

    async def load_adapter(self, name: str, path: str) -> None:
        """Never: a script has no weights."""
        raise EngineRequestError(f"the scripted engine cannot load adapters ({name!r})")

    async def close(self) -> None:
        """Nothing to free."""
