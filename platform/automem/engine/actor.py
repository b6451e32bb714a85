"""An engine in a Ray actor, shared by all workers, behind the same protocol.

Calls made in one tick of a worker's event loop travel together, and answers come back as they are
ready through one long poll per worker, so that Ray's cost per call stays small. Cancelling a call
cancels it in the actor. Exceptions cross as they are. If the actor dies, everything that waits gets
an EngineError; Ray restarts the actor a few times, and later calls reach the new one.
"""

import asyncio
import pickle
import sys
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import msgspec
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from automem.engine.build import build_engine
from automem.engine.crossing import as_raised, pickled
from automem.engine.protocol import Capabilities, Completion, Engine, GenerateRequest
from automem.engine.streaming import Piece, pieces_of
from automem.errors import AutoMemError, EngineError
from automem.storage.store import local_copy

RESTARTS = 3
"""How often Ray replaces an engine's process that died."""
_POLL_S = 20.0
"""A poll that finds nothing returns after this, so that none outlives its worker for long."""
_GRACE_S = 5.0
"""What a caller waits beyond a request's deadline, which the engine itself keeps."""


class ActorSpec(Protocol):
    """What `start_engine` needs to know; `automem.rollout.spec.EngineSpec` is one."""

    @property
    def target(self) -> Mapping[str, Any]:
        """`_target_` and arguments."""

    @property
    def adapters(self) -> Mapping[str, str]:
        """Adapter versions that calls may name: name to folder."""

    @property
    def num_cpus(self) -> float: ...

    @property
    def num_gpus(self) -> float: ...

    @property
    def resources(self) -> Mapping[str, float]: ...

    @property
    def labels(self) -> Mapping[str, str]: ...


class _Call(msgspec.Struct, array_like=True):
    number: int
    request: GenerateRequest
    is_streamed: bool = False


class _Batch(msgspec.Struct, array_like=True):
    calls: list[_Call]
    cancelled: list[int]
    adapters: dict[str, str]
    """Where the adapters that calls may name are: a replaced actor has to load them anew."""


class _Answer(msgspec.Struct, array_like=True):
    number: int
    completion: Completion | None
    error: bytes = b""
    """The pickled exception where there is no completion."""
    tokens: tuple[int, ...] = ()
    """Of a streamed call that goes on."""


class _News(msgspec.Struct, array_like=True):
    incarnation: str
    """Changes when the actor was restarted: what was asked before is lost."""
    answers: list[_Answer]


_encode = msgspec.msgpack.Encoder().encode
_decode_batch = msgspec.msgpack.Decoder(_Batch).decode
_decode_news = msgspec.msgpack.Decoder(_News).decode


class _Client:
    """One worker, as the host sees it."""

    def __init__(self) -> None:
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.answers: list[_Answer] = []
        self.has_news = asyncio.Event()


class EngineHost:
    """The actor's side. It is started by `start_engine`."""

    def __init__(self, target: dict[str, Any], import_path: Sequence[str]) -> None:
        sys.path.extend(path for path in import_path if path not in sys.path)
        self._incarnation = uuid.uuid4().hex
        self._clients: dict[str, _Client] = {}
        self._adapters: dict[str, str] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._capabilities: asyncio.Task[Capabilities] | None = None
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
        for name, path in adapters.items():
            await self.load_adapter(name, path)
        return found

    async def submit(self, client: str, batch: bytes) -> None:
        """Begin calls and cancel others; answers are collected."""
        state = self._clients.setdefault(client, _Client())
        news = _decode_batch(batch)
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
            async with asyncio.timeout(_POLL_S):
                await state.has_news.wait()
        except TimeoutError:
            pass
        state.has_news.clear()
        answers, state.answers = state.answers, []
        return _encode(_News(self._incarnation, answers))

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
        return self._engine

    async def _answer(self, client: _Client, call: _Call) -> None:
        try:
            adapter = call.request.adapter
            if adapter is not None and adapter in self._adapters:
                await self.load_adapter(adapter, self._adapters[adapter])
            if call.is_streamed:
                completion = await self._streamed(client, call)
            else:
                completion = await self._ready_engine().generate(call.request)
            answer = _Answer(call.number, completion)
        except Exception as error:  # noqa: BLE001  it is the caller's, and crosses as it is
            answer = _Answer(call.number, None, pickled(error))
        finally:
            client.tasks.pop(call.number, None)
        client.answers.append(answer)
        client.has_news.set()

    async def _streamed(self, client: _Client, call: _Call) -> Completion:
        """The completion; the tokens before it are collected as they come."""
        async with aclosing(pieces_of(self._ready_engine(), call.request)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Completion):
                    return piece
                client.answers.append(_Answer(call.number, None, tokens=piece))
                client.has_news.set()
        raise EngineError("the engine ended a stream without a completion")


