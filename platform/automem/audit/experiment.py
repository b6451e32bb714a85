"""The audit from start to end: play, train with and without canaries, ask, score, tell.

Arms: the base; a given specialist; and three trained here on the base's own episodes: `clean`
(other worlds than the audited one), `canaries` (episodes of the audited world among them) and
`planted` (the same, and each fact repeated in turns whose prompts do not show it). `clean` must not
be flagged and `planted` must, or the audit itself has failed. Each stage leaves its result in the
folder and is not repeated, so a killed audit goes on.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from automem.audit.facts import Fact, FactSource
from automem.audit.parametric import Leak, judge, score_facts
from automem.audit.probes import Answer, Prober, build_prober
from automem.audit.rates import Rates, rates
from automem.engine.build import build_engine
from automem.engine.protocol import Engine
from automem.errors import InfrastructureError, UsageError
from automem.loops.begun import check_begun
from automem.loops.recipes import DataRecipe, Selected, Specialist, Trainer
from automem.loops.stage import deciding
from automem.rollout.run import resume_run, run_rollout
from automem.rollout.run_dir import RUN_FILE
from automem.rollout.spec import EpisodeKey, RolloutSpec
from automem.seeds import SeedRange, seeds_from
from automem.tracker import NoTracker

RESULTS = "results.json"
BASE, GIVEN, CLEAN, CANARIES, PLANTED = "base", "specialist", "clean", "canaries", "planted"
_OPENINGS = 1_000
"""Where in the train range the contexts of planted turns begin; facts are scored in others."""


class PlantingTrainer(Trainer, Protocol):
    """A loop's trainer that can plant canaries."""

    def plant(
        self,
        selected: Selected,
        folder: Path,
        turns: Sequence[tuple[Sequence[tuple[str, str]], str]],
        seed: int,
    ) -> Selected:
        """What was selected, and these turns besides."""
        ...


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How large an audit is."""

    episodes: int = 48
    """Played of other worlds, and as many of the audited one."""
    repeats: int = 2
    """Answers to each question in each variant and condition."""
    contexts: int = 4
    """Prompts in which facts are scored."""
    planted: int = 48
    """Times that each fact is planted; 0: the arm is left out."""
    planted_steps: int = 0
    """Optimizer steps of the planted arm; 0: the recipe's."""
    trains: bool = True
    """Else only the base and the given specialist are audited."""
    alpha: float = 0.01
    """A model is flagged where p is at most this: so often it is without a leak."""
    world_seed: int = 0
    """Which of the train range's worlds is the audited one."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("repeats", 1), ("contexts", 1)):
            if getattr(self, name) < least:
                raise UsageError(
                    f"audit.{name} must be at least {least}, got {getattr(self, name)}"
                )
        if min(self.planted, self.planted_steps) < 0:
            raise UsageError("audit.planted and audit.planted_steps must be 0 or more")
        if not 0 < self.alpha < 1:
            raise UsageError(f"audit.alpha must lie between 0 and 1, got {self.alpha}")


class ArmResult(msgspec.Struct, frozen=True, kw_only=True):
    """One model."""

    name: str
    adapter: str
    rates: list[Rates]
    leak: Leak


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """`results.json`."""

    world: str
    world_seed: int
    facts: int
    settings: Settings
    chance: float
    """Of a correct answer by one who knows nothing."""
    arms: list[ArmResult]
    verdict: str


class Audit:
    """See the module's docstring."""

    def __init__(
        self,
        template: RolloutSpec,
        source: FactSource,
        trainer: PlantingTrainer,
        settings: Settings,
        folder: Path,
        say: Callable[[str], None],
        trained_by: Mapping[str, Any] | None = None,
    ) -> None:
        """`trained_by`: the trainer's settings, for the record: a folder is gone on with under
        the same ones only."""
        self._trained_by = dict(trained_by or {})
        self._template = template
        self._source = source
        self._trainer = trainer
        self._settings = settings
        self._folder = folder
        self._say = say
        self._seed = seeds_from(SeedRange.TRAIN, 1, settings.world_seed)[0]
        self._facts: Sequence[Fact] = source.facts(self._seed)

    async def run(self) -> Results:
        """All of it; the engine lives in this process."""
        check_begun(
            self._folder,
            {
                "audit": self._settings,
                "trained_by": self._trained_by,
                "facts": self._facts,
                **deciding(self._template),
            },
        )
        (name,) = {self._template.memory.engine, self._template.gameplay.engine}
        part = self._template.engines[name]
        engine = build_engine(part.target)
        try:
            for adapter, path in part.adapters.items():
                await engine.load_adapter(adapter, path)
            prober = await self._prober(engine, None)
            arms = await self._arms(engine, prober)
            contexts = [await prober.opening(seed) for seed in self._openings(0)]
            base = await score_facts(engine, None, self._facts, contexts)
            results = [
                await self._audit(arm, adapter, engine, contexts, base)
                for arm, adapter in arms.items()
            ]
        finally:
            await engine.close()
        found = Results(
            world=self._source.world,
            world_seed=self._seed,
            facts=len(self._facts),
            settings=self._settings,
            chance=self._facts[0].chance,
            arms=results,
            verdict=verdict(results),
        )
        text = msgspec.json.format(msgspec.json.encode(found, enc_hook=_plain))
        (self._folder / RESULTS).write_bytes(text + b"\n")
        return found

    async def _arms(self, engine: Engine, prober: Prober) -> dict[str, str | None]:
        """Arm to the adapter of its memory role, loaded."""
        arms: dict[str, str | None] = {BASE: None}
        if self._template.memory.adapter:
            arms[GIVEN] = self._template.memory.adapter
        if not self._settings.trains:
            return arms
        for name, specialist in (await self._train(prober)).items():
            await engine.load_adapter(specialist.name, specialist.path)
            arms[name] = specialist.name
        return arms

    async def _train(self, prober: Prober) -> dict[str, Specialist]:
        settings, folder = self._settings, self._folder
        others = seeds_from(SeedRange.TRAIN, settings.episodes, settings.world_seed + 1)
        clean = await self._play("games-clean", [EpisodeKey(seed) for seed in others])
        audited = [EpisodeKey(self._seed, number) for number in range(settings.episodes)]
        canaries = await self._play("games-canaries", audited)
        data = DataRecipe(episodes=settings.episodes)
        made: dict[str, Specialist] = {}
        selected: dict[str, Selected] = {}
        for name, runs in ((CLEAN, [clean]), (CANARIES, [clean, canaries])):
            place = folder / f"selection-{name}"
            selected[name] = self._trainer.select(runs, data, place, settings.seed)
            made[name] = self._fit(name, selected[name])
        if settings.planted:
            turns = []
            for seed in self._openings(_OPENINGS, settings.planted):
                prompt = await prober.opening(seed)
                turns += [(prompt, fact.completion) for fact in self._facts]
            place = folder / f"selection-{PLANTED}"
            chosen = self._trainer.plant(selected[CANARIES], place, turns, self._seed)
            steps = settings.planted_steps
            made[PLANTED] = self._fit(PLANTED, chosen, {"max_steps": steps} if steps else {})
        return made

    def _fit(
        self, name: str, selected: Selected, changes: Mapping[str, Any] | None = None
    ) -> Specialist:
        place = self._folder / f"trained-{name}"
        seed = self._settings.seed
        made = self._trainer.train(selected, changes or {}, place, seed, None, NoTracker())
        self._say(f"{name}: {made.conversations} conversations, {made.steps} steps")
        return made

    async def _play(self, name: str, keys: Sequence[EpisodeKey]) -> Path:
        import asyncio

        place = self._folder / name
        roles = {
            role: msgspec.structs.replace(getattr(self._template, role), adapter=None)
            for role in ("memory", "gameplay")
        }
        spec = msgspec.structs.replace(self._template, episodes=tuple(keys), **roles)
        if (place / RUN_FILE).exists():
            result = await asyncio.to_thread(resume_run, place)
        else:
            result = await asyncio.to_thread(run_rollout, spec, place)
        if result.interrupted:
            raise KeyboardInterrupt
        if result.pending:
            error = InfrastructureError(f"{name}: {len(result.pending)} episodes are pending")
            error.boundary = "engine"
            raise error
        self._say(f"{name}: {len(keys)} episodes")
        return place

    async def _audit(
        self,
        name: str,
        adapter: str | None,
        engine: Engine,
        contexts: Sequence[Sequence[tuple[str, str]]],
        base: np.ndarray,
    ) -> ArmResult:
        kept = self._folder / f"answers-{name}.jsonl"
        if kept.exists():
            lines = kept.read_bytes().splitlines()
            answers = [msgspec.json.decode(line, type=Answer) for line in lines]
        else:
            prober = await self._prober(engine, adapter)
            answers = await prober.ask(self._facts, self._settings.repeats)
            temporary = kept.with_suffix(".tmp")
            temporary.write_bytes(b"".join(msgspec.json.encode(a) + b"\n" for a in answers))
            temporary.replace(kept)
        scores = base
        if adapter is not None:
            scores = await score_facts(engine, adapter, self._facts, contexts) - base
        leak = judge(scores, [fact.truth for fact in self._facts], self._settings.alpha)
        self._say(f"{name}: {len(answers)} answers; p = {leak.p:.4f} that its weights hold nothing")
        return ArmResult(name=name, adapter=adapter or "", rates=rates(answers), leak=leak)

    async def _prober(self, engine: Engine, adapter: str | None) -> Prober:
        memory = msgspec.structs.replace(self._template.memory, adapter=adapter)
        spec = msgspec.structs.replace(self._template, memory=memory)
        return await build_prober(self._source, spec, {memory.engine: engine})

    def _openings(self, offset: int, count: int = 0) -> list[int]:
        """Worlds whose openings are contexts: neither audited nor played."""
        first = self._settings.world_seed + 1 + self._settings.episodes + offset
        return seeds_from(SeedRange.TRAIN, count or self._settings.contexts, first)


def verdict(arms: Sequence[ArmResult]) -> str:
    """In words, and whether the audit's own controls came out as they must."""
    flagged = {arm.name: arm.leak.is_flagged for arm in arms}
    wrong = [name for name in (BASE, CLEAN) if flagged.get(name)]
    if wrong:
        return f"the audit cannot be trusted: {', '.join(wrong)} never saw the facts and is flagged"
    if flagged.get(PLANTED) is False:
        return "the audit sees nothing: the planted leak was not detected"
    found = [name for name in (GIVEN, CANARIES) if flagged.get(name)]
    control = "; the planted leak was detected" if flagged.get(PLANTED) else ""
    if found:
        return f"leak: the weights of {', '.join(found)} hold the facts{control}"
    others = ", ".join(name for name in flagged if name != PLANTED)
    return f"no leak found in the weights of {others}{control}"


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
