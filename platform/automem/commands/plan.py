"""From the composed configuration to plain data: the `RolloutSpec` and the run's folder.

The last place that sees a `DictConfig`.
"""

import time
from pathlib import Path
from typing import Any

import msgspec
from omegaconf import DictConfig, OmegaConf

from automem.agent.gating.keeper import with_gate
from automem.config import scaffold_path
from automem.engine.models import find_adapter
from automem.errors import UsageError
from automem.loops.knowledge_file import with_knowledge
from automem.rollout.spec import EngineSpec, EpisodeKey, RoleSpec, RolloutSpec, WorldSpec
from automem.seeds import seeds_from
from automem.storage.store import Store

RUNS = Path("runs")
RANGE_EPISODES = 10
"""Episodes played where a named range of seeds is given without their number."""
ENGINE = "base"
"""Name of the one engine that a rollout from the command line has."""


def spec_from(config: DictConfig, config_dir: Path | str | None = None) -> RolloutSpec:
    """Everything that decides the run; UsageError where the tree does not hold it."""
    for name in ("env", "engine", "rollout", "agent", "run"):
        if name not in config:
            raise UsageError(f"the configuration has no {name}: do without ~{name}")
    env, engine, rollout = (_plain(config[name]) for name in ("env", "engine", "rollout"))
    places = _plain(config.placement) if "placement" in config else {}
    role = RoleSpec(engine=ENGINE, sampling=engine.get("sampling") or {})
    served, memory = _engine({**engine, **(places.get("engine") or {})}), role
    if config.get("specialist"):
        name, folder = find_adapter(config.specialist)
        served = msgspec.structs.replace(served, adapters={**served.adapters, name: folder})
        memory = msgspec.structs.replace(role, adapter=name)
    fields = {
        "world": WorldSpec(name=env["name"], target=env["world"]),
        "engines": {ENGINE: served},
        "memory": memory,
        "gameplay": role,
        "scaffold": str(scaffold_path(config.scaffold, config_dir)),
        "episodes": episode_keys(rollout.pop("seeds"), rollout.pop("episodes"), env["seeds"]),
        "agent": with_knowledge(with_gate(_plain(config.agent))),
        "run_seed": config.run.seed,
        "max_steps": rollout.pop("max_steps") or 0,
        "placement": places.get("rollout") or {},
        "storage_url": storage_url(config),
        **rollout,
        "watchdog": _patient(rollout["watchdog"], engine.get("start_s") or 0.0),
    }
    try:
        return msgspec.convert(fields, RolloutSpec, from_attributes=True)
    except msgspec.ValidationError as error:
        raise UsageError(f"the configuration is no rollout: {error}") from error


def _patient(watchdog: dict[str, Any], start_s: float) -> dict[str, Any]:
    """A worker is not taken for dead while its engine loads a model."""
    return {**watchdog, "start_s": max(watchdog["start_s"], start_s)}


def _engine(engine: dict[str, Any]) -> EngineSpec:
    known = EngineSpec.__struct_fields__
    try:
        return msgspec.convert({k: v for k, v in engine.items() if k in known}, EngineSpec)
    except msgspec.ValidationError as error:
        raise UsageError(f"engine {engine.get('name')!r}: {error}") from error


def storage_url(config: DictConfig) -> str:
    """Where runs are stored, or nothing; UsageError where the place cannot be used."""
    url = str(OmegaConf.select(config, "storage.url") or "")
    if url and "://" not in url:  # the run may be gone on with from another folder
        url = str(Path(url).expanduser().resolve())
    return Store(url).url if url else ""


def episode_keys(
    seeds: list[int] | str | None, episodes: int | None, own: list[int]
) -> tuple[EpisodeKey, ...]:
    """Which seeds are played, and how often: a named range gives `episodes` of its seeds, a list
    is played in turn until there are so many."""
    if isinstance(seeds, str):
        chosen = seeds_from(seeds, episodes or RANGE_EPISODES)
    else:
        chosen = seeds or own
    if len(set(chosen)) < len(chosen):
        raise UsageError("a seed is named twice: to play seeds again, raise rollout.episodes")
    return tuple(
        EpisodeKey(seed=chosen[number % len(chosen)], replicate=number // len(chosen))
        for number in range(episodes or len(chosen))
    )


def new_run_dir(config: DictConfig, base: Path = RUNS) -> Path:
    """The folder that the run writes to: as asked for, or a new one under `base`."""
    if config.run.dir:
        return Path(config.run.dir).expanduser().resolve()
    return fresh_dir(base, f"{config.env.name}-{config.engine.name}")


def fresh_dir(base: Path, name: str) -> Path:
    """A new folder `base/<time>-<name>`, made here so that two runs never share one."""
    base.mkdir(parents=True, exist_ok=True)
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    for number in range(1, 1000):
        path = base / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path.resolve()
    raise UsageError(f"{base} has a thousand runs named {stem}; choose run.dir=PATH")


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True)
