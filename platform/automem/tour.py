"""`automem tour` (`make run`): the whole thing in a few minutes, on this machine, for real.

First a story: one deck of cards, dealt to players that differ in memory; then one match of it,
replayed. Then many decks for scripted players, and both loops live, in short: a reviewer revises
the scaffold, a memory specialist is trained on what came of it, and the gates judge both. Real
Crafter, one table, one report.

Promise: every figure printed was measured in this tour, and the seeds stand beside it. Each tour
writes new folders under `runs/`. It needs no network and no GPU, and a few minutes on two
cores.
"""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.text import Text

from automem.cli import INTERRUPTED
from automem.commands.arguments import Parser
from automem.commands.plan import fresh_dir, spec_from
from automem.commands.play import CONFIG_FILE, exit_code, play_new, resume_line, shortest
from automem.commands.run import Parts, config_of, continue_line, play
from automem.commands.table import Row, print_table, wide_console
from automem.config import compose
from automem.engine.models import EMBEDDED, SHIPPED_SPECIALIST
from automem.errors import AutoMemError, InfrastructureError, UsageError
from automem.loops.lineage import Lineage
from automem.loops.proficiency import Unfinished
from automem.loops.run_results import RunResults
from automem.references import Reference, references_for
from automem.report import write_report
from automem.report_parts.gather import Arm as ReportArm
from automem.rollout.chain import iter_events
from automem.rollout.progress import RunResult
from automem.rollout.ray_local import connected
from automem.rollout.run_dir import locked
from automem.seeds import SeedRange, range_of, seeds_from
from automem.trace.replay import Replay, find_replay
from automem.trace.summary import write_summary
from automem.tracker import NoTracker

EPISODES = 32
"""Decks that each player of the table is dealt: those of conf/run/tour.yaml."""
LIVE = {
    "v0": "small model (base)",
    "evolved": "its scaffold revised (now)",
    "v0 + trained": "its specialist (trained now)",
    "evolved + trained": "revised, then trained (now)",
}
"""What the arms of `automem run` are called here."""
QUICK_EPISODES, QUICK_CRAFTER_STEPS = 8, 100
QUICK_LOOPS = (
    "games=8", "study.episodes=4", "gate.pairs=8", "gate.race=[4]",
    "proficiency.decider.recipes=[{data: {episodes: 16}}]",
    "proficiency.gate.pairs=8", "proficiency.gate.race=[]",
)  # fmt: skip
REFERENCE_NOTE = """\
Rows with a source are published figures of language models. The scripted Crafter player knows the
rules by heart: it shows that world and platform work and says nothing about models."""
PLAYERS = "automem_envs.concentration.players"


@dataclass(frozen=True, slots=True)
class Arm:
    """One player of the embedded game."""

    name: str
    overrides: tuple[str, ...]
    needs_model: bool = False
    remembers: bool = True
    """Whether it has memory files at all."""
    tells_story: bool = False
    """Whether it is one of the two that act by the same rule and differ in their notes alone."""


NO_MEMORY = Arm(
    "no memory",
    ("engine=scripted", "agent.memory=none", f"env.player._target_={PLAYERS}.NoMemoryPlayer"),
    remembers=False,
)
BASE = Arm("small model (base)", ("experiment=embedded",), needs_model=True, tells_story=True)
SHIPPED = Arm(
    "its specialist (shipped)",
    ("experiment=embedded", "specialist=shipped"),
    needs_model=True,
    tells_story=True,
)
PERFECT = Arm("perfect memory (script)", ("engine=scripted",))
STORY = (NO_MEMORY, BASE, *([SHIPPED] if SHIPPED_SPECIALIST.is_dir() else []), PERFECT)
"""Dealt one deck each. Base and specialist act by the same frozen model; their notes differ."""
SLOPPY = Arm(
    "sloppy notes (script)", ("engine=scripted", f"env.player._target_={PLAYERS}.SloppyPlayer")
)
TABLE = (NO_MEMORY, SLOPPY, PERFECT)
"""Dealt the decks of the table that the loops' arms play; the last one is the ceiling of memory
habits."""


def main(argv: list[str]) -> int:
    """Tell the story, play the rest, print the table."""
    parser = Parser(
        "tour",
        "Some minutes: one deck and its replay, both loops in short, real Crafter, one table, "
        "one report.",
        [
            "automem tour",
            "automem tour --quick    # three or four minutes: fewer decks, shorter Crafter",
            "make run",
        ],
    )
    parser.add_argument("--quick", action="store_true", help="fewer decks, shorter Crafter")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    options = parser.parse_args(argv)
    if options.workers < 1:
        raise UsageError(f"--workers must be a whole number of at least 1, got {options.workers}")
    tour = Tour(options.quick, options.workers)
    try:
        return tour.run()
    except KeyboardInterrupt:
        tour.say(f"\nstopped; what was played is in {shortest(tour.folder)}")
        return INTERRUPTED


