"""Where a run's engines live: in each worker, or once, in an actor that all workers share."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from automem.engine.build import build_engine
from automem.engine.protocol import Engine
from automem.rollout.spec import RolloutSpec

if TYPE_CHECKING:  # the actor's module imports Ray, which a run without Ray does not need
    from automem.engine.actor import RemoteEngine


async def build_own_engines(spec: RolloutSpec) -> dict[str, Engine]:
    """The engines that every worker builds for itself, adapters loaded."""
    engines: dict[str, Engine] = {}
    for name, part in spec.engines.items():
        if part.placement == "worker":
            engines[name] = build_engine(part.target)
            for adapter, path in part.adapters.items():
                await engines[name].load_adapter(adapter, path)
    return engines


def start_shared_engines(spec: RolloutSpec) -> dict[str, "RemoteEngine"]:
    """An actor for each engine that is shared; handles that workers can be given. Ray is up."""
    shared = {name: part for name, part in spec.engines.items() if part.placement == "actor"}
    if not shared:
        return {}
    from automem.engine.actor import start_engine

    return {name: start_engine(part) for name, part in shared.items()}


def close_shared_engines(engines: Mapping[str, "RemoteEngine"]) -> None:
    """End the actors."""
    for engine in engines.values():
        engine.shutdown()


def all_local(spec: RolloutSpec) -> RolloutSpec:
    """The same rollout with every engine in the worker: what a run without Ray does."""
    engines = {
        name: msgspec.structs.replace(part, placement="worker")
        for name, part in spec.engines.items()
    }
    return msgspec.structs.replace(spec, engines=engines)
