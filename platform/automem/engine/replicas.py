"""Several actors with the same engine, behind one face: data parallelism.

An episode's calls go to one replica, chosen by its name, where the beginning of its prompts is
cached. Promise: a call that fails because its replica did is made once more, by another replica,
within its deadline; a replica that failed gets no calls until it says that it is ready. What an
engine refuses (EngineRequestError) is refused everywhere and not tried again.

A replica whose model needs workers on other machines reserves them, itself included, as one Ray
placement group: all of it or nothing.

Not covered: moving episodes from a busy replica to an idle one.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from automem.engine.actor import ActorSpec, RemoteEngine, start_engine
from automem.engine.health import Health, health_of
from automem.engine.protocol import Capabilities, Completion, GenerateRequest
from automem.errors import EngineError, EngineRequestError, UsageError

T = TypeVar("T")
GROUP_WAIT_S = 600.0
"""How long machines may take to come: an autoscaler starts them."""
_LITTLE_CPU = 0.001
"""A bundle has to reserve something."""


class ReplicatedEngine:
    """See the module's docstring. May be pickled."""

    def __init__(self, replicas: Sequence[RemoteEngine], groups: Sequence[Any] = ()) -> None:
        """`groups`: the placement groups that end with them."""
        self._replicas = list(replicas)
        self._groups = tuple(groups)
        self._returning: dict[int, asyncio.Task[Capabilities]] = {}
        """Replicas that failed, until they answer again."""

    def __reduce__(self) -> tuple[Any, ...]:
        return ReplicatedEngine, (self._replicas, self._groups)

    def with_adapters(self, adapters: Mapping[str, str]) -> "ReplicatedEngine":
        """The same actors, for calls that may name these too."""
        replicas = [replica.with_adapters(adapters) for replica in self._replicas]
        return ReplicatedEngine(replicas, self._groups)

    async def capabilities(self) -> Capabilities:
        """Those of one; returns once all can serve."""
        return (await asyncio.gather(*(replica.capabilities() for replica in self._replicas)))[0]

    async def health(self) -> Health:
        """Well as long as one of them is; what they have to do, together."""
        each = await asyncio.gather(*(health_of(replica) for replica in self._replicas))
        return Health(
            problem="" if any(not one.problem for one in each) else each[0].problem,
            waiting=sum(one.waiting for one in each),
            running=sum(one.running for one in each),
        )

    async def generate(self, request: GenerateRequest) -> Completion:
        """As the engine's."""
        expires = time.monotonic() + request.deadline_s

        async def call(replica: RemoteEngine) -> Completion:
            left_s = expires - time.monotonic()
            if left_s <= 0:
                raise EngineError(f"no completion within the deadline of {request.deadline_s:g} s")
            return await replica.generate(msgspec.structs.replace(request, deadline_s=left_s))

        return await self._somewhere(_episode_of(request.id), call)

    async def score(self, token_ids: Sequence[int], adapter: str | None = None) -> list[float]:
        """As the engine's."""
        tokens = list(token_ids)
        return await self._somewhere(
            repr(tokens[:64]), lambda replica: replica.score(tokens, adapter)
        )

    async def load_adapter(self, name: str, path: str) -> None:
        """As the engine's, on all replicas; one that is away loads it when it is called."""
        outcomes = await asyncio.gather(
            *(replica.load_adapter(name, path) for replica in self._replicas),
            return_exceptions=True,
        )
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        refused = [error for error in failures if not _may_pass(error)]
        if refused or len(failures) == len(self._replicas):
            raise (refused or failures)[0]
        self._replicas = [
            replica.with_adapters({name: path}) if isinstance(outcome, EngineError) else replica
            for replica, outcome in zip(self._replicas, outcomes, strict=True)
        ]

    async def close(self) -> None:
        """Give up what this worker waits for; the actors go on."""
        for task in self._returning.values():
            task.cancel()
        for replica in self._replicas:
            await replica.close()

    def shutdown(self) -> None:
        """End the actors, whatever they do."""
        for replica in self._replicas:
            replica.shutdown()
        for group in self._groups:
            remove_placement_group(group)

    async def _somewhere(self, key: str, call: Callable[[RemoteEngine], Awaitable[T]]) -> T:
        """The answer of the key's own replica, or of one other where that one fails."""
        first, second = self._choose(key)
        try:
            return await call(self._replicas[first])
        except EngineError as error:
            if not _may_pass(error) or second is None:
                raise
            self._send_away(first)
        return await call(self._replicas[second])

    def _choose(self, key: str) -> tuple[int, int | None]:
        """Who is asked, and who if that one fails: those at hand before those away."""
        self._returning = {
            number: task for number, task in self._returning.items() if not task.done()
        }
        count = len(self._replicas)
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        home = int.from_bytes(digest, "big") % count
        order = sorted(
            ((home + offset) % count for offset in range(count)),
            key=lambda number: number in self._returning,
        )
        return order[0], order[1] if count > 1 else None

    def _send_away(self, number: int) -> None:
        """No calls for this replica until it says that it is ready, or cannot be."""
        if number not in self._returning:
            replica = self._replicas[number]
            task = asyncio.get_running_loop().create_task(replica.capabilities())
            task.add_done_callback(_look_at)
            self._returning[number] = task


