"""Kill a rollout in every way there is; after `automem resume` its traces must be those of a run
that nobody disturbed.

    python benchmarks/durability.py                       # 24 kills over both worlds, ~8 minutes
    python benchmarks/durability.py --kills 6 --worlds concentration

Kills are `kill -9`: at named points of the code (before and after a journal write, a rename, an
event, compaction, `episode.json`), or once a random number of records is written; of the driver,
of a worker under Ray, or of both. Equality is of every field of every event but the listed volatile
ones (`automem.trace.events.VOLATILE`), and of the memory folders.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path

from rich.console import Console
from rich.table import Table

from automem.rollout.journal import read_events
from automem.rollout.lease import read_lease
from automem.trace.compare import first_difference

WORLDS = {
    "crafter": ["env=crafter", "rollout.seeds=[42,43]", "rollout.max_steps=60"],
    "concentration": ["env=concentration", "rollout.seeds=[1,2]", "scaffold=v0"],
}
POINTS = [
    "journal.before:200",
    "journal.after:97",
    "rename.before:21",
    "rename.after:33",
    "event.observe:40",
    "event.turn:111",
    "event.op:50",
    "event.commit:70",
    "compaction.before:1",
    "compaction.after:2",
    "episode_json.before:1",
    "episode_json.after:2",
]
MODEL_S = 0.01
"""Time of a model call, so that random moments fall all over an episode."""
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Kill:
    """One way to die."""

    world: str
    whom: str
    """`driver` (without Ray: worker and driver are one), `worker`, `ray driver`, or `both`."""
    moment: str
    """A named point, or `random`."""


@dataclass(frozen=True)
class Outcome:
    """What became of a kill."""

    kill: Kill
    records_at_death: int
    resumes: int
    seconds: float
    difference: str
    """Empty where all traces are equal."""


def plan(count: int, worlds: list[str], rng: random.Random) -> list[Kill]:
    """Half of the kills at named points, half at random moments, over the worlds in turn."""
    points, whoms = iter(_shuffled(POINTS, rng)), cycle(["worker", "ray driver", "both", "driver"])
    kills: list[Kill] = []
    for number, world in enumerate(islice(cycle(worlds), count)):
        if number // len(worlds) % 2:
            kills.append(Kill(world, next(whoms), "random"))
        else:
            whom = "worker" if number // len(worlds) % 4 == 2 else "driver"
            kills.append(Kill(world, whom, next(points)))
    return kills


def _shuffled(points: list[str], rng: random.Random) -> Iterator[str]:
    while True:
        yield from rng.sample(points, len(points))


def command(world: str, run_dir: Path, workers: int) -> list[str]:
    """The rollout, as a person would start it."""
    settings = ["engine=scripted", f"engine.target.latency_s={MODEL_S}", f"run.dir={run_dir}"]
    return [*automem("rollout"), *WORLDS[world], *settings, f"rollout.workers={workers}"]


def automem(name: str) -> list[str]:
    return [str(Path(sys.executable).with_name("automem")), name]


def start(words: list[str], run_dir: Path, crash: str = "") -> subprocess.Popen[bytes]:
    """A process of its own, whose words are added to `log_of(run_dir)`."""
    env = {**os.environ, "AUTOMEM_CRASH": crash}
    with open(log_of(run_dir), "ab") as log:
        return subprocess.Popen(words, env=env, stdout=log, stderr=log, start_new_session=True)


def log_of(run_dir: Path) -> Path:
    return run_dir.with_suffix(".log")


def strike(kill: Kill, run_dir: Path, total: int, rng: random.Random) -> int:
    """Run until the kill has happened and the driver is gone; records written by then."""
    workers = 0 if kill.whom == "driver" else 2
    once = run_dir.with_suffix(".died")
    crash = "" if kill.moment == "random" else f"{kill.moment};once={once}"
    driver = start(command(kill.world, run_dir, workers), run_dir, crash)
    at_death = 0
    if kill.moment == "random":
        target = rng.randrange(5, total * 9 // 10)
        wait_until(lambda: records(run_dir) >= target or driver.poll() is not None)
        at_death = records(run_dir)
        if kill.whom in ("worker", "both"):
            for pid in workers_of(run_dir)[:1]:
                os.kill(pid, signal.SIGKILL)
        if kill.whom != "worker":
            driver.kill()
    elif workers:
        wait_until(lambda: once.exists() or driver.poll() is not None)
        at_death = records(run_dir)
    driver.wait(PATIENCE_S)
    return at_death or records(run_dir)


def endure(kill: Kill, run_dir: Path, reference: Path, rng: random.Random) -> Outcome:
    """Kill, resume until the run is complete, compare."""
    began = time.monotonic()
    at_death = strike(kill, run_dir, records(reference), rng)
    resumes = 0
    while not is_complete(run_dir, reference) and resumes < 3:
        resumes += 1
        start([*automem("resume"), str(run_dir)], run_dir).wait(PATIENCE_S)
    difference = compare(run_dir, reference)
    return Outcome(kill, at_death, resumes, time.monotonic() - began, difference)


def compare(run_dir: Path, reference: Path) -> str:
    """The first difference over all episodes; empty where there is none."""
    for folder in sorted((reference / "episodes").iterdir()):
        mine = run_dir / "episodes" / folder.name
        if not (mine / "episode.json").exists():
            return f"{folder.name} is not finished"
        if found := first_difference(read_events(mine), read_events(folder)):
            return f"{folder.name}: {found}"
        if memory_of(mine) != memory_of(folder):
            return f"{folder.name}: the memory folders differ"
    return ""


def memory_of(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "memory").iterdir()}


def is_complete(run_dir: Path, reference: Path) -> bool:
    names = [folder.name for folder in (reference / "episodes").iterdir()]
    return all((run_dir / "episodes" / name / "episode.json").exists() for name in names)


def records(run_dir: Path) -> int:
    """Lines in all journals."""
    paths = (run_dir / "episodes").glob("*/journal/*.jsonl")
    return sum(path.read_bytes().count(b"\n") for path in paths)


def workers_of(run_dir: Path) -> list[int]:
    """Processes that play unfinished episodes."""
    folders = [f for f in (run_dir / "episodes").glob("*") if not (f / "episode.json").exists()]
    return sorted({lease.pid for lease in map(read_lease, folders) if lease is not None})


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing happened for {PATIENCE_S:.0f} s")
        time.sleep(0.02)


def table_of(outcomes: list[Outcome]) -> Table:
    equal = sum(not outcome.difference for outcome in outcomes)
    table = Table(title=f"{equal} of {len(outcomes)} killed runs have the undisturbed traces")
    for column in ("world", "killed", "moment", "records by then", "resumes", "seconds", "traces"):
        table.add_column(column, justify="right" if column[0] in "rs" else "left")
    for outcome in outcomes:
        kill = outcome.kill
        table.add_row(
            kill.world,
            kill.whom,
            kill.moment,
            str(outcome.records_at_death),
            str(outcome.resumes),
            f"{outcome.seconds:.1f}",
            outcome.difference or "equal",
        )
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--worlds", nargs="+", choices=sorted(WORLDS), default=sorted(WORLDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the outcomes here, as JSON")
    options = parser.parse_args()
    rng, console = random.Random(options.seed), Console()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="automem-durability-") as scratch:
        root = Path(scratch)
        for world in options.worlds:
            console.print(f"{world}: the undisturbed run")
            if start(command(world, root / world, workers=0), root / world).wait(PATIENCE_S):
                console.print(f"the undisturbed run of {world} failed:")
                console.print(log_of(root / world).read_text(), markup=False)
                return 1
        for number, kill in enumerate(plan(options.kills, options.worlds, rng), 1):
            outcome = endure(kill, root / f"kill-{number}", root / kill.world, rng)
            outcomes.append(outcome)
            verdict = outcome.difference or "equal"
            where = f"{kill.world}, {kill.whom} at {kill.moment}"
            console.print(f"{number}/{options.kills} {where}: {verdict}", highlight=False)
            if outcome.difference:
                console.print(log_of(root / f"kill-{number}").read_text()[-2000:], markup=False)
    console.print(table_of(outcomes))
    if options.out:
        options.out.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    return int(any(outcome.difference for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
