"""`automem evolve`, `lineage` and `finalize`: improve a scaffold, see how it came about, judge it.

Promise: everything that can be checked is checked before the first episode; the same command with
the same `run.dir` goes on where it was stopped or killed, from the settings that it was begun with.
"""

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.text import Text

from automem.agent.isolation import find_isolation
from automem.agent.roles import AgentOptions
from automem.agent.scaffold import load_scaffold
from automem.agent.scaffold_files import read_files
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
from automem.commands.play import CONFIG_FILE, print_tracker, shortest
from automem.commands.sweep_loops import play_loops
from automem.commands.table import wide_console
from automem.config import compose
from automem.errors import InfrastructureError, UsageError
from automem.loops.evolve import Evolution
from automem.loops.evolve_final import LOOKS, FinalTable, Look
from automem.loops.evolve_page import lineage_section
from automem.loops.evolve_plan import Plan, Smoke
from automem.loops.evolve_results import Results, figures, results_of, write_results
from automem.loops.evolve_stage import Arena
from automem.loops.evolve_tree import print_node, print_table, spread, tree_text
from automem.loops.gate import Rule
from automem.loops.knowledge_lineage import classed_nodes, keep_passages, kept_passages
from automem.loops.knowledge_words import words_of_runs, words_of_world
from automem.loops.lineage import LINEAGE, ROOT, Lineage
from automem.loops.proficiency import Unfinished
from automem.loops.reviewers.interface import Reviewer
from automem.loops.reviewers.toolbox import TraceToolbox
from automem.report import write_report
from automem.report_parts.gather import Arm as ReportArm
from automem.rollout.engines import SharedEngines
from automem.rollout.guarded_world import check_world
from automem.rollout.ray_local import connected
from automem.rollout.run_dir import RUN_FILE, locked
from automem.rollout.spec import RolloutSpec
from automem.tracker import Tracker, closing_tracker

EXAMPLES = [
    "automem evolve experiment=embedded                      # the small game, no network",
    "automem evolve experiment=embedded reviewer=random_order    # its control",
    "automem evolve env=crafter engine=openai engine.base_url=... engine.model=... \\",
    "    reviewer=openai reviewer.model=...",
    "automem evolve run.dir=runs/20260101-120000-evolve      # go on with it",
    "automem lineage runs/20260101-120000-evolve n2          # how a version came about",
    "automem finalize runs/20260101-120000-evolve            # once, at the end",
]
MARK = "smoke"
"""A key that only the configuration of a structure loop has."""
OF_RUN = "rivals"
"""A key that the configuration of `automem run` has beside all of these."""
MAY_CHANGE_REVIEWER = tuple(
    f"reviewer.{name}"
    for name in ("base_url", "api_key_env", "timeout_s", "retries", "deadline_s", "poll_s")
)
"""How a reviewer is reached, which says nothing of what it answers."""


def main(argv: list[str]) -> int:
    """`automem evolve`."""
    parser = Parser(
        "evolve",
        "Let a reviewer revise the scaffold; keep what the gate accepts. Keys: conf/evolve.yaml.",
        EXAMPLES,
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="see below")
    parser.add_argument("--config-dir", metavar="DIR", help="your own tree, searched first")
    parser.add_argument("-m", "--multirun", action="store_true", help="sweep: reviewer=a,b")
    parser.add_argument("--show", action="store_true", help="print the configuration and stop")
    options = parser.parse_intermixed_args(argv)
    if options.multirun:
        return play_loops("evolve", options, partial(compose, "evolve"), Parts)
    config = begun_or_new("evolve", MARK, options.overrides, options.config_dir)
    if options.show:
        print(OmegaConf.to_yaml(config, resolve=True), end="")
        return 0
    parts = Parts(config, options.config_dir)
    folder = (
        Path(config.run.dir).expanduser().resolve() if config.run.dir else fresh_dir(RUNS, "evolve")
    )
    return _carried_out(
        folder, f"automem evolve run.dir={_quoted(folder)}", lambda: run(parts, folder)
    )


