"""Where a run's engines live: in each worker, or once, in an actor that all workers share."""

from collections.abc import Mapping

import msgspec
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from automem.engine.protocol import Engine
from automem.errors import AutoMemError, UsageError
from automem.rollout.spec import EngineSpec, RolloutSpec


def build_engine(spec: EngineSpec) -> Engine:
    """An engine in this process, from its spec. UsageError where its arguments are wrong."""
    try:
        engine: Engine = instantiate(spec.target, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, AutoMemError):
            raise error.__cause__ from error
        raise UsageError(f"engine {spec.target.get('_target_')}: {error}") from error
    return engine


async def build_own_engines(spec: RolloutSpec) -> dict[str, Engine]:
    """The engines that every worker builds for itself, adapters loaded."""
    engines: dict[str, Engine] = {}
    for name, part in spec.engines.items():
        if part.placement == "worker":
            engines[name] = build_engine(part)
            for adapter, path in part.adapters.items():
                await engines[name].load_adapter(adapter, path)
    return engines


def shared_specs(spec: RolloutSpec) -> dict[str, EngineSpec]:
    """The engines that get an actor of their own."""
    return {name: part for name, part in spec.engines.items() if part.placement == "actor"}


def all_local(spec: RolloutSpec) -> RolloutSpec:
    """The same rollout with every engine in the worker: what a run without Ray does."""
    engines = {
        name: msgspec.structs.replace(part, placement="worker")
        for name, part in spec.engines.items()
    }
    return msgspec.structs.replace(spec, engines=engines)


def start_shared_engines(spec: RolloutSpec) -> dict[str, Engine]:
    """An actor for each engine that is shared; handles that workers can be given. Ray is up."""
    shared = shared_specs(spec)
    if not shared:
        return {}
    from automem.engine.actor import start_engine

    return {name: start_engine(part) for name, part in shared.items()}


def close_shared_engines(engines: Mapping[str, Engine]) -> None:
    """End the actors."""
    for engine in engines.values():
        engine.shutdown()
