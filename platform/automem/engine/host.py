"""The actor's side of an engine that workers share: see `automem.engine.actor`.

Promise: an engine that is lost is replaced, even where nobody calls it: the host ends its process,
after those who waited have heard why, and Ray starts another. A process and not only the engine,
since a broken CUDA context or leaked memory goes with nothing less.

Not covered: an engine that hangs. Its callers give up at their deadlines.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

import ray

from automem.engine.build import build_engine
from automem.engine.crossing import Answer, Call, News, decode_batch, encode, pickled
from automem.engine.health import Health, health_of
from automem.engine.protocol import Capabilities, Completion, Engine
from automem.engine.streaming import pieces_of
from automem.errors import AutoMemError, EngineError
from automem.storage.store import local_copy

_POLL_S = 20.0
"""A poll that finds nothing returns after this, so that none outlives its worker for long."""
_FIRST_POLL_S = 1.0
"""A worker that is new here may have been a client of the process before, and hears sooner which of
its calls are known."""
_LOOK_S = 1.0
"""Between looks at the engine."""
_LAST_WORDS_S = 1.0
"""For the answers of an engine that is lost to reach those who wait."""


class _Client:
    """One worker, as the host sees it."""

    def __init__(self) -> None:
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.answers: list[Answer] = []
        self.has_news = asyncio.Event()
        self.is_new = True
        """It has had no news yet."""


class EngineHost:
    """The actor. It is started by `automem.engine.actor.start_engine`."""

    def __init__(self, target: dict[str, Any], import_path: Sequence[str]) -> None:
        sys.path.extend(path for path in import_path if path not in sys.path)
        self._clients: dict[str, _Client] = {}
        self._adapters: dict[str, str] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._capabilities: asyncio.Task[Capabilities] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._engine: Engine | None = None
        self._failure: AutoMemError | None = None
        try:
            self._engine = build_engine(target)
        except AutoMemError as error:
            self._failure = error  # told to whoever calls, instead of dying without a word

    async def capabilities(self, adapters: Mapping[str, str]) -> Capabilities:
        """Those of the engine, once it is ready and has these adapters."""
        if self._capabilities is None or _has_failed(self._capabilities):
            self._capabilities = asyncio.create_task(self._ready_engine().capabilities())
        found = await asyncio.shield(self._capabilities)
        health = await self.health()
        if health.needs_new_process:
            raise EngineError(health.problem)
        for name, path in adapters.items():
            await self.load_adapter(name, path)
        return found

    async def health(self) -> Health:
        """As the engine's."""
        return await health_of(self._ready_engine())

    async def submit(self, client: str, batch: bytes) -> None:
        """Begin calls and cancel others; answers are collected."""
        state = self._clients.setdefault(client, _Client())
        news = decode_batch(batch)
        self._adapters.update(news.adapters)
        for call in news.calls:
            state.tasks[call.number] = asyncio.create_task(self._answer(state, call))
        for number in news.cancelled:
            if number in state.tasks:
                state.tasks[number].cancel()

    async def collect(self, client: str) -> bytes:
        """The answers that are ready; waits for the first one."""
        state = self._clients.setdefault(client, _Client())
        try:
            async with asyncio.timeout(_FIRST_POLL_S if state.is_new else _POLL_S):
                await state.has_news.wait()
        except TimeoutError:
            pass
        state.has_news.clear()
        answers, state.answers = state.answers, []
        under_way = list(state.tasks) if state.is_new or not answers else None
        state.is_new = False
        return encode(News(answers, under_way))

    async def score(self, token_ids: list[int], adapter: str | None) -> list[float]:
        """As the engine's."""
        return await self._ready_engine().score(token_ids, adapter)

    async def load_adapter(self, name: str, path: str) -> None:
        """As the engine's; who asks for one that is being loaded waits for it."""
        if self._adapters.get(name, path) != path:
            await self._ready_engine().load_adapter(name, path)  # says why not
        if name not in self._loads or _has_failed(self._loads[name]):
            self._loads[name] = asyncio.ensure_future(self._fetch_adapter(name, path))
        await asyncio.shield(self._loads[name])
        self._adapters[name] = path

    async def _fetch_adapter(self, name: str, path: str) -> None:
        """From this node's disk; what lies in object storage is copied there first."""
        if "://" in path:
            path = str(await asyncio.to_thread(local_copy, path))
        await self._ready_engine().load_adapter(name, path)

    def _ready_engine(self) -> Engine:
        if self._engine is None:
            raise self._failure or EngineError("the engine was not built")
        if self._watch is None:
            self._watch = asyncio.create_task(self._replace_when_lost(self._engine))
        return self._engine

    async def _answer(self, client: _Client, call: Call) -> None:
        try:
            adapter = call.request.adapter
            if adapter is not None and adapter in self._adapters:
                await self.load_adapter(adapter, self._adapters[adapter])
            if call.is_streamed:
                completion = await self._streamed(client, call)
            else:
                completion = await self._ready_engine().generate(call.request)
            answer = Answer(call.number, completion)
        except Exception as error:  # noqa: BLE001  it is the caller's, and crosses as it is
            answer = Answer(call.number, None, pickled(error))
        finally:
            client.tasks.pop(call.number, None)
        client.answers.append(answer)
        client.has_news.set()

    async def _streamed(self, client: _Client, call: Call) -> Completion:
        """The completion; the tokens before it are collected as they come."""
        async with aclosing(pieces_of(self._ready_engine(), call.request)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Completion):
                    return piece
                client.answers.append(Answer(call.number, None, tokens=piece))
                client.has_news.set()
        raise EngineError("the engine ended a stream without a completion")

    async def _replace_when_lost(self, engine: Engine) -> None:
        """End this process once the engine is lost in it."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if (await health_of(engine)).needs_new_process:
                await asyncio.sleep(_LAST_WORDS_S)
                ray.kill(ray.get_runtime_context().current_actor, no_restart=False)


def _has_failed(task: "asyncio.Future[Any]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