def lineage(argv: list[str]) -> int:
    """`automem lineage`: the tree, and what is known of its nodes."""
    parser = Parser(
        "lineage",
        "The versions of a scaffold that `automem evolve` tried: tree, reasons, numbers, diffs.",
        [
            "automem lineage runs/20260101-120000-evolve",
            "automem lineage RUN n2    # all of its diff",
        ],
    )
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("nodes", nargs="*", metavar="NODE", help="left out: all, diffs cut short")
    parser.add_argument("--tree", action="store_true", help="the tree alone")
    options = parser.parse_args(argv)
    folder = evolve_folder(options.run)
    classed = kept_passages(folder)
    tree, console = Lineage(folder), wide_console()
    if not options.nodes:
        console.print(Text(tree_text(tree.nodes())))
        console.print(Text("* the champion\n", style="dim"))
    chosen = [tree.node(name) for name in options.nodes]
    for node in [] if options.tree else chosen or tree.nodes()[1:]:
        print_node(node, console, None if chosen else 30, classed.get(node.id, ()))
    return 0


def finalize(argv: list[str]) -> int:
    """`automem finalize`: start and champion on the final seeds, once."""
    parser = Parser(
        "finalize",
        "Play start and champion of a structure loop on the final seeds, and count the look.",
        ["automem finalize runs/20260101-120000-evolve"],
    )
    parser.add_argument("run", metavar="RUN")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="such as finalize.games=32"
    )
    parser.add_argument("--config-dir", metavar="DIR", help="your own tree, searched first")
    options = parser.parse_intermixed_args(argv)
    folder = evolve_folder(options.run)
    words = [f"run.dir={folder}", *options.overrides]
    parts = Parts(begun_or_new("evolve", MARK, words, options.config_dir), options.config_dir)
    return _carried_out(
        folder, f"automem finalize {_quoted(folder)}", lambda: _finalize(parts, folder)
    )


def evolve_folder(text: str) -> Path:
    """The folder of a structure loop; UsageError says what was found instead."""
    path = Path(text).expanduser()
    if not (path / LINEAGE).is_file():
        what = f"this folder has no {LINEAGE}" if path.is_dir() else "there is no such folder"
        raise UsageError(f"{text!r} is no run of automem evolve: {what}")
    return path.resolve()


def _carried_out(folder: Path, again: str, work: Callable[[], int]) -> int:
    """Own the folder, and say how to go on where the work did not come to its end."""
    try:
        with locked(folder):
            return work()
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
        if plain.get("specialist"):
            raise UsageError(
                "automem evolve plays the base in both roles: evolve first, then train on the "
                "scaffold with automem proficiency scaffold=FOLDER"
            )
        self.template: RolloutSpec = spec_from(config, config_dir)
        check_base_memory(self.template)
        check_world(self.template.world)
        load_scaffold(Path(self.template.scaffold))
        self.start = read_files(Path(self.template.scaffold))
        if plain["allow_hooks"]:
            _check_hooks(self.template.agent.get("hooks", AgentOptions().hooks))
        engine = plain["engine"]
        self.model = str(engine.get("model") or engine["name"])
        self.games: int = value_of(int, plain["finalize"]["games"], "finalize.games")
        if self.games < 2:
            raise UsageError(f"finalize.games must be at least 2, got {self.games}")
        self.plan = Plan(
            rule=struct_of(Rule, plain["gate"], "gate"),
            smoke=struct_of(Smoke, plain["smoke"], "smoke"),
            study=value_of(int, plain["study"]["episodes"], "study.episodes"),
            seed=plain["run"]["seed"],
            allow_hooks=plain["allow_hooks"],
            **{
                name: value_of(int, plain[name], name)
                for name in ("revisions", "attempts", "continuations", "at_once")
            },
        )
        self.reviewer: Reviewer = built(plain["reviewer"], "reviewer")


def _check_hooks(mode: str) -> None:
    """UsageError where the hooks that a revision may bring could not be run."""
    if mode == "off":
        raise UsageError(
            "allow_hooks=true lets revisions bring a hooks.py, and with agent.hooks=off none would "
            "ever run: leave one of the two out"
        )
    isolation = find_isolation() if mode == "isolated" else None
    if isinstance(isolation, str):
        raise UsageError(
            f"allow_hooks=true lets revisions bring code, which runs isolated only: {isolation}. "
            "Leave allow_hooks out, or, if you trust whatever the reviewer writes with your "
            "rights, use agent.hooks=unprotected"
        )


