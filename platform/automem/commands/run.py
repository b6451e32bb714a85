"""`automem run`: evolve the scaffold, train on it, and set it all beside the rivals in one table.

Promise: everything that can be checked is checked before the first episode; the same command with
the same `run.dir` goes on where it was stopped or killed, from the settings that it was begun with.
The run's folder is one of `automem evolve`, too: `automem lineage` and `finalize` read it.
"""

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from omegaconf import DictConfig, OmegaConf, open_dict

from automem.agent.scaffold import load_scaffold
from automem.cli import INTERRUPTED, PENDING, say_error
from automem.commands import evolve, loop_config, proficiency
from automem.commands.arguments import Parser
from automem.commands.loop_config import begun_or_new, change, keep_config, teller, value_of
from automem.commands.plan import RUNS, fresh_dir
from automem.commands.play import print_tracker, shortest
from automem.commands.sweep_loops import play_loops
from automem.commands.table import wide_console
from automem.config import compose, groups, known_keys, parse_overrides
from automem.errors import InfrastructureError, UsageError
from automem.loops.arm_results import report_runs
from automem.loops.evolve import SEEDS, Evolution
from automem.loops.evolve_page import lineage_section
from automem.loops.evolve_results import results_of, write_results
from automem.loops.evolve_stage import Arena
from automem.loops.knowledge_words import words_of_world
from automem.loops.lineage import LINEAGE, Lineage, Node
from automem.loops.proficiency import Loop, Unfinished
from automem.loops.recipes import Specialist
from automem.loops.results_table import figures
from automem.loops.reviewers.toolbox import TraceToolbox
from automem.loops.run import BothLoops, PartOfBook, Plan
from automem.loops.run_results import START, RunResults
from automem.loops.run_table import print_results, report_section
from automem.loops.stage import Arm, Stage, differing, read_arm
from automem.report import write_report
from automem.report_parts.gather import Arm as ReportArm
from automem.rollout.engines import SharedEngines
from automem.rollout.ray_local import connected
from automem.rollout.run_dir import RUN_FILE, locked
from automem.tracker import RunTracker, closing_tracker

EXAMPLES = [
    "automem run experiment=embedded                         # five training seeds, every rival",
    "automem run experiment=embedded training_seeds=[0] revisions=2 proficiency.gate.pairs=32",
    "automem run experiment=embedded agent.knowledge=facts.txt    # given to every arm alike",
    "automem run run.dir=runs/20260101-120000-run            # go on with it",
]
MARK = evolve.OF_RUN
"""A key that only this command's configuration has."""
TRAINING = "proficiency"
"""Prefix of the other loop's keys, and where its tree lies in the kept configuration."""
_OF_TRAINING = ("learner", "selector")
"""Groups that the training alone has."""
_ELSEWHERE = {
    "training_seeds": "training_seeds, which is of the whole run",
    "report": "games and rivals: the table of a run is its own",
    "controls": "automem proficiency, which trains controls: a run has none",
}
"""Keys of the training's tree that nothing would read here, and what to use instead."""
MAY_CHANGE = (
    *loop_config.MAY_CHANGE,
    *evolve.MAY_CHANGE_REVIEWER,
    *(f"{TRAINING}.{key}" for key in loop_config.MAY_CHANGE),
    "training_seeds",
    MARK,
    f"{TRAINING}.rounds",
)
"""What a run that has begun goes on with as it is said now."""
DECIDES = (*loop_config.DECIDES, *(f"{TRAINING}.{key}" for key in loop_config.DECIDES))
"""The same keys in both trees."""


def main(argv: list[str]) -> int:
    """See the module's docstring."""
    parser = Parser(
        "run",
        "Both loops, then one table. Keys: conf/run.yaml, conf/evolve.yaml; conf/proficiency.yaml "
        "behind `proficiency.`",
        EXAMPLES,
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="see below")
    parser.add_argument("--config-dir", metavar="DIR", help="your own tree, searched first")
    parser.add_argument("-m", "--multirun", action="store_true", help="sweep: a=1,2 b=x,y")
    parser.add_argument("--show", action="store_true", help="print the configuration and stop")
    options = parser.parse_intermixed_args(argv)
    if options.multirun:
        return play_loops("run", options, config_of, Parts)
    config = config_of(options.overrides, options.config_dir)
    if options.show:
        print(OmegaConf.to_yaml(config, resolve=True), end="")
        return 0
    parts = Parts(config, options.config_dir)
    folder = (
        Path(config.run.dir).expanduser().resolve() if config.run.dir else fresh_dir(RUNS, "run")
    )
    again = continue_line(folder)
    try:
        with locked(folder):
            return run(parts, folder)
    except (Unfinished, InfrastructureError) as error:
        say_error(f"{error}\nGo on with: {again}")
        return PENDING
    except KeyboardInterrupt:
        say_error(f"stopped; nothing is lost. Go on with: {again}")
        return INTERRUPTED


