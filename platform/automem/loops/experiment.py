"""The proficiency loop as an experiment: once per training seed, beside its controls, in one table.

Every arm plays the same `report` decks with the same sampling, so arms are paired by deck. The unit
of inference is the training seed: figures of trained arms are means over training seeds with
Student's interval, every seed's value beside them; arms without training are played once, and
their interval is over decks; a difference between the two is uncertain by both. A training whose
gate accepted nothing stays in its arm, with the base in memory, and is marked.

Promise: what is there is not played or trained again, so a killed experiment is continued by the
same call; results are written whole (`results.json`).
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from automem.errors import UsageError
from automem.loops.arm_results import (
    BASELINE,
    ArmResult,
    arm_result,
    check_games,
    check_training_seeds,
    slug,
)
from automem.loops.collection import Gathered, staleness
from automem.loops.ledger import (
    Chosen,
    Closed,
    Ledger,
    Picked,
    Trained,
    relative_path,
    with_paths,
)
from automem.loops.proficiency import Loop, Unfinished
from automem.loops.recipes import DataRecipe, Selected, Specialist, Trainer, Weighed
from automem.loops.stage import Arm, Played, Stage
from automem.seeds import SeedRange, seeds_from
from automem.tracker import NoTracker

RESULTS = "results.json"
SCHEMA = 1


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A specialist trained on other turns of the same episodes, everything else as in a round."""

    round: int = 1
    """Whose episodes, training and number of steps it takes."""
    selector: str
    settings: dict[str, Any] = {}
    matches: bool = False
    """Give the selector the round's own selection to match (`selector.match`)."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared at the end."""

    training_seeds: tuple[int, ...]
    games: int
    arms: dict[str, Arm]
    controls: dict[str, Control]

    def __post_init__(self) -> None:
        if not self.training_seeds:
            raise UsageError("training_seeds must name at least one seed")
        check_training_seeds(self.training_seeds)
        check_games(self.games, 1, "report.games")
        places: dict[str, str] = {}
        for name, arm in self.arms.items():
            other = places.setdefault(slug(name), name)
            if other != name or not slug(name):
                raise UsageError(
                    f"report.arms {name!r} and {other!r} would share a folder: letters and digits "
                    "have to tell arms apart"
                )
            kind, _, which = arm.memory.partition(":")
            is_known = (
                arm.memory in ("base", "champion", "player")
                or (kind == "round" and which.isdecimal() and which == str(int(which)))
                or (kind == "control" and which in self.controls)
            )
            if not is_known:
                raise UsageError(
                    f"report.arms.{name}.memory is {arm.memory!r}: expected base, champion, "
                    "round:N, player or control:NAME of "
                    f"{', '.join(self.controls) or 'none'}"
                )
        if self.arms and BASELINE not in self.arms:
            raise UsageError(f"report.arms needs an arm named {BASELINE!r} to compare with")
        if self.arms and self.arms[BASELINE].memory != BASELINE:
            raise UsageError(
                f"report.arms.{BASELINE} is what others are compared with: its memory must be "
                f"base, got {self.arms[BASELINE].memory!r}"
            )

    def check_rounds(self, rounds: int) -> None:
        """UsageError where an arm or a control names a round that a loop will not have."""
        named = {f"controls.{name}.round": c.round for name, c in self.controls.items()}
        for name, arm in self.arms.items():
            if arm.memory.startswith("round:"):
                named[f"report.arms.{name}.memory"] = int(arm.memory.removeprefix("round:"))
        for field, number in named.items():
            if not 1 <= number <= rounds:
                raise UsageError(f"{field} names round {number}, but rounds is {rounds}")


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """`results.json`."""

    schema: int = SCHEMA
    commit: str
    created: float
    seconds: float
    world: str
    base: str
    scaffold: str
    report_seeds: tuple[int, int]
    """First and last."""
    training_seeds: tuple[int, ...]
    arms: list[ArmResult]
    rounds: dict[int, list[dict[str, Any]]]
    """Training seed to its rounds: recipe, turns, verdict, gain; staleness, where episodes were
    collected ahead."""


