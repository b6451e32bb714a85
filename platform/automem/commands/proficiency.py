"""`automem proficiency`: train memory specialists from episodes, judge them, print the table.

Promise: everything that can be checked is checked before the first episode; the same command with
the same `run.dir` goes on where it was stopped or killed, from the settings that it was begun with;
with a `storage.url`, on any machine.
"""

import shlex
import uuid
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from automem.agent.scaffold import load_scaffold
from automem.cli import INTERRUPTED, PENDING, say_error
from automem.commands.arguments import Parser
from automem.commands.loop_config import (
    MAY_CHANGE,
    begun_or_new,
    built,
    check_base_memory,
    keep_config,
    struct_of,
    teller,
    value_of,
)
from automem.commands.plan import RUNS, fresh_dir, spec_from
from automem.commands.play import print_tracker, shortest
from automem.commands.sweep_loops import play_loops
from automem.commands.table import wide_console
from automem.config import compose
from automem.errors import InfrastructureError, UsageError
from automem.loops.arm_results import report_runs
from automem.loops.collection import Collection
from automem.loops.deciders import Decider
from automem.loops.experiment import Control, Experiment, Plan, Results
from automem.loops.gate import Rule
from automem.loops.proficiency import Loop, Settings, Unfinished
from automem.loops.recipes import Trainer
from automem.loops.results_table import figures, print_results
from automem.loops.seedbook import SeedBook
from automem.loops.stage import Stage, read_arm
from automem.loops.stored_loop import StoredLoop
from automem.report import write_report
from automem.report_parts.gather import Arm as ReportArm
from automem.rollout.engines import SharedEngines
from automem.rollout.guarded_world import check_world
from automem.rollout.ray_local import connected
from automem.rollout.run_dir import RUN_FILE, locked
from automem.rollout.spec import RolloutSpec
from automem.tracker import RunTracker, closing_tracker

EXAMPLES = [
    "automem proficiency experiment=embedded                 # five training seeds, every control",
    "automem proficiency experiment=embedded training_seeds=[0] rounds=1",
    "automem proficiency experiment=embedded learner=zero tracker=wandb",
    "automem proficiency experiment=embedded collection.mode=asynchronous",
    "automem proficiency run.dir=runs/20260101-120000-proficiency    # go on with it",
    "automem proficiency run.dir=runs/20260101-120000-proficiency rounds=3    # add a round",
    "automem proficiency -m experiment=embedded sweep=ray selector=provenance,outcome",
    "automem proficiency experiment=embedded run.dir=runs/mine storage.url=s3://bucket/automem",
]
SEEDS = "seeds.jsonl"
MAY_GROW = ("training_seeds", "rounds", "report.arms")
"""What can be added to a loop that has begun; of what is there nothing is made anew."""


def main(argv: list[str]) -> int:
    """See the module's docstring."""
    parser = Parser(
        "proficiency",
        "Train a memory specialist from episodes and judge it. Keys: conf/proficiency.yaml.",
        EXAMPLES,
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="see below")
    parser.add_argument("-m", "--multirun", action="store_true", help="sweep: selector=a,b")
    parser.add_argument("--config-dir", metavar="DIR", help="your own tree, searched first")
    parser.add_argument("--show", action="store_true", help="print the configuration and stop")
    options = parser.parse_intermixed_args(argv)
    if options.multirun:
        return play_loops("proficiency", options, partial(compose, "proficiency"), Parts)
    config = begun_or_new("proficiency", "trainer", options.overrides, options.config_dir)
    if options.show:
        print(OmegaConf.to_yaml(config, resolve=True), end="")
        return 0
    parts = Parts(config, options.config_dir)
    url = parts.template.storage_url
    # Its name is the loop's in the store, where other machines have theirs.
    name = f"proficiency-{uuid.uuid4().hex[:6]}" if url else "proficiency"
    folder = (
        Path(config.run.dir).expanduser().resolve() if config.run.dir else fresh_dir(RUNS, name)
    )
    stored = StoredLoop(url, folder, SEEDS) if url else None
    again = continue_line(folder) + (f" storage.url={shlex.quote(url)}" if url else "")
    try:
        with locked(folder):
            if stored is not None and stored.begin():
                print(f"fetched {stored.url}, and going on with it")
                config = begun_or_new(
                    "proficiency", "trainer", [*options.overrides, f"run.dir={folder}"],
                    options.config_dir,
                )  # fmt: skip
                parts = Parts(config, options.config_dir)
            with stored.kept() if stored is not None else nullcontext():
                return run(parts, folder, stored.keep if stored is not None else None)
    except (Unfinished, InfrastructureError) as error:
        say_error(f"{error}\nGo on with: {again}")
        return PENDING
    except KeyboardInterrupt:
        say_error(f"stopped; nothing is lost. Go on with: {again}")
        return INTERRUPTED


