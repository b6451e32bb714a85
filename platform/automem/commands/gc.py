"""`automem gc`: retention. What old runs need no more is removed; what a resume, a table, a report
or a policy version needs stays.

Promise: nothing is removed without `--yes`; before that the command says what it would remove and
how much that is. Never touched: a run that is being played, one with episodes left to play, the
runs of a loop that is at work or has not come to its results, here or stored, and in the default
level everything but journals and leases of finished episodes (their Parquet tables hold the same
events) and what a stored loop's manifest names no more. Not covered: the registry's versions, which
are immutable.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from omegaconf import OmegaConf
from rich import box
from rich.table import Table
from yaml import YAMLError

from automem.commands.arguments import Parser
from automem.commands.play import CONFIG_FILE, shortest
from automem.commands.run import MARK as RIVALS
from automem.commands.table import wide_console
from automem.errors import UsageError
from automem.loops.experiment import RESULTS
from automem.loops.ledger import LEDGER
from automem.loops.lineage import LINEAGE
from automem.loops.run_results import RESULTS as RESULTS_OF_BOTH
from automem.loops.stored_loop import loops_below, rollouts_of
from automem.rollout.chain import JOURNAL_FOLDER
from automem.rollout.finish import DONE_FILE
from automem.rollout.run_dir import LOCK_FILE, RUN_FILE
from automem.rollout.scratch import scratch_root
from automem.rollout.stored_run import StoredRun, runs_below
from automem.storage.store import Store
from automem.trace.summary import planned_episodes, read_run

EXAMPLES = [
    "automem gc runs                              # what could go: journals of finished episodes",
    "automem gc runs --older-than 30 --yes        # remove them where the run is 30 days old",
    "automem gc runs --level runs --older-than 90 --yes       # the whole runs",
    "automem gc --storage s3://bucket/automem --older-than 30 --yes",
    "automem gc --scratch --yes                   # what dead workers left on this machine",
]
LEVELS = ("journals", "runs")
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Find:
    """Something that could go."""

    what: str
    path: Path | None
    """On this machine; else it lies in `stored`."""
    bytes: int
    age_s: float
    stored: Store | None = None
    names: tuple[str, ...] = ()
    """Folders of `stored` to remove."""


def main(argv: list[str]) -> int:
    """See the module's docstring."""
    parser = Parser(
        "gc", "Remove what old runs need no more. Without --yes it only says so.", EXAMPLES
    )
    parser.add_argument("folders", nargs="*", type=Path, metavar="DIR", help="folders with runs")
    parser.add_argument(
        "--level", default="journals", metavar="|".join(LEVELS), help="how much goes"
    )
    parser.add_argument("--older-than", type=float, default=0.0, metavar="DAYS")
    parser.add_argument("--storage", metavar="URL", help="runs and loops stored there")
    parser.add_argument("--scratch", action="store_true", help="workers' folders on this machine")
    parser.add_argument("--yes", action="store_true", help="do it")
    options = parser.parse_args(argv)
    if options.level not in LEVELS:
        raise UsageError(f"--level {options.level}: expected one of {', '.join(LEVELS)}")
    if not (options.folders or options.storage or options.scratch):
        raise UsageError(
            "give a folder with runs, --storage URL or --scratch; see automem gc --help"
        )
    oldest_s = options.older_than * DAY_S
    found = [find for folder in options.folders for find in in_folder(folder, options.level)]
    if options.storage:
        found += in_storage(options.storage, options.level)
    if options.scratch:
        found += in_scratch()
    found = [find for find in found if find.age_s >= oldest_s]
    _print(found)
    if options.yes:
        for find in found:
            remove(find)
        print(f"removed: {_size(sum(find.bytes for find in found))}")
    elif found:
        print("nothing was removed; add --yes")
    return 0