class RemoteEngine:
    """The worker's side: an Engine whose work is done in the actor. May be pickled."""

    def __init__(self, actor: Any, adapters: Mapping[str, str] | None = None) -> None:
        """`adapters`: those that calls may name (name to folder), loaded when they do."""
        self._actor = actor
        self._adapters = dict(adapters or {})
        self._name = uuid.uuid4().hex
        self._numbers = 0
        self._waiting: dict[int, asyncio.Future[Completion]] = {}
        self._streams: dict[int, asyncio.Queue[Piece | None]] = {}
        self._calls: list[_Call] = []
        self._cancelled: list[int] = []
        self._incarnation = ""
        self._takes_tokens = False
        self._collector: asyncio.Task[None] | None = None
        self._flush_handle: asyncio.Handle | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteEngine, (self._actor, self._adapters)

    def with_adapters(self, adapters: Mapping[str, str]) -> "RemoteEngine":
        """The same actor, for calls that may name these too."""
        return RemoteEngine(self._actor, {**self._adapters, **adapters})

    async def capabilities(self) -> Capabilities:
        """Those of the engine; returns once it can serve and has the adapters."""
        found: Capabilities = await self._ask(self._actor.capabilities.remote(self._adapters))
        self._takes_tokens = found.token_ids
        return found

    async def generate(self, request: GenerateRequest) -> Completion:
        """As the engine's; EngineError where the actor dies."""
        return await self._completed(*self._begin(request))

    async def stream(self, request: GenerateRequest) -> AsyncIterator[Piece]:
        """As the engine's; the completion alone where it cannot stream."""
        number, future, deadline_s = self._begin(request, is_streamed=True)
        pieces = self._streams[number] = asyncio.Queue()
        call = asyncio.create_task(self._completed(number, future, deadline_s))
        call.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            yield call.result()
        finally:
            del self._streams[number]
            call.cancel()

    def _begin(
        self, request: GenerateRequest, is_streamed: bool = False
    ) -> "tuple[int, asyncio.Future[Completion], float]":
        """Ask the actor: (number of the call, its future, its deadline)."""
        if self._takes_tokens and request.prompt_ids is not None:
            # Token engines do not read the messages: they need not travel.
            request = msgspec.structs.replace(request, messages=())
        self._numbers += 1
        number = self._numbers
        future = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._calls.append(_Call(number, request, is_streamed))
        self._flush_soon()
        return number, future, request.deadline_s

    async def _completed(
        self, number: int, future: "asyncio.Future[Completion]", deadline_s: float
    ) -> Completion:
        try:
            async with asyncio.timeout(deadline_s + _GRACE_S):
                return await future
        except TimeoutError:
            self._withdraw(number)
            raise EngineError(
                f"the engine's actor did not answer within {deadline_s + _GRACE_S:g} s"
            ) from None
        except asyncio.CancelledError:
            self._withdraw(number)
            raise

    async def score(self, token_ids: Sequence[int], adapter: str | None = None) -> list[float]:
        """As the engine's."""
        scores: list[float] = await self._ask(self._actor.score.remote(list(token_ids), adapter))
        return scores

    async def load_adapter(self, name: str, path: str) -> None:
        """As the engine's; for all workers at once."""
        await self._ask(self._actor.load_adapter.remote(name, path))
        self._adapters[name] = path

    async def close(self) -> None:
        """Give up what this worker waits for; the actor goes on. `shutdown` ends the actor."""
        for number in list(self._waiting):
            self._waiting[number].cancel()
        if self._collector is not None:
            self._collector.cancel()

    def shutdown(self) -> None:
        """End the actor, whatever it does."""
        ray.kill(self._actor, no_restart=True)

    async def _ask(self, reference: Any) -> Any:
        try:
            return await reference
        except RayError as error:
            raise as_raised(error) from error

    def _withdraw(self, number: int) -> None:
        if self._waiting.pop(number, None) is None:
            return
        self._cancelled.append(number)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if self._flush_handle is None:
            self._flush_handle = asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_handle = None
        batch = _Batch(self._calls, self._cancelled, self._adapters)
        self._calls, self._cancelled = [], []
        try:
            self._actor.submit.remote(self._name, _encode(batch))
        except RayError as error:
            self._fail_all(error)
            return
        if self._collector is None or self._collector.done():
            self._collector = asyncio.create_task(self._collect())

    async def _collect(self) -> None:
        """Settle answers as they come, as long as anything is waited for."""
        while self._waiting:
            try:
                news = _decode_news(await self._actor.collect.remote(self._name))
            except RayError as error:
                self._fail_all(error)
                return
            if news.incarnation != self._incarnation:
                if self._incarnation:
                    self._fail_all(EngineError("its process was replaced"))
                self._incarnation = news.incarnation
            for answer in news.answers:
                self._settle(answer)

    def _settle(self, answer: _Answer) -> None:
        if answer.tokens:
            if answer.number in self._streams:
                self._streams[answer.number].put_nowait(answer.tokens)
            return
        future = self._waiting.pop(answer.number, None)
        if future is None or future.done():
            return
        if answer.completion is not None:
            future.set_result(answer.completion)
        else:
            future.set_exception(pickle.loads(answer.error))

    def _fail_all(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(EngineError(f"the engine's actor is gone: {error}"))


def start_engine(spec: ActorSpec, group: Any = None) -> RemoteEngine:
    """Start an actor for the engine; Ray is up. Errors of building it come with the first call.

    `group`: the placement group whose first bundle is the actor's, the others its workers'."""
    where: dict[str, Any] = {"label_selector": dict(spec.labels) or None}
    if group is not None:  # its bundles have the labels
        where = {"scheduling_strategy": PlacementGroupSchedulingStrategy(group, 0, True)}
    actor = (
        ray.remote(EngineHost)
        .options(
            num_cpus=spec.num_cpus,
            num_gpus=spec.num_gpus,
            resources=dict(spec.resources) or None,
            max_restarts=RESTARTS,
            max_concurrency=1000,  # a poll per worker, and scores
            **where,
        )
        .remote(dict(spec.target), list(sys.path))
    )
    return RemoteEngine(actor, spec.adapters)


def _has_failed(task: "asyncio.Future[Any]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
