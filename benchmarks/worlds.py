"""How fast the worlds are: text steps per second and seconds per reset, for every one.

    python benchmarks/worlds.py [--seconds 2] [--only crafter nethack]

Random actions of each world's own, in one process; resets are timed apart. Crafter stands beside
the package's own environment, which draws pictures: the two take turns in the same run, slice by
slice, so that a busy machine slows both. Rates are given per second of wall time and per second of
the process's CPU time; the latter is what a crowded machine leaves comparable. The targets of the
project are checked at the end, by CPU time. Worlds whose packages are missing are named and left
out. Writes benchmarks/results/worlds.json.
"""

import argparse
import json
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from rich import box
from rich.console import Console
from rich.table import Table

from automem.errors import AutoMemError

RESULTS = Path(__file__).parent / "results" / "worlds.json"
_SLICE = 200
"""Steps between two looks at the clock, and between two turns of a pair."""
_WALKS = [
    *("north", "south", "east", "west", "northeast", "northwest", "southeast", "southwest"),
    *("far north", "far south", "far east", "far west", "search", "down"),
]
_BOXOBAN = ["north", "south", "east", "west"]
_GRID = ["turn left", "turn right", "go ahead", "go ahead", "open", "wait"]
_TASKS = {
    "Boxoban-Hard": _BOXOBAN,
    "Boxoban-Medium": _BOXOBAN,
    "MazeWalk-9x9": _WALKS,
    "MazeWalk-15x15": _WALKS,
    "Corridor-R3": _WALKS,
    "CorridorBattle-Dark": _WALKS,
    "Quest-Easy": _WALKS,
    "Quest-Medium": _WALKS,
}
_GAMES = {
    "RepeatPrevious": ["spades", "diamonds", "clubs", "hearts", "next"],
    "CountRecall": ["0", "3", "17", "next"],
    "DeckConcentration": ["flip 1", "flip next", "flip 30", "flip 52", "flip 7"],
    "Battleship": ["shoot 1 1", "shoot 3 4", "shoot 10 10", "shoot 7 2"],
    "GridMemory": _GRID,
    "RedBlueDoors": _GRID,
    "Memento": ["north", "south", "east", "west"],
}
_RECORD = {"id": "1", "questions": ["Who?", "Where?"] * 10, "answers": ["Ada", "Rome"] * 10}


@dataclass(frozen=True)
class Course:
    """One world to be timed."""

    name: str
    target: dict[str, Any]
    actions: list[str]
    """Empty: the world's own list."""


@dataclass(frozen=True)
class Timing:
    """What was measured."""

    world: str
    steps: int
    steps_per_s: float
    steps_per_cpu_s: float
    resets: int
    reset_s: float
    """Mean wall time."""
    reset_cpu_s: float


def courses(scratch: Path) -> Iterator[Course]:
    """Every shipped world."""
    yield Course("crafter", {"_target_": "automem_envs.crafter.CrafterWorld"}, [])
    yield Course("nethack", {"_target_": "automem_envs.nethack.NetHackWorld"}, _WALKS)
    for task, actions in _TASKS.items():
        target = {"_target_": "automem_envs.minihack.MiniHackWorld", "task": task}
        yield Course(f"minihack {task}", target, actions)
    cards = {"_target_": "automem_envs.concentration.ConcentrationWorld"}
    yield Course("concentration", cards, [f"flip {card:02d}" for card in range(1, 41)])
    talk = ["next", "unknown", "north", "take key"]
    yield Course("sessions", {"_target_": "automem_envs.sessions.SessionsWorld"}, talk)
    records = scratch / "records.jsonl"
    records.write_text(json.dumps(_RECORD) + "\n")
    recorded = {
        "_target_": "automem_envs.sessions.RecordedSessionsWorld",
        "form": "memory_arena",
        "path": str(records),
    }
    yield Course("recorded_sessions", recorded, ["next", "Ada", "Rome"])
    for game, actions in _GAMES.items():
        target = {"_target_": f"automem_envs.memory_games.{game}World"}
        yield Course(game, target, actions)


