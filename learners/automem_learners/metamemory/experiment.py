"""`automem metamemory`: recorded traces, gates trained from them and in play, one table.

Promise: calling `run` again with the same folder and settings goes on where it was stopped: runs
are rollouts, trainings have checkpoints. Recordings and training take seeds of the range `train`,
the table those of `report`. Ray must be up.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from automem.errors import UsageError
from automem.loops.begun import check_begun
from automem.loops.stage import deciding
from automem.rollout.engines import SharedEngines
from automem.rollout.spec import RolloutSpec
from automem.seeds import SeedRange, derive, seeds_from
from automem_learners.metamemory.arms import Played, play_arm
from automem_learners.metamemory.results import ArmRow, Results, row, verdict
from automem_learners.metamemory.traces import GateTrace, Price, mean_tokens, shares
from automem_learners.metamemory.training import Recipe, Trained, reached, train_gate

ALWAYS = "always"
STATUS_S = 60.0
_DECISIVE = ("training_seeds", "price", "margin", "goal", "games", "offline", "recipe")
"""Of a plan: what a folder is gone on with unchanged. Prices and controls may be added."""
SEEDS_EACH = 100_000
"""Of the range `train`, for each training; recordings have the first so many."""


class Offline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is recorded before training."""

    episodes: int
    """Under each rule."""
    rules: dict[str, dict[str, Any]]
    """Name to the agent's options; one must be `always`, whose tokens are the price's unit."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides the experiment."""

    training_seeds: tuple[int, ...]
    price: float
    """Of the gates that are judged."""
    curve: tuple[float, ...]
    """Further prices, trained with the first training seed alone."""
    margin: float
    goal: float
    games: int
    """Decks per training seed."""
    controls: dict[str, dict[str, Any]]
    """Name to the agent's options; `always` and `random` at the learned rate are added."""
    offline: Offline
    recipe: Recipe
    parallel: int
    """Trainings at the same time, each a Ray task; 1: one after the other, in this process."""

    def __post_init__(self) -> None:
        if not self.training_seeds or len(set(self.training_seeds)) < len(self.training_seeds):
            raise UsageError("training_seeds must name at least one seed, and each of them once")
        if ALWAYS not in self.offline.rules or not self.offline.episodes:
            raise UsageError("offline.rules needs `always`, and offline.episodes at least 1")
        if self.price in self.curve or min((self.price, *self.curve)) < 0:
            raise UsageError("price and curve must be different prices of at least 0")
        if self.margin <= 0 or self.games < 1 or self.parallel < 1:
            raise UsageError("margin must be above 0, games and parallel at least 1")
        if self.recipe.iterations * self.recipe.episodes > SEEDS_EACH:
            raise UsageError(f"a training may play {SEEDS_EACH} episodes, the recipe asks for more")