class Experiment:
    """See the module's docstring."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        stage: Stage,
        trainer: Trainer,
        make_loop: Callable[[int, Path], Loop],
        say: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._stage = stage
        self._trainer = trainer
        self._make_loop = make_loop
        self._say = say

    def run(self, base: str, scaffold: str) -> Results:
        """Loops, controls, arms, results."""
        began = time.monotonic()
        plan = self._plan
        specialists: dict[int, dict[str, Specialist | None]] = {}
        for seed in plan.training_seeds:
            if len(plan.training_seeds) > 1:
                self._say(f"training seed {seed}")
            folder = self.folder_of(seed)
            loop = self._make_loop(seed, folder)
            outcome = loop.run()
            specialists[seed] = {"champion": outcome.champion, "base": None}
            for number, closed in enumerate(outcome.rounds, 1):
                specialists[seed][f"round:{number}"] = closed.contender
            for name, control in plan.controls.items():
                if any(arm.memory == f"control:{name}" for arm in plan.arms.values()):
                    made = self._control(name, control, loop, folder, seed)
                    specialists[seed][f"control:{name}"] = made
        played = {name: self._play(name, arm, specialists) for name, arm in plan.arms.items()}
        seeds = self._report_seeds()
        results = Results(
            commit=commit(),
            created=time.time(),
            seconds=time.monotonic() - began,
            world=self._stage.world,
            base=base,
            scaffold=scaffold,
            report_seeds=(seeds[0], seeds[-1]),
            training_seeds=plan.training_seeds,
            arms=[arm_result(name, played, self._folder) for name in played if played[name]],
            rounds={
                seed: _rounds(Ledger(self.folder_of(seed)), self._folder)
                for seed in plan.training_seeds
            },
        )
        _write(self._folder / RESULTS, results)
        return results

    def folder_of(self, seed: int) -> Path:
        """Where the loop of a training seed lives."""
        return self._folder / f"seed-{seed}"

    def _report_seeds(self) -> list[int]:
        return seeds_from(SeedRange.REPORT, self._plan.games)

    def _control(
        self, name: str, control: Control, loop: Loop, folder: Path, seed: int
    ) -> Specialist | None:
        """Trained as the round's first contender was; None where the round trained none."""
        ledger, number = loop.ledger, control.round
        chosen, picked = ledger.find(number, Chosen), ledger.find(number, Picked)
        first = [t for t in ledger.find_all(number, Trained) if t.contender == 0]
        if not first or chosen is None or picked is None:
            return None
        recipe = chosen.recipe
        start = ledger.champion(before=number) if recipe.start == "champion" else None
        settings = dict(control.settings)
        if control.matches:
            settings |= {"match": picked.selected.folder, "seed": seed}
        data = DataRecipe(
            selector=control.selector, settings=settings, episode_share=recipe.data.episode_share
        )
        place = folder / "controls" / name
        runs = loop.episodes.runs_of(number, recipe)
        selected: Selected = self._trainer.select(runs, data, place / "selection", seed)
        if not selected.turns:
            self._say(f"  control {name}: nothing to learn from: {selected.verdict}")
            return None
        loop.weigh(number, selected)
        steps = {"max_steps": first[0].specialist.steps, "epochs": 1_000}
        training = {**recipe.trainings[0], **steps}
        made = self._trainer.train(
            selected, training, place / "specialist", seed, start, NoTracker()
        )
        self._say(
            f"  control {name}: {selected.turns} turns, {made.conversations} conversations, "
            f"{made.steps} steps, loss {made.last_loss:.3f}"
        )
        return made

    def _play(
        self, name: str, arm: Arm, specialists: Mapping[int, Mapping[str, Specialist | None]]
    ) -> dict[int, Played]:
        """Training seed to what the arm reached; key -1 for an arm that is not trained."""
        seeds = self._report_seeds()
        if arm.memory in ("base", "player"):
            return {-1: self._finished(name, self._place(name, arm, None, -1), arm, None, seeds)}
        played = {}
        for training_seed in self._plan.training_seeds:
            specialist = specialists[training_seed].get(arm.memory)
            if specialist is None and arm.memory != "champion":
                self._say(f"{name}: training seed {training_seed} has none")
                continue
            place = self._place(name, arm, specialist, training_seed)
            found = self._finished(name, place, arm, specialist, seeds)
            fell_back = specialist is None
            played[training_seed] = msgspec.structs.replace(found, fell_back=fell_back)
        return played

    def _place(self, name: str, arm: Arm, specialist: Specialist | None, seed: int) -> Path:
        """Named by what plays, so that an arm is played once under however many names, and again
        where the champion has changed since."""
        if arm.memory == "player":
            return self._folder / "arms" / slug(name)
        changes = sorted({**arm.sampling, **arm.agent}.items())
        words = [specialist.name if specialist else BASELINE]
        words += [f"{field} {value}" for field, value in changes]
        root = self.folder_of(seed) if specialist else self._folder
        return root / "arms" / slug(" ".join(words))

    def _finished(
        self, name: str, folder: Path, arm: Arm, specialist: Specialist | None, seeds: list[int]
    ) -> Played:
        played = self._stage.play(folder, arm, specialist, seeds, f"report: {name}")
        if played.summary["pending"]:
            raise Unfinished(
                f"{played.summary['pending']} episodes of {folder} are pending ({played.reason}): "
                "nothing is lost, run the same command again to go on"
            )
        mean = sum(played.progressions.values()) / len(seeds)
        self._say(f"{name}: {mean:.3f} over {len(seeds)} games")
        return played


def _rounds(ledger: Ledger, folder: Path) -> list[dict[str, Any]]:
    """The finished rounds, with paths relative to `folder`."""
    rounds = []
    for trial in ledger.trials():
        closed = with_paths(trial.closed, lambda path: relative_path(path, folder))
        fields = {field: _plain(getattr(closed, field)) for field in Closed.__struct_fields__}
        head = {"round": trial.round, "recipe": _plain(trial.recipe), "turns": trial.turns}
        gathered = ledger.find(trial.round, Gathered)
        if gathered is not None:
            figures = staleness(gathered, ledger.find(trial.round, Weighed))
            head["staleness"] = _plain(figures)
        rounds.append(head | fields)
    return rounds


def _plain(value: Any) -> Any:
    """As it will be read again: lists, not tuples."""
    return msgspec.json.decode(msgspec.json.encode(value))


def read_results(folder: Path) -> Results:
    """`results.json` of an experiment; UsageError where there is none."""
    try:
        return msgspec.json.decode((folder / RESULTS).read_bytes(), type=Results)
    except FileNotFoundError:
        raise UsageError(f"{folder} has no {RESULTS}: the experiment is not finished") from None


def _write(path: Path, results: Results) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(msgspec.to_builtins(results, str_keys=True), indent=1) + "\n")
    os.replace(temporary, path)


def commit() -> str:
    """The commit of the checkout that this code is in, with `+` where changed; or nothing."""
    here = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
            cwd=here, capture_output=True, text=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
