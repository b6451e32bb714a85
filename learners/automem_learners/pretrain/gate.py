"""The gate of a base model: in play, it must be as good as its teacher, no better and no worse.

A base that plays worse than the player it was cloned from flatters everything that is later gained
on it. So base and teacher play the same decks through the same session, the base in both roles at
temperature 1, and the 90 % interval of the mean paired difference must lie within the margin.
Playing a deck several times narrows the interval (a deck's mean is the unit); it never counts as
more decks. And the greedy base must play worse than the sampled one: where the likeliest behaviour
is good already, there is no skill to learn. Beside it stands how often each habit of the teacher is
met in what either of them says.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from automem.agent.prompt_view import read_prompt
from automem.agent.roles import RoleBinding, Roles
from automem.agent.scaffold import Scaffold
from automem.engine.protocol import Capabilities, Completion, Engine, GenerateRequest, Sampling
from automem.engine.render import ChatRenderer
from automem.engine.scripted import ScriptedEngine
from automem.engine.transformers import TransformersEngine
from automem.seeds import seeds_from
from automem.trace.events import Routine
from automem.trace.statistics import Estimate, bootstrap_interval, estimate, paired_difference
from automem.world import World
from automem_learners.pretrain.corpus import Teacher
from automem_learners.pretrain.play import Game, Played, play_all

CONTEXT = 1024
"""Tokens: several times what the scaffold's prompts take."""


class GatePlan(msgspec.Struct, frozen=True):
    """How a model is judged."""

    games: int = 200
    """Decks, of the seed range `calibrate`."""
    replicates: int = 2
    """Times that each deck is played by each player."""
    greedy_games: int = 64
    margin: float = 0.03
    level: float = 0.90
    concurrency: int = 64
    threads: int = 2
    """Of the engine."""
    max_tokens: int = 48


class PlayerScore(msgspec.Struct, frozen=True):
    """One player's games."""

    name: str
    progression: Estimate
    """Over decks, each deck's replicates averaged."""
    illegal: float
    """Share of flips that were not legal."""
    fallbacks: float
    """Share of steps at which no action was committed."""
    habits: dict[str, float]
    """`kind:habit` to its share among the turns of that kind; `other` is what the teacher never
    says there."""
    calls_per_step: float


class Verdict(msgspec.Struct, frozen=True):
    """The gate's decision and what it rests on."""

    passed: bool
    base: PlayerScore
    teacher: PlayerScore
    greedy: PlayerScore
    difference: Estimate
    """Of base - teacher, paired by deck."""
    interval: tuple[float, float]
    """At the plan's level."""
    plan: GatePlan


class HabitCounter:
    """An engine that passes calls on and counts which of the teacher's habits the answers are."""

    def __init__(self, inner: Engine, teacher: Teacher) -> None:
        self._inner = inner
        self._teacher = teacher
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.calls = 0

    async def capabilities(self) -> Capabilities:
        """Those of the engine behind."""
        return await self._inner.capabilities()

    async def generate(self, request: GenerateRequest) -> Completion:
        """The answer of the engine behind, counted."""
        completion = await self._inner.generate(request)
        self.calls += 1
        view = read_prompt(request.messages)
        kind = "log" if view.routine is Routine.LOG else "commit" if view.wants_commit else "plan"
        if view.turns or view.results:
            kind += "_next"
        choices = self._teacher.options(request)
        habit = next((c.habit for c in choices if c.text == completion.text), "other")
        self.counts[kind][habit] += 1
        return completion

    async def score(self, token_ids: Sequence[int], adapter: str | None = None) -> list[float]:
        """As the engine behind."""
        return await self._inner.score(token_ids, adapter)

    async def load_adapter(self, name: str, path: str) -> None:
        """As the engine behind."""
        await self._inner.load_adapter(name, path)

    async def close(self) -> None:
        """Close the engine behind."""
        await self._inner.close()

    def shares(self) -> dict[str, float]:
        """See `PlayerScore.habits`."""
        return {
            f"{kind}:{habit}": round(count / sum(counts.values()), 4)
            for kind, counts in sorted(self.counts.items())
            for habit, count in sorted(counts.items())
        }


class Table:
    """Where the players of one comparison meet: the same world, scaffold and decks."""

    def __init__(
        self, make_world: Callable[..., World], teacher: Teacher, scaffold: Scaffold, plan: GatePlan
    ) -> None:
        self._make_world = make_world
        self._teacher = teacher
        self._scaffold = scaffold
        self._plan = plan

    def judge(self, model: Path, on_played: Callable[[str, Played], None]) -> Verdict:
        """Whether the model in a folder passes."""
        return asyncio.run(self._judge(model, on_played))

    async def _judge(self, model: Path, on_played: Callable[[str, Played], None]) -> Verdict:
        plan = self._plan
        engine = TransformersEngine(
            str(model),
            max_batch=plan.concurrency,
            context_tokens=CONTEXT,
            threads=plan.threads,
        )
        try:
            base, base_decks = await self.score("base", engine, model, 1.0, on_played)
            greedy, _ = await self.score("greedy", engine, model, 0.0, on_played)
        finally:
            await engine.close()
        script = ScriptedEngine(self._teacher)
        teacher, teacher_decks = await self.score("teacher", script, model, 1.0, on_played)
        difference = paired_difference(base_decks, teacher_decks)
        gaps = [one - other for one, other in zip(base_decks, teacher_decks, strict=True)]
        low, high = bootstrap_interval(gaps, level=plan.level)
        is_alike = -plan.margin <= low and high <= plan.margin
        # A base whose likeliest behaviour plays well leaves no skill to be learned.
        is_sloppy = (greedy.progression.mean or 0.0) < (base.progression.mean or 0.0)
        passed = is_alike and is_sloppy
        return Verdict(passed, base, teacher, greedy, difference, (low, high), plan)

    async def score(
        self,
        name: str,
        engine: Engine,
        model: Path,
        temperature: float,
        on_played: Callable[[str, Played], None],
    ) -> tuple[PlayerScore, list[float]]:
        """One player at the table; its score, and each deck's mean progression."""
        plan = self._plan
        counter = HabitCounter(engine, self._teacher)
        renderer = ChatRenderer(str(model))
        binding = RoleBinding(
            engine=counter,
            counter=renderer,
            renderer=renderer if (await engine.capabilities()).token_ids else None,
            sampling=Sampling(temperature=temperature, max_tokens=plan.max_tokens),
            context_tokens=CONTEXT,
        )
        is_greedy = temperature == 0
        # Greedy play repeats itself exactly: one replicate tells all.
        games = [
            Game(self._make_world(), seed, replicate, self._scaffold, Roles(binding, binding))
            for seed in seeds_from("calibrate", plan.greedy_games if is_greedy else plan.games)
            for replicate in range(1 if is_greedy else plan.replicates)
        ]
        played = await play_all(games, plan.concurrency, lambda one: on_played(name, one))
        by_deck: dict[int, list[float]] = defaultdict(list)
        for one in played:
            by_deck[one.seed].append(one.progression)
        decks = [sum(values) / len(values) for _, values in sorted(by_deck.items())]
        steps = sum(one.steps for one in played)
        score = PlayerScore(
            name=name,
            progression=estimate(decks),
            illegal=sum(one.invalid for one in played) / steps,
            fallbacks=sum(one.fallbacks for one in played) / steps,
            habits=counter.shares(),
            calls_per_step=counter.calls / steps,
        )
        return score, decks