def run(parts: Parts, folder: Path) -> int:
    """The whole loop in its folder, which is ours; the exit code."""
    if (folder / RUN_FILE).exists():
        raise UsageError(f"{folder} holds a run of automem rollout: choose another run.dir")
    kept = folder / CONFIG_FILE
    if kept.is_file() and OF_RUN in OmegaConf.load(kept):
        raise UsageError(
            f"{folder} was begun by automem run, which evolves there itself: go on with "
            f"automem run run.dir={_quoted(folder)}, or choose another run.dir"
        )
    has_begun = (folder / LINEAGE).exists()
    keep_config(parts.config, folder, has_begun, (*MAY_CHANGE, *MAY_CHANGE_REVIEWER))
    say = teller(folder)
    most = parts.plan.most_confirmations
    if most > parts.plan.rule.confirmations:
        say(
            f"at most {parts.plan.rule.confirmations} confirmations are declared; the attempts "
            f"could ask for {most}, so the loop may end early"
        )
    plain: Any = OmegaConf.to_container(parts.config, resolve=True)
    with closing_tracker(plain["tracker"], folder, plain) as tracker:
        results = play(parts, folder, say, tracker)
    tracker.finish(figures(results))
    print_table(results, wide_console())
    _report(folder, results)
    here = _quoted(folder)
    print(f"{results.seconds:.0f} s. Written: {here}/results.json, report.html, {LINEAGE}")
    print_tracker(folder)
    print(f"next:    automem lineage {here}")
    if results.champion != results.nodes[0].id:
        best = Lineage(folder).folder(Lineage(folder).champion())
        print(f"         automem rollout experiment=... scaffold={_quoted(best)}")
    return 0


def play(
    parts: Parts, folder: Path, say: Callable[[str], None], tracker: Tracker, is_shown: bool = True
) -> Results:
    """The loop, on Ray where the template has workers."""
    began = time.monotonic()
    with _arena(parts, is_shown) as arena:
        evolution = Evolution(
            parts.plan, parts.start, folder, arena, parts.reviewer, TraceToolbox, say, tracker
        )
        evolution.run()
    tree = evolution.lineage
    studied = words_of_runs([folder / "studies" / ROOT])
    keep_passages(folder, classed_nodes(tree, studied | words_of_world(parts.template.world)))
    results = results_of(evolution.lineage, parts.model, time.monotonic() - began)
    write_results(folder, results)
    return results


@contextmanager
def _arena(parts: Parts, is_shown: bool = True) -> Iterator[Arena]:
    if not parts.template.workers:
        yield Arena(parts.template, None, is_shown)
        return
    with connected(), SharedEngines() as engines:
        yield Arena(parts.template, engines, is_shown)


def _report(folder: Path, results: Results) -> None:
    """One page: the lineage, and the champions' episodes for review, side by side."""
    tree = Lineage(folder)
    arms = []
    for node in tree.path(tree.champion().id):
        study = folder / "studies" / node.id
        if (study / RUN_FILE).exists():
            arms.append(ReportArm(f"{node.id} {node.grown.version}", study))
    write_report(
        arms,
        title="AutoMem: an evolved scaffold",
        out=folder / "report.html",
        section=lineage_section(results, tree.nodes()),
    )


def _finalize(parts: Parts, folder: Path) -> int:
    with _arena(parts) as arena:
        table = FinalTable(folder, arena)
        look = table.read(parts.games)
        _print_look(look, table.looks())
    return 0


def _print_look(look: Look, looks: int) -> None:
    assert look.reached is not None
    for name, version, reached in zip(
        ("start", "champion"), (look.start, look.champion), look.reached, strict=True
    ):
        print(f"{name:<9} {version}: {reached.mean or 0:.3f} over {look.games} final seeds")
    print(f"champion - start, paired: {spread(look.difference)} (95 % interval)")
    print(
        f"look {look.number} of {looks} at these seeds ({LOOKS} beside the run lists them all); "
        "this result is reported whatever it says and not played again"
    )


def _quoted(path: Path) -> str:
    return shlex.quote(str(shortest(path)))