class Experiment:
    """See the module's docstring."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        template: RolloutSpec,
        practice: RolloutSpec,
        engines: SharedEngines | None,
        say: Callable[[str], None],
    ) -> None:
        """`template`: who plays the table; `practice`: who plays while gates are trained."""
        self._plan = plan
        self._folder = folder
        self._template, self._practice = template, practice
        self._engines = engines
        self._say = say

    def run(self, policy: str, practice: str) -> Results:
        """Everything that is not done yet; `policy` and `practice` name the players."""
        plan = self._plan
        check_begun(
            self._folder,
            {
                **{name: getattr(plan, name) for name in _DECISIVE},
                "plays": deciding(self._template),
                "practises": deciding(self._practice),
            },
        )
        recorded = self._record()
        trained = self._train(recorded)
        judged = {seed: trained[plan.price, seed] for seed in plan.training_seeds}
        rows = self._judge(judged, [trained[price, plan.training_seeds[0]] for price in plan.curve])
        learned = next(each for each in rows if each.price == plan.price)
        return Results(
            world=self._template.world.name,
            policy=policy,
            margin=plan.margin,
            goal=plan.goal,
            training_seeds=list(plan.training_seeds),
            price=plan.price,
            rows=rows,
            verdict=verdict(learned, plan.margin, plan.goal),
            trained_s={_place(t.price, t.seed): round(t.seconds, 1) for t in trained.values()},
            practice=practice,
        )

    # Traces and training

    def _record(self) -> dict[str, list[GateTrace]]:
        """Gated traces under fixed rules, by rule."""
        plan, found = self._plan, {}
        seeds = seeds_from(SeedRange.TRAIN, plan.offline.episodes)
        for name, agent in plan.offline.rules.items():
            played = play_arm(
                self._practice,
                self._folder / "recorded" / _slug(name),
                agent,
                seeds,
                f"recording: {name}",
                self._engines,
            )
            found[name] = played.traces
            mean = sum(played.progression) / len(seeds)
            self._say(
                f"recorded {name}: {len(seeds)} episodes, progression {mean:.3f}, "
                f"{mean_tokens(played.traces):.0f} tokens a step"
            )
        return found

    def _train(self, recorded: Mapping[str, list[GateTrace]]) -> dict[tuple[float, int], Trained]:
        """Every training by price and seed."""
        plan = self._plan
        jobs = [(plan.price, seed) for seed in plan.training_seeds]
        jobs += [(price, plan.training_seeds[0]) for price in plan.curve]
        calls = {job: self._call(number, *job, recorded) for number, job in enumerate(jobs)}
        if plan.parallel == 1:
            return {job: self._tell(train_gate(*call)) for job, call in calls.items()}
        return self._train_on_ray(calls)

    def _train_on_ray(
        self, calls: Mapping[tuple[float, int], tuple[Any, ...]]
    ) -> dict[tuple[float, int], Trained]:
        """Some at a time. What one raises ends the others too; all go on from checkpoints."""
        import ray

        train = ray.remote(num_cpus=0, max_retries=0)(train_gate)
        waiting = list(calls.items())
        running: dict[Any, tuple[float, int]] = {}
        done: dict[tuple[float, int], Trained] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._plan.parallel:
                    job, call = waiting.pop(0)
                    running[train.remote(*call)] = job
                ready = self._first_of(running, len(done), len(calls))
                job = running.pop(ready)
                try:
                    done[job] = self._tell(ray.get(ready))
                except ray.exceptions.RayTaskError as error:
                    raise error.as_instanceof_cause() from error
        finally:
            for left in running:
                ray.cancel(left, force=True)
        return done

    def _first_of(self, running: Mapping[Any, tuple[float, int]], done: int, total: int) -> Any:
        """The first to end; until then a line a minute on how far all are."""
        import ray

        while True:
            ready, _ = ray.wait(list(running), num_returns=1, timeout=STATUS_S)
            if ready:
                return ready[0]
            each = ", ".join(
                f"{_place(*job)} at {reached(self._folder / 'gates' / _place(*job))}"
                for job in running.values()
            )
            self._say(f"{done} of {total} gates trained; {each} of {self._plan.recipe.iterations}")

    def _call(
        self, number: int, price: float, seed: int, recorded: Mapping[str, list[GateTrace]]
    ) -> tuple[Any, ...]:
        """Arguments of `train_gate`."""
        from automem_learners.metamemory.runner import Sampling

        folder = (self._folder / "gates" / _place(price, seed)).absolute()
        always = recorded[ALWAYS]
        unit = Price(price, mean_tokens(always), max(len(trace.tokens) for trace in always))
        run_seed = derive(self._practice.run_seed, "metamemory", seed) % 2**31
        sampling = Sampling(
            template=msgspec.structs.replace(self._practice, workers=0, run_seed=run_seed),
            folder=str(folder / "samples"),
            episodes=self._plan.recipe.episodes,
            first_seed=(number + 1) * SEEDS_EACH,
            price=unit,
        )
        traces = [trace for each in recorded.values() for trace in each]
        return folder, sampling, self._plan.recipe, seed, traces

    def _tell(self, trained: Trained) -> Trained:
        first, last = trained.history[0], trained.history[-1]
        resumed = f" (went on from iteration {trained.resumed})" if trained.resumed else ""
        if trained.resumed == len(trained.history):
            resumed = " (before)"
        self._say(
            f"trained {_place(trained.price, trained.seed)}: reward {first.reward:+.3f} to "
            f"{last.reward:+.3f}, progression {last.progression:.3f}, "
            f"{last.tokens_per_step:.0f} tokens a step (choices drawn), "
            f"{trained.seconds:.0f} s{resumed}"
        )
        return trained

    # The table

    def _judge(self, judged: Mapping[int, Trained], curve: Sequence[Trained]) -> list[ArmRow]:
        """Every arm's row: always-on first, learned gates, controls."""
        plan = self._plan
        seeds = seeds_from(SeedRange.REPORT, plan.games * len(judged))
        always = self._play(ALWAYS, {"gate": ALWAYS}, seeds)
        rows = [self._row(ALWAYS, [always], always)]
        played = [
            self._play(
                f"learned, seed {seed}",
                {"gate": str(trained.gate.absolute())},
                seeds[number * plan.games : (number + 1) * plan.games],
            )
            for number, (seed, trained) in enumerate(judged.items())
        ]
        learned = self._row(f"learned, price {plan.price:g}", played, always, plan.price)
        rows.append(learned)
        for trained in curve:
            name = f"learned, price {trained.price:g}"
            part = self._play(name, {"gate": str(trained.gate.absolute())}, seeds[: plan.games])
            rows.append(self._row(name, [part], always, trained.price))
        controls = {
            **plan.controls,
            "random at the same rate": {
                "gate": "random",
                "gating": {"log": _whole(learned.log), "consult": _whole(learned.consult)},
            },
        }
        for name, agent in controls.items():
            rows.append(self._row(name, [self._play(name, agent, seeds)], always))
        return rows

    def _play(self, name: str, agent: Mapping[str, Any], seeds: Sequence[int]) -> Played:
        began = time.monotonic()
        folder = self._folder / "table" / _slug(name)
        played = play_arm(self._template, folder, agent, seeds, name, self._engines)
        self._say(
            f"{name}: progression {sum(played.progression) / len(seeds):.3f}, "
            f"{played.tokens_per_step:.0f} tokens a step ({time.monotonic() - began:.0f} s)"
        )
        return played

    def _row(
        self, name: str, parts: Sequence[Played], always: Played, price: float | None = None
    ) -> ArmRow:
        """A row, compared with always-on on the same decks."""
        games = self._plan.games
        values = [value for part in parts for value in part.progression]
        base = always.progression[: len(values)]
        traces = [trace for part in parts for trace in part.traces]
        played = {trace.episode for trace in traces}
        twins = [trace for trace in always.traces if trace.episode in played]
        tokens = sum(part.tokens_per_step for part in parts) / len(parts)
        twin_share = mean_tokens(twins) / mean_tokens(always.traces)
        return row(
            name=name,
            blocks=[values[n : n + games] for n in range(0, len(values), games)],
            base=[base[n : n + games] for n in range(0, len(base), games)],
            tokens=tokens,
            base_tokens=always.tokens_per_step * twin_share,
            margin=self._plan.margin,
            log=shares(traces, 0),
            consult=shares(traces, 1),
            fallbacks=sum(part.fallbacks for part in parts),
            price=price,
        )


def _whole(parts: tuple[float, float, float]) -> list[float]:
    """Shares to four digits that sum to 1."""
    skip, brief = round(parts[0], 4), round(parts[1], 4)
    return [skip, brief, round(max(0.0, 1.0 - skip - brief), 4)]


def _place(price: float, seed: int) -> str:
    return f"price-{price:g}-seed-{seed}"


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() or c == "." else " " for c in name).split())