def in_folder(folder: Path, level: str) -> Iterator[Find]:
    """What the runs below a folder could spare; UsageError where the folder is none."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder")
    needs_runs = cache(_needs_runs)
    runs = sorted(path.parent for path in folder.resolve().glob(f"**/{RUN_FILE}"))
    for run_dir in runs:
        if is_played(run_dir) or _left(run_dir) or any(map(needs_runs, run_dir.parents)):
            continue
        age_s = time.time() - (run_dir / RUN_FILE).stat().st_mtime
        if level == "runs":
            yield Find("run", run_dir, _bytes(run_dir), age_s)
            continue
        journals = list(run_dir.glob(f"episodes/*/{JOURNAL_FOLDER}"))
        if journals:
            size = sum(_bytes(path) for path in journals)
            yield Find("journals", run_dir, size, age_s, names=tuple(map(str, journals)))


def in_storage(url: str, level: str) -> Iterator[Find]:
    """The same for runs and loops under a storage URL: segments and leftovers, or all of them."""
    loops = loops_below(url)
    needed = {run for each in loops if not each[1].is_done for run in rollouts_of(*each)}
    for place in runs_below(url):
        if place in needed:
            continue
        stored = StoredRun(place)
        age_s, left = _stored_age_and_left(stored)
        if left:
            continue
        names = ("segments",) if level == "journals" else ("",)
        size = sum(stored.store.size(name) for name in names)
        if size:
            yield Find(f"stored {level}", None, size, age_s, stored.store, names)
    for loop, manifest in loops:
        if not manifest.is_done:
            continue
        named = set(manifest.files.values())
        loose = tuple(f"objects/{name}" for name in loop.names("objects") if name not in named)
        going = ("",) if level == "runs" else loose
        if going:
            age_s = time.time() - manifest.written
            size = sum(loop.size(name) for name in going)
            what = "stored loop" if level == "runs" else "leftovers of a stored loop"
            yield Find(what, None, size, age_s, loop, going)


def in_scratch() -> Iterator[Find]:
    """Folders of workers that are gone; a living worker's has changed within the last day."""
    for folder in sorted(scratch_root().glob("*/*")):
        newest = max((path.stat().st_mtime for path in folder.rglob("*")), default=0.0)
        age_s = time.time() - max(newest, folder.stat().st_mtime)
        if age_s > DAY_S:
            yield Find("scratch", folder, _bytes(folder), age_s)


def remove(find: Find) -> None:
    """Do it."""
    if find.stored is not None:
        for name in find.names:
            find.stored.remove(name)
    elif find.names:
        for name in find.names:
            shutil.rmtree(name)
    elif find.path is not None:
        shutil.rmtree(find.path)


def is_played(run_dir: Path) -> bool:
    """Whether a process owns the run now."""
    try:
        descriptor = os.open(run_dir / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _needs_runs(folder: Path) -> bool:
    """Whether this is the folder of a loop, at work or to be gone on with."""
    config = folder / CONFIG_FILE
    if (folder / RUN_FILE).exists() or not (config.exists() and (folder / LOCK_FILE).exists()):
        return False
    try:
        is_both = RIVALS in OmegaConf.load(config)
    except (YAMLError, OSError, TypeError):
        return True  # nothing can be told: spared
    results = folder / (RESULTS_OF_BOTH if is_both else RESULTS)
    if is_played(folder) or not results.exists():
        return True
    books = [*folder.rglob(LEDGER), *folder.glob(LINEAGE)]
    written = results.stat().st_mtime
    return any(path.stat().st_mtime > written for path in books)  # another round was begun


def _left(run_dir: Path) -> bool:
    """Whether a resume would still play something."""
    planned = planned_episodes(read_run(run_dir))
    return any(not (run_dir / "episodes" / name / DONE_FILE).exists() for name in planned)


def _stored_age_and_left(stored: StoredRun) -> tuple[float, bool]:
    data = stored.store.read(RUN_FILE)
    if data is None:
        return 0.0, True
    run = json.loads(data)
    planned = planned_episodes(run)
    return time.time() - float(run["created"]), not planned <= stored.finished()


def _bytes(path: Path) -> int:
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _print(found: list[Find]) -> None:
    if not found:
        print("nothing to remove")
        return
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("what", "where", "days", "size"):
        table.add_column(column, justify="right" if column in ("days", "size") else "left")
    for find in found:
        where = find.stored.url if find.stored is not None else str(shortest(find.path or Path()))
        table.add_row(find.what, where, f"{find.age_s / DAY_S:.1f}", _size(find.bytes))
    wide_console().print(table)