class Tour:
    """One tour and the folder that it writes to."""

    def __init__(self, is_quick: bool, workers: int) -> None:
        self.folder = fresh_dir(Path("runs"), "tour")
        self._is_quick = is_quick
        self._workers = workers
        self._console = wide_console()
        self._rows: list[Row] = []
        self._seeds: dict[str, str] = {}
        self._caps: dict[str, int] = {}
        self._codes: list[int] = []
        self._arms: list[ReportArm] = []
        self._story = ""
        self._replay: Replay | None = None
        self._loops: RunResults | None = None

    def run(self) -> int:
        """The exit code."""
        began = time.monotonic()
        has_model = (EMBEDDED / "config.json").is_file()
        self.say(
            "AutoMem: a player sees only the present; what it wants to know later it has to write\n"
            "into its memory files, and to find there again.\n",
            style="bold",
        )
        if not has_model:
            self.say("(The small model is not there: `automem pretrain` makes it.)\n")
        self._tell_one_deck([arm for arm in STORY if has_model or not arm.needs_model])
        with connected():
            self._play_decks(TABLE)
            if has_model:
                self._play_both_loops()
            self._play_crafter()
        points = self._published()
        references = [
            Row(f"{point.world.capitalize()}, {point.label}", None, point.source, point.value)
            for point in points
        ]
        print_table([*self._rows, *references], console=self._console)
        if points:
            self.say(REFERENCE_NOTE)
        for world, seeds in self._seeds.items():
            self.say(f"seeds of {world}: {seeds}")
        self._tell_loops()
        self._say_what_next(time.monotonic() - began)
        return next((code for code in self._codes if code), 0)

    def say(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style))

    def _tell_one_deck(self, arms: list[Arm]) -> None:
        """One deck for every arm, then a match of it in four lines."""
        [seed] = seeds_from(SeedRange.REPORT, 1)
        first = True
        outcomes: list[tuple[Arm, float, Path]] = []
        cards = 0
        for arm in arms:
            overrides = ["env=concentration", *arm.overrides, f"rollout.seeds=[{seed}]"]
            config = compose(overrides=[*overrides, "rollout.episodes=1", "rollout.workers=0"])
            cards = config.env.world.cards
            if first:
                self.say(f"One deck, {cards} cards face down, seed {seed}, dealt to:")
                first = False
            run_dir = self.folder / f"deck-{_slug(arm.name)}"
            result = self._play(config, run_dir, "")
            if not result.finished:
                continue
            progression = result.finished[0].progression
            outcomes.append((arm, progression, run_dir))
            self.say(f"  {arm.name:<26}{_found(progression, cards)}")
        self._tell_match([run_dir for arm, _, run_dir in outcomes if arm.remembers])
        told = [progression for arm, progression, _ in outcomes if arm.tells_story]
        if len(told) == 2:
            worst, best = told
            self._story = (
                f"Same player, better note-taker: {round(worst * cards)} to "
                f"{round(best * cards)} of {cards} cards."
            )
            self.say(f"\n{self._story}\n", style="bold green")

    def _tell_match(self, runs: list[Path]) -> None:
        for run_dir in reversed(runs):
            for episode in sorted((run_dir / "episodes").iterdir()):
                if replay := find_replay(iter_events(episode)):
                    self._replay = replay
                    self._print_replay(replay)
                    return

    def _print_replay(self, replay: Replay) -> None:
        self.say("\nOne match, as it came about:")
        for what, text in replay.told():
            first, *others = text.splitlines() or [""]
            self._console.print(Text.assemble((f"  {what:<26}", "cyan"), first))
            for line in others:
                self.say(f"  {'':<26}{line}")

    def _play_both_loops(self) -> None:
        """A revision of the scaffold, a training on what came of it, and each as a row."""
        self.say(
            "\nNow both loops, live and in short. A reviewer studies the base's episodes and\n"
            "revises how its memory is set up. Then the base's own good memory decisions are\n"
            "picked by what came of them, and a LoRA adapter learns them. Gates judge both, on\n"
            "decks that nobody has seen.\n"
        )
        overrides = ["experiment=tour", f"rollout.workers={self._workers}"]
        config = config_of([*overrides, *(QUICK_LOOPS if self._is_quick else ())], None)
        folder = self.folder / "loops"
        parts = Parts(config)
        try:
            with locked(folder):
                OmegaConf.save(config, folder / CONFIG_FILE)
                results = play(parts, folder, self.say, NoTracker())
        except (Unfinished, InfrastructureError) as error:
            self._codes.append(1)
            self.say(f"the loops did not finish: {error}\nGo on with: {continue_line(folder)}")
            return
        self._loops = results
        for arm in results.arms:
            run_dir = folder / arm.runs[0]
            name = LIVE[arm.name]
            self._rows.append(Row(f"Concentration, {name}", write_summary(run_dir)))
            self._arms.append(ReportArm(name, run_dir))

    def _tell_loops(self) -> None:
        """What each loop came to on the same decks, and the gates' words."""
        results = self._loops
        if results is None:
            return
        first, last = results.report_seeds
        lines = ["\nWhat the reviewer proposed, and the gate's word:"]
        for node in Lineage(self.folder / "loops").nodes()[1:]:
            title = node.grown.reasons.strip().partition("\n")[0]
            verdict = node.judged.verdict if node.judged else "not judged"
            lines.append(f"  {title}: {verdict}")
        lines.append(f"Made here, now, on the same {last - first + 1} decks:")
        for arm in results.arms:
            line = f"  {LIVE[arm.name]:<38}{arm.mean:.3f}"
            if arm.difference is not None:
                low, high = arm.difference_interval or (arm.difference, arm.difference)
                line += f"   {arm.difference:+.3f} (95 % interval {low:+.3f} to {high:+.3f})"
            lines.append(line)
        self.say("\n".join(lines), style="bold green")
        self.say(
            "One evolution and one training of one base that was made sloppy on purpose: the\n"
            "mechanism, live. What the gates said: automem lineage "
            f"{shlex.quote(str(shortest(self.folder / 'loops')))}, and log.txt there.\n"
            "The whole 2 x 2, five trainings, other memories: automem run experiment=embedded.\n"
            "There both loops together reached less than training alone: docs/run.md says why."
        )

    def _play_decks(self, arms: Sequence[Arm]) -> None:
        for arm in arms:
            overrides = ["env=concentration", *arm.overrides, "rollout.seeds=report"]
            episodes = QUICK_EPISODES if self._is_quick else EPISODES
            overrides += [f"rollout.episodes={episodes}", f"rollout.workers={self._workers}"]
            self._enter(compose(overrides=overrides), f"Concentration, {arm.name}")

    def _play_crafter(self) -> None:
        overrides = ["env=crafter", "engine=scripted", f"rollout.workers={self._workers}"]
        name = "Crafter, scripted player"
        if self._is_quick:
            overrides.append(f"rollout.max_steps={QUICK_CRAFTER_STEPS}")
            name += f", {QUICK_CRAFTER_STEPS} steps"
        self._enter(compose(overrides=overrides), name)

    def _published(self) -> list[Reference]:
        """Reference points from elsewhere."""
        caps = self._caps.items()
        return [point for world, cap in caps for point in references_for(world, cap)]

    def _enter(self, config: DictConfig, name: str) -> None:
        """Play one row of the table."""
        run_dir = self.folder / _slug(name)
        try:
            result = self._play(config, run_dir, name)
        except AutoMemError as error:
            self._codes.append(1)
            self._rows.append(Row(name, None, f"failed: {error}"))
            return
        seeds = [key.seed for key in spec_from(config).episodes]
        self._seeds[config.env.name] = seeds_in_words(seeds)
        self._rows.append(Row(name, write_summary(run_dir)))
        self._caps[config.env.name] = config.rollout.max_steps or config.env.world.max_steps
        self._codes.append(exit_code(result, run_dir))
        # The page has a section for each world, which need not be named again.
        self._arms.append(ReportArm(name.partition(", ")[2], run_dir))

    def _play(self, config: DictConfig, run_dir: Path, name: str) -> RunResult:
        result = play_new(spec_from(config), run_dir, config, title=name, is_shown=bool(name))
        if result.interrupted:
            self.say(f"stopped; play this run on with: {resume_line(run_dir)}")
            raise KeyboardInterrupt
        return result

    def _write_report(self) -> Path:
        """One page over every row of the table, the replay first."""
        return write_report(
            self._arms,
            title="AutoMem: the tour",
            story=self._story,
            references=self._published(),
            replay=self._replay,
            out=self.folder / "report.html",
        )

    def _say_what_next(self, seconds: float) -> None:
        here = shlex.quote(str(shortest(self.folder)))
        self.say(f"\n{seconds:.0f} s in all. Written: {here}")
        self.say(f"report:  {shortest(self._write_report())}   (open it in a browser)")
        example = "concentration-perfect-memory-script"
        self.say(
            f'next:    automem query {here} "select run, avg(progression) from episodes '
            f'group by run"\n'
            f"         automem show {here}/{example}\n"
            "         automem rollout env=crafter engine=openai engine.base_url=http://... "
            "engine.model=..."
        )


def _found(progression: float, cards: int) -> str:
    return f"{round(progression * cards):>3} of {cards} cards found"


def _slug(name: str) -> str:
    kept = "".join(letter if letter.isalnum() else " " for letter in name.lower())
    return "-".join(kept.split())


def seeds_in_words(seeds: list[int]) -> str:
    """`42 to 51 (published)`."""
    unique = sorted(set(seeds))
    whole = unique == list(range(unique[0], unique[-1] + 1))
    words = (
        f"{unique[0]} to {unique[-1]}" if whole and len(unique) > 1 else ", ".join(map(str, unique))
    )
    ranges = {range_of(seed) for seed in unique}
    names = "/".join(sorted(name.value for name in ranges if name))
    return f"{words} ({names})" if names else words