def config_of(overrides: Sequence[str], config_dir: str | None) -> DictConfig:
    """The tree of the structure loop and of the table, and beside it, as `proficiency`, that of the
    training: each with the overrides that it knows; of a run that has begun, its own."""
    ours, trainings = _parted(overrides, config_dir)
    config = begun_or_new("run", MARK, ours, config_dir)
    words = [*_shared(ours, config_dir), *trainings]
    with _told_of_training():
        training = compose(TRAINING, words, config_dir)  # refuses what no key is, begun or not
    with open_dict(config):
        if TRAINING not in config:
            config[TRAINING] = training
        elif chosen := _chosen_groups(trainings, config_dir):
            raise UsageError(
                f"{chosen[0]}: {config.run.dir} goes on with the training that it was begun with; "
                "give the whole command again, or choose another run.dir"
            )
        else:  # of a run that has begun: what is said now changes both trees
            change(config[TRAINING], words)
    for tree in (config, config[TRAINING]):
        if tree.agent.knowledge:  # the run may be gone on with from elsewhere
            tree.agent.knowledge = str(Path(tree.agent.knowledge).expanduser().resolve())
    return config


def _parted(overrides: Sequence[str], config_dir: str | None) -> tuple[list[str], list[str]]:
    """Words of the run's own tree, and words of the training's; UsageError for those of the
    training that nothing would read, or that are of both."""
    options = groups(config_dir)
    ours, trainings = [], []
    common = {key.partition(".")[0] for key in known_keys("config", (), config_dir)}
    for text in overrides:
        [item] = parse_overrides([text])
        key = str(item.key_or_group)
        name = key.removeprefix(f"{TRAINING}.").partition(".")[0]
        if key in _OF_TRAINING:
            trainings.append(text)
        elif not key.startswith(f"{TRAINING}."):
            ours.append(text)
            if key == "experiment" and str(item.value()) in options.get("evolve", ()):
                ours.append(f"evolve={item.value()}")
        elif name in _ELSEWHERE:
            raise UsageError(f"{key}: nothing reads it here; use {_ELSEWHERE[name]}")
        elif name in common:
            raise UsageError(
                f"{key}: both loops play the same; say {text.replace(f'{TRAINING}.', '', 1)}"
            )
        else:
            trainings.append(text.replace(f"{TRAINING}.", "", 1))  # behind a + or ~, too
    return ours, trainings


def _chosen_groups(overrides: Sequence[str], config_dir: str | None) -> list[str]:
    """The words that choose a group's option; `selector` is a plain name, looked up later."""
    options = set(groups(config_dir)) - {"selector"}
    parsed = parse_overrides(overrides)
    return [str(item.input_line) for item in parsed if item.get_key_element() in options]


