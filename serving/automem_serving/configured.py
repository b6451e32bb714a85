"""From the composed configuration to plain data. The last place that sees a `DictConfig`."""

from pathlib import Path
from typing import Any

import msgspec
from omegaconf import DictConfig, OmegaConf

from automem.agent.gating.keeper import with_gate
from automem.agent.roles import AgentOptions
from automem.config import compose, groups, scaffold_path
from automem.errors import UsageError, WorldError
from automem.loops.knowledge_file import with_knowledge
from automem.rollout.guarded_world import GuardedWorld, WorldClock
from automem.rollout.spec import EngineSpec, WorldSpec
from automem.suggest import no_such
from automem_serving.settings import ServedSpec, Settings, WorldText


def served_spec(config: DictConfig, config_dir: Path | str | None = None) -> ServedSpec:
    """Everything that a server is built from; UsageError where it may not be served so."""
    tree: dict[str, Any] = _plain(config)
    engine = tree["engine"]
    known = EngineSpec.__struct_fields__
    tree["agent"] = with_knowledge(with_gate(tree["agent"]))
    _convert(tree["agent"], AgentOptions, "agent")
    if not tree["scaffolds"]:
        raise UsageError("scaffolds is empty: name one at least, as in scaffolds=[embedded]")
    return ServedSpec(
        settings=settings_from(config),
        engine=_convert({k: v for k, v in engine.items() if k in known}, EngineSpec, "engine"),
        sampling=engine.get("sampling") or {},
        agent=tree["agent"],
        scaffolds={name: str(scaffold_path(name, config_dir)) for name in tree["scaffolds"]},
        worlds={name: world_text(name, config_dir) for name in tree["worlds"]},
    )


def settings_from(config: DictConfig) -> Settings:
    """The part `serving`, checked. Its folders are absolute from here on: replicas work elsewhere,
    where a relative one would be another."""
    settings: Settings = _convert(_plain(config.serving), Settings, "serving")
    folders = {name: _absolute(getattr(settings, name)) for name in ("dir", "registry")}
    return msgspec.structs.replace(settings, **folders).check()


def _absolute(folder: str) -> str:
    return str(Path(folder).expanduser().resolve())


def world_text(name: str, config_dir: Path | str | None = None) -> WorldText:
    """What a world of `conf/env/` says of itself; it is built once for that."""
    known = groups(config_dir)["env"]
    if name not in known:
        raise UsageError(no_such("world", name, known))
    tree: dict[str, Any] = _plain(compose(f"env/{name}", (), config_dir))["env"]
    try:
        world = GuardedWorld(WorldSpec(name=tree["name"], target=tree["world"]), WorldClock())
    except WorldError as error:
        raise UsageError(
            f"world {name!r} cannot be told about ({error}): leave it out of `worlds`"
        ) from error
    text = WorldText(world.instruction, world.fallback_action, world.max_steps)
    world.close()
    return text


def _convert(value: Any, kind: Any, where: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {error}") from error


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True)
