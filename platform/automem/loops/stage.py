"""Where a loop's players meet the world: one arm, some seeds, one run directory.

An arm says who answers in the memory role and how; the rest of the run is the loop's template, so
two arms differ in what their definitions say and in nothing else. Promise: every run is a rollout
like any other (durable, resumable, with tables, summary and report); playing an arm again in the
same folder plays on what is missing. Engines are shared by all arms: one base, adapters by name.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from automem.agent.memories import RecallOptions
from automem.agent.roles import AgentOptions
from automem.engine.build import build_engine
from automem.engine.protocol import Sampling
from automem.errors import UsageError
from automem.loops.knowledge_file import with_knowledge
from automem.loops.recipes import Specialist
from automem.progress import RunProgress
from automem.rollout.engines import SharedEngines
from automem.rollout.progress import RunResult
from automem.rollout.run import OnProgress, resume_run, run_rollout
from automem.rollout.run_dir import RUN_FILE, create_run, locked, read_run
from automem.rollout.spec import EngineSpec, EpisodeKey, RolloutSpec
from automem.suggest import no_such
from automem.trace.summary import write_summary

BASE = "base"
"""Name of the engine with the base model, in the template and in every arm."""
_DECISIVE = ("world", "engines", "memory", "gameplay", "episodes", "agent", "run_seed", "max_steps")
"""Fields of a rollout that its traces depend on."""
_PLAYER = "player"
_WHOLE = "specialist"


class Arm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How one kind of player differs from the base in both roles."""

    memory: str = "base"
    """Who keeps memory: `base`, `champion` (after the last round), `round:N` (what that round
    trained), `control:NAME`, or `player`."""
    player: dict[str, Any] | None = None
    """A scripted player by `_target_`, for `memory: player`."""
    plays_alone: bool = False
    """The scripted player answers in both roles."""
    sampling: dict[str, Any] = {}
    """Changes to the sampling of both roles."""
    agent: dict[str, Any] = {}
    """Changes to the agent's options."""

    def __post_init__(self) -> None:
        if (self.memory == _PLAYER) != (self.player is not None):
            raise UsageError("an arm with memory=player needs a player, and no other has one")