class Stopwatch:
    """Wall and CPU time of what is done under it, summed."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        wall, cpu = self._began
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


class Runner:
    """Walks through one world at random, slice by slice."""

    def __init__(
        self, name: str, reset: Callable[[int], object], step: Callable[[random.Random], bool]
    ) -> None:
        self.name = name
        self._reset, self._step = reset, step
        self._draw = random.Random(0)
        self._stepping, self._resetting = Stopwatch(), Stopwatch()
        self._steps = self._resets = 0
        reset(0)  # what only the first reset does (compiling, loading) is not counted

    def again(self) -> None:
        """A counted reset."""
        self._resets += 1
        with self._resetting:
            self._reset(self._resets)

    def slice(self, count: int = _SLICE) -> None:
        """So many steps, resets in between."""
        left = count
        while left > 0:
            done = False
            with self._stepping:
                while left > 0 and not done:
                    done = self._step(self._draw)
                    left -= 1
                    self._steps += 1
            if done:
                self.again()

    def is_done(self, seconds: float) -> bool:
        """Whether it stepped for so long, or five times that with resets."""
        all_of_it = self._stepping.cpu + self._resetting.cpu
        return self._steps > 0 and max(self._stepping.cpu, all_of_it / 5) >= seconds

    def timing(self) -> Timing:
        """What came of it."""
        return Timing(
            self.name,
            self._steps,
            round(self._steps / self._stepping.wall, 1),
            round(self._steps / self._stepping.cpu, 1),
            self._resets,
            round(self._resetting.wall / self._resets, 5),
            round(self._resetting.cpu / self._resets, 5),
        )


def text_runner(course: Course) -> Runner:
    """A world of ours."""
    world = instantiate(course.target, _convert_="all")
    actions = course.actions or list(world.actions)

    def step(draw: random.Random) -> bool:
        _, _, terminated, truncated, _ = world.step(draw.choice(actions))
        return bool(terminated or truncated)

    return Runner(course.name, lambda seed: world.reset(seed=seed), step)


def rendered_crafter() -> Runner:
    """The package's own environment, pictures and all."""
    import crafter

    pictures = crafter.Env(seed=0)

    def step(draw: random.Random) -> bool:
        return bool(pictures.step(draw.randrange(17))[2])

    return Runner("crafter, the rendered package", lambda _: pictures.reset(), step)


def time_all(runners: list[Runner], seconds: float) -> list[Timing]:
    """Let them take turns until each had its time and at least three resets."""
    for _ in range(3):
        for runner in runners:
            runner.again()
    while not all(runner.is_done(seconds) for runner in runners):
        for runner in runners:
            if not runner.is_done(seconds):
                runner.slice()
    return [runner.timing() for runner in runners]


def targets(timings: list[Timing]) -> list[tuple[str, float, bool]]:
    """What the project promises: (words, measured, kept)."""
    by_name = {timing.world: timing for timing in timings}
    found: list[tuple[str, float, bool]] = []
    text, rendered = by_name.get("crafter"), by_name.get("crafter, the rendered package")
    if text and rendered:
        ratio = text.steps_per_cpu_s / rendered.steps_per_cpu_s
        found.append(("Crafter's text, times the rendered package (at least 5)", ratio, ratio >= 5))
        found.append(
            ("Crafter's reset, CPU seconds (under 0.2)", text.reset_cpu_s, text.reset_cpu_s < 0.2)
        )
    if timing := by_name.get("nethack"):
        rate = timing.steps_per_cpu_s
        found.append(("NetHack, steps per CPU second (at least 5,000)", rate, rate >= 5000))
    tasks = [timing for timing in timings if timing.world.startswith("minihack")]
    if tasks:
        slowest = min(timing.steps_per_cpu_s for timing in tasks)
        words = "MiniHack's slowest task, steps per CPU second (at least 5,000)"
        found.append((words, slowest, slowest >= 5000))
    return found


def show(timings: list[Timing], promises: list[tuple[str, float, bool]], console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("world", "steps/s", "steps/CPU s", "reset s", "reset CPU s"):
        table.add_column(column, justify="left" if column == "world" else "right", no_wrap=True)
    for timing in timings:
        table.add_row(
            timing.world,
            f"{timing.steps_per_s:,.0f}",
            f"{timing.steps_per_cpu_s:,.0f}",
            f"{timing.reset_s:.4f}",
            f"{timing.reset_cpu_s:.4f}",
        )
    console.print(table)
    for words, value, is_kept in promises:
        console.print(f"{words}: {value:,.3g}, {'kept' if is_kept else 'MISSED'}", highlight=False)


def main() -> int:
    """Time, print, write; 1 where a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="CPU time of steps per world")
    parser.add_argument("--only", nargs="+", help="worlds whose names begin so")
    options = parser.parse_args()
    console = Console(width=max(100, Console().width))
    timings: list[Timing] = []
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="automem-worlds-") as scratch:
        for course in courses(Path(scratch)):
            if options.only and not course.name.startswith(tuple(options.only)):
                continue
            try:
                runners = [text_runner(course)]
            except (ImportError, AutoMemError) as error:
                missing[course.name] = str(error)
                continue
            if course.name == "crafter":
                runners.append(rendered_crafter())
            timings += time_all(runners, options.seconds)
            console.print(f"{course.name} timed", highlight=False)
    promises = targets(timings)
    show(timings, promises, console)
    for name, why in missing.items():
        console.print(f"{name} was left out: {why}", highlight=False)
    if not options.only:
        facts = {
            "what": "random walks of the text worlds in one process; resets timed apart",
            "machine": f"{platform.machine()}, CPU, Python {platform.python_version()}",
            "worlds": [asdict(timing) for timing in timings],
            "targets": [{"what": w, "measured": round(v, 4), "kept": k} for w, v, k in promises],
            "left_out": missing,
        }
        RESULTS.write_text(json.dumps(facts, indent=1) + "\n")
        console.print(f"written to {RESULTS}")
    return int(not all(is_kept for _, _, is_kept in promises))


if __name__ == "__main__":
    sys.exit(main())