@contextmanager
def _told_of_training() -> Iterator[None]:
    """What is wrong with the training's tree is told as that: both trees have a `gate`."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{TRAINING}: {error}") from error


def _shared(overrides: Sequence[str], config_dir: str | None) -> list[str]:
    """Those that say what is played and by whom, which both trees have."""
    choices = [text for text in overrides if text.partition("=")[0] in groups(config_dir)]
    common = {text for text in choices if text.partition("=")[0] not in ("reviewer", "evolve")}
    known = {*known_keys("config", sorted(common), config_dir), "experiment"}
    return [
        text
        for text in overrides
        if text in common or str(parse_overrides([text])[0].key_or_group) in known
    ]


class Parts:
    """The configuration as live parts of both loops; UsageError for whatever is wrong with it."""

    def __init__(self, config: DictConfig, config_dir: str | None = None) -> None:
        self.config = config
        plain: Any = OmegaConf.to_container(config, resolve=True)
        self.structure = evolve.Parts(config, config_dir)
        with _told_of_training():
            self.training = proficiency.Parts(config[TRAINING], config_dir)
        self._check_one_game()
        self.plan = Plan(
            training_seeds=value_of(tuple[int, ...], plain["training_seeds"], "training_seeds"),
            games=value_of(int, plain["games"], "games"),
            train_start=value_of(bool, plain["train_start"], "train_start"),
            knowledge=str(self.structure.template.agent.get("knowledge") or ""),
            rivals=_rivals(plain[MARK] or {}),
        )

    def _check_one_game(self) -> None:
        """UsageError where the trees differ in what is played and by whom."""
        ours, theirs = self.structure.template, self.training.template
        fields = differing(ours, theirs)
        if ours.scaffold != theirs.scaffold:
            fields.append("scaffold")
        if fields:
            raise UsageError(
                f"the loops would not play the same: {', '.join(fields)} of the structure loop and "
                f"of the training differ; say it once, without {TRAINING}."
            )


def _rivals(arms: Mapping[str, Any]) -> dict[str, Arm]:
    """Those of `rivals`; null drops one."""
    for name, agent in arms.items():
        if agent == {}:
            raise UsageError(
                f"rivals.{name} changes nothing, so it would be {START} under another name: say "
                f"what it has, such as {{memory: none}}, or null to leave it out"
            )
    return {
        name: read_arm({"agent": agent}, f"rivals.{name}")
        for name, agent in arms.items()
        if agent is not None
    }


def run(parts: Parts, folder: Path) -> int:
    """Everything, in its folder, which is ours; the exit code."""
    if (folder / RUN_FILE).exists():
        raise UsageError(f"{folder} holds a run of automem rollout: choose another run.dir")
    keep_config(parts.config, folder, (folder / LINEAGE).exists(), MAY_CHANGE, DECIDES)
    plain: Any = OmegaConf.to_container(parts.config, resolve=True)
    with closing_tracker(plain["tracker"], folder, plain) as tracker:
        results = play(parts, folder, teller(folder), tracker)
    tracker.finish(figures(results.arms))
    print_results(results, wide_console())
    lineage = Lineage(folder)
    revisions = results_of(lineage, parts.structure.model, results.seconds)
    write_report(
        [ReportArm(name, place) for name, place in report_runs(results.arms, folder)],
        title="AutoMem: both loops",
        out=folder / "report.html",
        section=report_section(results) + lineage_section(revisions, lineage.nodes()),
    )
    here = _quoted(folder)
    print(f"{results.seconds:.0f} s. Written: {here}/results-of-both.json, report.html, {LINEAGE}")
    print_tracker(folder)
    print(f"next:    automem lineage {here}")
    return 0


def play(parts: Parts, folder: Path, say: Callable[[str], None], tracker: RunTracker) -> RunResults:
    """Both loops and the arms, on Ray where the template has workers."""
    with ExitStack() as stack:
        engines = None
        if parts.structure.template.workers:
            stack.enter_context(connected())
            engines = stack.enter_context(SharedEngines())
        return _Run(parts, folder, engines, say, tracker).carry_out()


class _Run:
    """Both loops on shared engines."""

    def __init__(
        self,
        parts: Parts,
        folder: Path,
        engines: SharedEngines | None,
        say: Callable[[str], None],
        tracker: RunTracker,
    ) -> None:
        self._parts = parts
        self._folder = folder
        self._engines = engines
        self._say = say
        self._tracker = tracker

    def carry_out(self) -> RunResults:
        parts = self._parts
        both = BothLoops(
            parts.plan, self._folder, self._evolve, self._train, self._stage_with, self._say,
            words_of_world(parts.structure.template.world),
        )  # fmt: skip
        return both.run(parts.training.base)

    def _evolve(self) -> Lineage:
        parts, began = self._parts.structure, time.monotonic()
        evolution = Evolution(
            parts.plan,
            parts.start,
            self._folder,
            Arena(parts.template, self._engines),
            parts.reviewer,
            TraceToolbox,
            self._say,
            self._tracker,
        )
        evolution.run()
        seconds = time.monotonic() - began
        write_results(self._folder, results_of(evolution.lineage, parts.model, seconds))
        return evolution.lineage

    def _train(self, node: Node, scaffold: Path, seed: int, place: Path) -> Specialist | None:
        training = self._parts.training
        settings = msgspec.structs.replace(
            training.settings(seed), scaffold=load_scaffold(scaffold).version
        )
        loop = Loop(
            settings,
            place,
            PartOfBook(self._folder / SEEDS, f"training on {node.id}"),
            self._stage_with(scaffold),
            training.trainer,
            training.decider,
            self._say,
            self._tracker.part(place.relative_to(self._folder).as_posix()),
        )
        return loop.run().champion

    def _stage_with(self, scaffold: Path) -> Stage:
        template = msgspec.structs.replace(self._parts.training.template, scaffold=str(scaffold))
        return Stage(template, self._engines)


def continue_line(folder: Path) -> str:
    """The command that goes on."""
    return f"automem run run.dir={_quoted(folder)}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(shortest(path)))