def merged(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The agent's options with an arm's changes, key by key: what an arm does not name is the same
    for all arms."""
    found = {**options, **changes}
    for name, value in changes.items():
        before = options.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            found[name] = {**before, **value}
    return found


def read_arm(fields: Mapping[str, Any], name: str) -> Arm:
    """An arm from plain data; UsageError names what is wrong with it."""
    agent = fields.get("agent")
    recall = agent.get("recall") if isinstance(agent, Mapping) else None
    parts = ((name, Arm, fields), (f"{name}.sampling", Sampling, fields.get("sampling")),
             (f"{name}.agent", AgentOptions, agent),
             (f"{name}.agent.recall", RecallOptions, recall))  # fmt: skip
    for part, kind, given in parts:
        for field in given if isinstance(given, Mapping) else ():
            if field not in kind.__struct_fields__:
                raise UsageError(no_such(f"field of {part}", str(field), kind.__struct_fields__))
    try:
        arm = msgspec.convert(dict(fields), Arm)
        msgspec.convert(arm.sampling, Sampling, strict=False)
        msgspec.convert(arm.agent, AgentOptions, strict=False)
        arm = msgspec.structs.replace(arm, agent=with_knowledge(arm.agent))
    except (msgspec.ValidationError, UsageError) as error:
        raise UsageError(f"{name}: {error}") from None
    if arm.player is not None:
        try:
            build_engine(_scripted(arm.player))
        except UsageError as error:
            raise UsageError(f"{name}.player: {error}") from error
    return arm


def _scripted(player: Mapping[str, Any]) -> dict[str, Any]:
    return {"_target_": "automem.engine.scripted.ScriptedEngine", "player": dict(player)}


def differing(planned: RolloutSpec, spec: RolloutSpec) -> list[str]:
    """Fields that traces depend on and in which these differ."""
    return [field for field in _DECISIVE if _decided(planned, field) != _decided(spec, field)]


def deciding(spec: RolloutSpec) -> dict[str, Any]:
    """What a rollout's traces depend on, its episodes left out, as plain data."""
    fields = [field for field in _DECISIVE if field != "episodes"]
    return {field: msgspec.to_builtins(_decided(spec, field)) for field in fields}


def _decided(spec: RolloutSpec, field: str) -> Any:
    """What a field decides: options that came after a run had begun have their defaults in it."""
    value = getattr(spec, field)
    if field == "engines":  # an adapter's name says what it is; its folder may have been moved
        return {
            name: msgspec.structs.replace(part, adapters=dict.fromkeys(part.adapters, ""))
            for name, part in value.items()
        }
    return msgspec.convert(value, AgentOptions, strict=False) if field == "agent" else value


class Played(msgspec.Struct, frozen=True):
    """What an arm reached."""

    run_dir: Path
    progressions: dict[int, float]
    """Seed to progression (mean over its plays); seeds with a pending play are missing."""
    summary: dict[str, Any]
    reason: str = ""
    """Why episodes are pending, where some are."""
    fell_back: bool = False
    """Of a trained arm: the gate had accepted nothing, so the base kept memory."""


class Stage:
    """Plays arms; see the module's docstring."""

    def __init__(
        self,
        template: RolloutSpec,
        engines: SharedEngines | None,
        is_shown: bool = True,
        keep: Callable[[], None] | None = None,
    ) -> None:
        """`engines`: None where the template has no workers, and so no Ray. `keep`: stores the
        loop's folder; called when a run has its name, before its first episode."""
        self._template = template
        self._engines = engines
        self._is_shown = is_shown
        self._keep = keep

    @property
    def world(self) -> str:
        """The world's name."""
        return self._template.world.name

    def play(
        self,
        folder: Path,
        arm: Arm,
        specialist: Specialist | None,
        seeds: Sequence[int],
        title: str,
        on_progress: OnProgress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Played:
        """Play these seeds once each, or what is missing of them; KeyboardInterrupt where a person
        or `should_stop` stops it (nothing is lost). `on_progress`: who shows it, instead of this
        stage."""
        spec = self._spec(arm, specialist, seeds)
        if on_progress is not None or not self._is_shown:
            result = self._run(spec, folder, on_progress, should_stop)
        else:
            with RunProgress(title) as display:
                result = self._run(spec, folder, display.update, should_stop)
        if result.interrupted:
            raise KeyboardInterrupt
        reached: dict[int, list[float]] = {}
        for key, episode in zip(spec.episodes, result.episodes, strict=True):
            if episode in result.finished:
                reached.setdefault(key.seed, []).append(episode.progression)
        reasons = sorted({episode.reason for episode in result.pending if episode.reason})
        return Played(
            run_dir=folder,
            progressions={seed: sum(found) / len(found) for seed, found in reached.items()},
            summary=write_summary(folder),
            reason="; ".join(reasons[:3]),
        )

    def _run(
        self,
        spec: RolloutSpec,
        folder: Path,
        on_progress: OnProgress | None,
        should_stop: Callable[[], bool] | None,
    ) -> RunResult:
        if self._keep is not None and not (folder / RUN_FILE).exists():
            with locked(folder):
                create_run(folder, spec)
            self._keep()
        if not (folder / RUN_FILE).exists():
            return run_rollout(spec, folder, on_progress, self._engines, should_stop)
        planned = read_run(folder).spec
        if fields := differing(planned, spec):
            raise UsageError(
                f"{folder} was begun with other settings ({', '.join(fields)}; its run.json says "
                "which): continue the loop as it was begun, or begin another in a new run.dir"
            )
        return resume_run(folder, on_progress, engines=self._engines, should_stop=should_stop)

    def _spec(self, arm: Arm, specialist: Specialist | None, seeds: Sequence[int]) -> RolloutSpec:
        template = self._template
        engines = {BASE: template.engines[BASE]}
        sampling = {**template.gameplay.sampling, **arm.sampling}
        gameplay = msgspec.structs.replace(template.gameplay, sampling=sampling)
        memory = gameplay
        if arm.player is not None:
            engines[_PLAYER] = EngineSpec(target=_scripted(arm.player), placement="worker")
            memory = msgspec.structs.replace(gameplay, engine=_PLAYER)
            if arm.plays_alone:
                engines, gameplay = {_PLAYER: engines[_PLAYER]}, memory
        elif specialist is not None and specialist.is_adapter:
            adapters = {specialist.name: specialist.path}
            engines[BASE] = msgspec.structs.replace(engines[BASE], adapters=adapters)
            memory = msgspec.structs.replace(gameplay, adapter=specialist.name)
        elif specialist is not None:
            target = {**engines[BASE].target, "model": specialist.path}
            engines[_WHOLE] = msgspec.structs.replace(engines[BASE], target=target)
            memory = msgspec.structs.replace(gameplay, engine=_WHOLE)
        return msgspec.structs.replace(
            template,
            engines=engines,
            memory=memory,
            gameplay=gameplay,
            agent=merged(template.agent, arm.agent),
            episodes=tuple(EpisodeKey(seed=seed) for seed in seeds),
        )