class Parts:
    """The configuration as plain data and live parts; UsageError for whatever is wrong with it."""

    def __init__(self, config: DictConfig, config_dir: str | None = None) -> None:
        self.config = config
        plain: Any = OmegaConf.to_container(config, resolve=True)
        if not plain["trainer"].get("base_model"):
            raise UsageError(
                f"engine={plain['engine']['name']} has no model to train: choose "
                "engine=transformers, or another engine with engine.model"
            )
        self.template: RolloutSpec = spec_from(config, config_dir)
        check_base_memory(self.template)
        check_world(self.template.world)
        self.scaffold = load_scaffold(Path(self.template.scaffold)).version
        self.base: str = plain["trainer"]["base_model"]
        self.rule = struct_of(Rule, plain["gate"], "gate")
        self.rounds: int = value_of(int, plain["rounds"], "rounds")
        self.trainer: Trainer = built(plain["trainer"], "trainer", is_recursive=False)
        self.decider: Decider = built(plain["decider"], "decider")
        collection = plain.get("collection") or {}  # a loop begun before there was a choice
        self.collection: Collection = struct_of(Collection, collection, "collection")
        if self.collection.is_asynchronous and not self.template.workers:
            raise UsageError(
                "collection.mode=asynchronous plays beside the training, in other processes: set "
                "rollout.workers to at least 1"
            )
        arms = plain["report"]["arms"] or {}
        self.plan = Plan(
            training_seeds=value_of(tuple[int, ...], plain["training_seeds"], "training_seeds"),
            games=value_of(int, plain["report"]["games"], "report.games"),
            arms={name: read_arm(arm or {}, f"report.arms.{name}") for name, arm in arms.items()},
            controls={
                name: struct_of(Control, fields, f"controls.{name}")
                for name, fields in (plain["controls"] or {}).items()
            },
        )
        self.settings(0)
        self.plan.check_rounds(self.rounds)
        # A wrong recipe is told now, not after the first episodes.
        self.decider.choose((), self.trainer.check)

    def settings(self, seed: int) -> Settings:
        """Those of one training seed."""
        return Settings(
            rounds=self.rounds, rule=self.rule, seed=seed, base=self.base, scaffold=self.scaffold,
            collection=self.collection,
        )  # fmt: skip


def run(parts: Parts, folder: Path, keep: Callable[[], None] | None = None) -> int:
    """The whole experiment in its folder, which is ours; the exit code. `keep`: stores it."""
    if (folder / RUN_FILE).exists():
        raise UsageError(f"{folder} holds a run of automem rollout: choose another run.dir")
    has_begun = any(folder.glob("seed-*/*.jsonl"))
    keep_config(parts.config, folder, has_begun, (*MAY_CHANGE, *MAY_GROW))
    say = teller(folder)
    plain: Any = OmegaConf.to_container(parts.config, resolve=True)
    with closing_tracker(plain["tracker"], folder, plain) as tracker:
        results = play(parts, folder, say, tracker, keep=keep)
    tracker.finish(figures(results.arms))
    if results.arms:
        print_results(results, wide_console())
        arms = [ReportArm(name, path) for name, path in report_runs(results.arms, folder)]
        write_report(arms, title="AutoMem: memory specialists", out=folder / "report.html")
    here = shlex.quote(str(shortest(folder)))
    print(
        f"{results.seconds:.0f} s. Written: {here}/results.json, report.html, seed-*/ledger.jsonl"
    )
    print_tracker(folder)
    return 0


def play(
    parts: Parts,
    folder: Path,
    say: Callable[[str], None],
    tracker: RunTracker,
    is_shown: bool = True,
    keep: Callable[[], None] | None = None,
) -> Results:
    """Loops, controls and arms, on Ray where the template has workers. `keep`: stores the folder,
    before anything is made of what a ledger says."""
    book = SeedBook(folder / SEEDS)
    with ExitStack() as stack:
        engines = None
        if parts.template.workers:
            stack.enter_context(connected())
            engines = stack.enter_context(SharedEngines())
        stage = Stage(parts.template, engines, is_shown, keep)

        def make_loop(seed: int, place: Path) -> Loop:
            return Loop(
                parts.settings(seed), place, book, stage, parts.trainer, parts.decider, say,
                tracker.part(place.relative_to(folder).as_posix()), keep,
            )  # fmt: skip

        experiment = Experiment(parts.plan, folder, stage, parts.trainer, make_loop, say)
        return experiment.run(parts.base, parts.scaffold)


def continue_line(folder: Path) -> str:
    """The command that goes on."""
    return f"automem proficiency run.dir={shlex.quote(str(shortest(folder)))}"
