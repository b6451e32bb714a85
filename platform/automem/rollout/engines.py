"""Where a run's engines live: in each worker, or once, in an actor that all workers share."""

import asyncio
import threading
from typing import TYPE_CHECKING

import msgspec

from automem.engine.build import build_engine
from automem.engine.protocol import Engine
from automem.rollout.spec import RolloutSpec
from automem.storage.store import local_copy

if TYPE_CHECKING:  # the actor's module imports Ray, which a run without Ray does not need
    from automem.engine.actor import RemoteEngine
    from automem.engine.replicas import ReplicatedEngine


async def build_own_engines(spec: RolloutSpec) -> dict[str, Engine]:
    """The engines that every worker builds for itself, adapters loaded."""
    engines: dict[str, Engine] = {}
    for name, part in spec.engines.items():
        if part.placement == "worker":
            engines[name] = build_engine(part.target)
            for adapter, path in part.adapters.items():
                if "://" in path:
                    path = str(await asyncio.to_thread(local_copy, path))
                await engines[name].load_adapter(adapter, path)
    return engines


class SharedEngines:
    """Engine actors that outlive a rollout: whoever plays again with the same engine, whatever its
    adapters, gets the same actor, its base model loaded once. Ray is up as long as it is open."""

    def __init__(self) -> None:
        self._actors: dict[bytes, RemoteEngine | ReplicatedEngine] = {}
        self._one_at_a_time = threading.Lock()
        """Loops play in two threads, and no engine is to be started twice."""

    def lend(self, spec: RolloutSpec) -> dict[str, "RemoteEngine | ReplicatedEngine"]:
        """The engines of `spec` that are shared, by name, started where they are not up; workers
        can be given them."""
        from automem.engine.replicas import start_replicas

        lent = {}
        for name, part in spec.engines.items():
            if part.placement != "actor":
                continue
            bare = msgspec.structs.replace(part, adapters={})
            key = msgspec.json.encode(bare, order="sorted")
            with self._one_at_a_time:
                if key not in self._actors:
                    self._actors[key] = start_replicas(bare)
            lent[name] = self._actors[key].with_adapters(part.adapters)
        return lent

    def close(self) -> None:
        """End the actors."""
        for engine in self._actors.values():
            engine.shutdown()
        self._actors.clear()

    def __enter__(self) -> "SharedEngines":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def all_local(spec: RolloutSpec) -> RolloutSpec:
    """The same rollout with every engine in the worker: what a run without Ray does."""
    engines = {
        name: msgspec.structs.replace(part, placement="worker")
        for name, part in spec.engines.items()
    }
    return msgspec.structs.replace(spec, engines=engines)