class ReplicaSpec(ActorSpec, Protocol):
    """What `start_replicas` needs to know; `automem.rollout.spec.EngineSpec` is one."""

    @property
    def replicas(self) -> int: ...

    @property
    def bundles(self) -> Sequence[Mapping[str, float]]:
        """What a replica's own workers reserve beside its actor, each."""

    @property
    def strategy(self) -> str:
        """Ray's: PACK, STRICT_PACK, SPREAD or STRICT_SPREAD."""


def start_replicas(spec: ReplicaSpec) -> RemoteEngine | ReplicatedEngine:
    """The engine's actor, or actors; Ray is up. UsageError where the cluster has no room."""
    if spec.replicas == 1 and not spec.bundles:
        return start_engine(spec)
    groups = [_reserve(spec) for _ in range(spec.replicas)] if spec.bundles else []
    try:
        _await_groups(groups, spec)
        return ReplicatedEngine(
            [start_engine(spec, group) for group in groups or [None] * spec.replicas], groups
        )
    except BaseException:
        for group in groups:
            remove_placement_group(group)
        raise


def _reserve(spec: ReplicaSpec) -> Any:
    own = {"CPU": spec.num_cpus, "GPU": spec.num_gpus, **spec.resources}
    own = {name: amount for name, amount in own.items() if amount} or {"CPU": _LITTLE_CPU}
    bundles = [own, *(dict(bundle) for bundle in spec.bundles)]
    labels = [dict(spec.labels)] * len(bundles) if spec.labels else None
    return placement_group(bundles, strategy=spec.strategy, bundle_label_selector=labels)


def _await_groups(groups: Sequence[Any], spec: ReplicaSpec) -> None:
    expires = time.monotonic() + GROUP_WAIT_S
    for group in groups:
        if not group.wait(max(1.0, expires - time.monotonic())):
            raise UsageError(
                f"the cluster has no room for {spec.replicas} replicas of the engine with "
                f"{len(spec.bundles)} workers each ({spec.bundles[0]}) within {GROUP_WAIT_S:g} s; "
                f"it has {ray.cluster_resources()}: lower engine.replicas or engine.bundles"
            )


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, EngineError) and not isinstance(error, EngineRequestError)


def _look_at(task: "asyncio.Task[Capabilities]") -> None:
    """What went wrong is told to the next call, which tries the replica again."""
    if not task.cancelled():
        task.exception()


def _episode_of(request_id: str) -> str:
    """`episode` of `episode/step/turn`."""
    parts = request_id.rsplit("/", 2)
    return parts[0]
