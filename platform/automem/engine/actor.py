"""An engine in a Ray actor, shared by all workers, behind the same protocol.

Calls made in one tick of a worker's event loop travel together, and answers come back as they are
ready through one long poll per worker, so that Ray's cost per call stays small. Cancelling a call
cancels it in the actor. Exceptions cross as they are. If the actor dies, the calls that it had get
an EngineError, and those alone; Ray restarts it, and later calls reach the new one. An engine that
is lost takes its actor with it (`automem.engine.host`), so that it is replaced as well.
"""

import asyncio
import pickle
import sys
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from automem.engine.crossing import Answer, Batch, Call, as_raised, decode_news, encode
from automem.engine.health import Health
from automem.engine.host import EngineHost
from automem.engine.protocol import Capabilities, Completion, GenerateRequest
from automem.engine.streaming import Piece
from automem.errors import EngineError

RESTARTS = -1
"""How often Ray replaces an engine's process that died: always. A server runs for months, and it is
callers who know when to give up: calls have deadlines, rollouts have patience."""
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


class RemoteEngine:
    """The worker's side: an Engine whose work is done in the actor. May be pickled."""

    def __init__(self, actor: Any, adapters: Mapping[str, str] | None = None) -> None:
        """`adapters`: those that calls may name (name to folder), loaded when they do."""
        self._actor = actor
        self._adapters = dict(adapters or {})
        self._name = uuid.uuid4().hex
        self._numbers = 0
        self._asked = 0
        """The last of them that was handed over."""
        self._waiting: dict[int, asyncio.Future[Completion]] = {}
        self._streams: dict[int, asyncio.Queue[Piece | None]] = {}
        self._calls: list[Call] = []
        self._cancelled: list[int] = []
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

    async def health(self) -> Health:
        """As the engine's; its process is never this one, and is replaced without us."""
        found: Health = await self._ask(self._actor.health.remote())
        return msgspec.structs.replace(found, needs_new_process=False)

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
        self._calls.append(Call(number, request, is_streamed))
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
        for future in list(self._waiting.values()):
            future.cancel()
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
        batch = Batch(self._calls, self._cancelled, self._adapters)
        self._calls, self._cancelled = [], []
        numbers = [call.number for call in batch.calls]
        self._asked = max((self._asked, *numbers))
        try:
            self._actor.submit.remote(self._name, encode(batch))  # the polls tell what arrived
        except RayError as error:
            self._fail(numbers, error)
        if self._collector is None or self._collector.done():
            self._collector = asyncio.create_task(self._collect())

    async def _collect(self) -> None:
        """Settle answers as they come, as long as anything is waited for."""
        while self._waiting:
            asked = self._asked  # what is asked later may reach the process that comes next
            try:
                news = decode_news(await self._actor.collect.remote(self._name))
            except RayError as error:
                self._fail([number for number in self._waiting if number <= asked], error)
                continue
            for answer in news.answers:
                self._settle(answer)
            if news.under_way is not None:
                known = {*news.under_way}
                lost = [n for n in self._waiting if n <= asked and n not in known]
                self._fail(lost, EngineError("its process was replaced"))

    def _settle(self, answer: Answer) -> None:
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

    def _fail(self, numbers: Sequence[int], error: Exception) -> None:
        for number in numbers:
            future = self._waiting.pop(number, None)
            if future is not None and not future.done():
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
