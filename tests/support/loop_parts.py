"""Parts of a proficiency loop for tests: real rollouts of small decks, trainings that take no time.

A training's `skill` is the specialist that it gives (`support.skilled_engine`), so a recipe says
beforehand how good its contender will be."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from support.skilled_engine import SKILLS, TARGET

from automem.config import scaffold_path
from automem.errors import UsageError
from automem.loops.collection import Collection
from automem.loops.deciders import Decider, FixedDecider
from automem.loops.gate import Rule
from automem.loops.ledger import Ledger
from automem.loops.proficiency import Loop, Settings
from automem.loops.recipes import DataRecipe, Recipe, Selected, Specialist, Weighed
from automem.loops.seedbook import SeedBook
from automem.loops.stage import Arm, Played, Stage
from automem.rollout.progress import Progress
from automem.rollout.spec import Deadlines, EngineSpec, EpisodeKey, RoleSpec, RolloutSpec, WorldSpec
from automem.suggest import no_such
from automem.tracker import Tracker

RULE = Rule(confirmations=4, alpha=0.9, pairs=8, race=(4,), flips=999)
"""Lenient: few games tell a perfect player from a sloppy one."""


def small_template(outage: Path | None = None) -> RolloutSpec:
    """Eight cards, twelve flips, no Ray."""
    world = {"_target_": "automem_envs.concentration.ConcentrationWorld", "cards": 8}
    engine = {"_target_": TARGET, "model": "base", "outage": str(outage or "")}
    return RolloutSpec(
        world=WorldSpec("concentration", {**world, "max_steps": 12}),
        engines={"base": EngineSpec(engine, placement="worker")},
        memory=RoleSpec("base"),
        gameplay=RoleSpec("base"),
        scaffold=str(scaffold_path("embedded")),
        episodes=(EpisodeKey(0),),
        workers=0,
        deadlines=Deadlines(patience_s=0.01),
    )


def small_stage(outage: Path | None = None) -> Stage:
    """A stage of that game."""
    return Stage(small_template(outage), None, is_shown=False)


def specialist(skill: str, name: str = "", steps: int = 7) -> Specialist:
    """One that plays with this skill."""
    return Specialist(
        name=name or skill, path=skill, is_adapter=False, steps=steps, conversations=3,
        last_loss=0.5, tokens_per_s=100.0, seconds=1.0,
    )  # fmt: skip


def recipe(*skills: str, episodes: int = 1, **data: Any) -> dict[str, Any]:
    """A recipe whose trainings give these skills."""
    data = {"episodes": episodes, **data}
    return {"data": data, "trainings": [{"skill": skill} for skill in skills or ("good",)]}


class SkillTrainer:
    """A trainer that makes what a training's `skill` says; keeps what it was asked."""

    def __init__(self, turns: int = 5) -> None:
        self.turns = turns
        self.selections: list[tuple[list[Path], DataRecipe, Path, int]] = []
        self.trainings: list[tuple[Selected, dict[str, Any], Path, int, Specialist | None]] = []
        self.weighings: list[tuple[dict[str, int], str]] = []

    def check(self, recipe: Recipe, start: Specialist | None = None) -> None:
        for training in recipe.trainings:
            for field in training:
                if field not in ("skill", "steps"):
                    raise UsageError(no_such("field of recipe", field, ["skill", "steps"]))
            if training.get("skill", "good") not in SKILLS:
                raise UsageError(no_such("skill", str(training["skill"]), SKILLS))

    def select(self, runs: Sequence[Path], data: DataRecipe, folder: Path, seed: int) -> Selected:
        assert all((run / "summary.json").is_file() for run in runs)
        self.selections.append((list(runs), data, folder, seed))
        turns = 0 if data.selector == "nothing" else self.turns
        verdict = "as asked" if turns else "the signal is scattered"
        return Selected(folder=str(folder), turns=turns, verdict=verdict, considered=9)

    def weigh(
        self, selected: Selected, lags: Mapping[str, int], champion: Specialist, truncation: float
    ) -> Weighed:
        assert all(Path(run).is_dir() for run in lags)
        self.weighings.append((dict(lags), champion.path))
        return Weighed(len(lags), truncation / 2, 0)

    def train(
        self,
        selected: Selected,
        training: Mapping[str, Any],
        folder: Path,
        seed: int,
        start: Specialist | None,
        tracker: Tracker,
    ) -> Specialist:
        self.trainings.append((selected, dict(training), folder, seed, start))
        tracker.log({"train/loss": 0.5}, step=1)
        steps = training.get("max_steps") or training.get("steps", 7)
        name = f"{folder.parent.name}-{folder.name}"
        return specialist(training.get("skill", "good"), name, steps)


class TableStage(Stage):
    """Games that are not played: a skill's progression, a little different for each seed."""

    REACHED = {"base": 0.3, "good": 0.7, "bad": 0.1}  # noqa: RUF012 - a table

    def __init__(self) -> None:
        super().__init__(small_template(), None, is_shown=False)

    def play(
        self,
        folder: Path,
        arm: Arm,
        specialist: Specialist | None,
        seeds: Sequence[int],
        title: str,
        on_progress: Callable[[Progress], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Played:
        skill = specialist.path if specialist else "base"
        reached = {seed: self.REACHED[skill] + seed % 7 / 100 for seed in seeds}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "summary.json").write_text("{}")
        metrics: dict[str, Any] = {"redundant_writes": {"mean": self.REACHED[skill]}}
        return Played(folder, reached, {"pending": 0, "failed": 0, "metrics": metrics})


def make_loop(
    folder: Path,
    *recipes: Mapping[str, Any],
    stage: Stage | None = None,
    trainer: SkillTrainer | None = None,
    decider: Decider | None = None,
    rule: Rule = RULE,
    seed: int = 0,
    rounds: int | None = None,
    book: SeedBook | None = None,
    say: Callable[[str], None] = lambda line: None,
    collection: Collection = Collection(),  # noqa: B008 - frozen
    tracker: Tracker | None = None,
    keep: Callable[[], None] | None = None,
) -> Loop:
    """A loop of as many rounds as there are recipes."""
    settings = Settings(
        rounds=rounds or len(recipes) or 1, rule=rule, seed=seed, base="base", scaffold="v1",
        collection=collection,
    )  # fmt: skip
    return Loop(
        settings,
        folder,
        book or SeedBook(folder / "seeds.jsonl"),
        stage or TableStage(),
        trainer or SkillTrainer(),
        decider or FixedDecider(recipes or [recipe()]),
        say,
        tracker,
        keep,
    )


def timeless(folder: Path) -> list[tuple[int, Any]]:
    """The ledger without its times and its place."""
    entries = Ledger(folder).entries()
    return [(entry.round, _moved(entry.what, str(folder))) for entry in entries]


def _moved(what: Any, place: str) -> Any:
    import msgspec

    return msgspec.json.encode(what).decode().replace(place, "HERE")
