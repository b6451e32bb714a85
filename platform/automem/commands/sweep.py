"""A sweep: the points of `-m`, played here or as tasks on Ray, and their table.

Promise: every point has a folder of its own; one that fails, even by the death of its process, does
not stop the others, and is named in the table with its reason. Points are played on the driver's
node, since that is where their folders are; their workers are wherever the cluster has room.
"""

import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.errors import HydraException
from omegaconf import DictConfig

from automem.cli import FAILED, INTERRUPTED
from automem.commands.compare import has_figures, write_comparison
from automem.commands.plan import fresh_dir
from automem.commands.play import broken_off, cut_short, exit_code, play_new, resume_line, shortest
from automem.commands.table import Row, print_table
from automem.config import parse_overrides
from automem.errors import AutoMemError, InfrastructureError, UsageError
from automem.rollout.run_dir import RUN_FILE
from automem.rollout.spec import RolloutSpec
from automem.trace.summary import write_summary

LAUNCHERS = ("local", "ray")


class Outcome(NamedTuple):
    """What came of a point."""

    code: int
    """As the process would exit."""
    note: str = ""


class Playable(Protocol):
    """A point: checked, not yet started; it can be sent to another process."""

    @property
    def overrides(self) -> list[str]: ...

    @property
    def config(self) -> DictConfig: ...

    def play(self, run_dir: Path, title: str, is_shown: bool = True) -> Outcome:
        """Play it, whatever becomes of it."""
        ...

    def row(self, run_dir: Path, title: str, outcome: Outcome) -> Row:
        """Its row in the table."""
        ...

    def again(self, run_dir: Path) -> str:
        """The command that goes on with it."""
        ...


@dataclass(frozen=True, slots=True)
class Point:
    """One rollout."""

    overrides: list[str]
    config: DictConfig
    spec: RolloutSpec

    def play(self, run_dir: Path, title: str, is_shown: bool = True) -> Outcome:
        """See `Playable`."""
        with ending() as end:
            try:
                result = play_new(self.spec, run_dir, self.config, title=title, is_shown=is_shown)
                end.outcome = Outcome(exit_code(result, run_dir))
            except KeyboardInterrupt:
                end.outcome = Outcome(cut_short(run_dir))
            except InfrastructureError as error:
                end.outcome = Outcome(broken_off(error, run_dir), str(error))
        return end.outcome

    def row(self, run_dir: Path, title: str, outcome: Outcome) -> Row:
        """See `Playable`."""
        has_run = (run_dir / RUN_FILE).exists() and outcome.code != FAILED
        return Row(title, write_summary(run_dir) if has_run else None, outcome.note)

    def again(self, run_dir: Path) -> str:
        """See `Playable`."""
        return resume_line(run_dir)


@dataclass(slots=True)
class _End:
    outcome: Outcome


@contextmanager
def ending() -> Iterator[_End]:
    """How a point ended: what breaks is its outcome and must not cost the others."""
    end = _End(Outcome(FAILED))
    try:
        yield end
    except AutoMemError as error:
        end.outcome = Outcome(FAILED, f"failed: {error}")
    except Exception as error:  # noqa: BLE001 - one broken point must not cost the others
        traceback.print_exc()
        end.outcome = Outcome(FAILED, f"failed: {error!r}")


Launch = Callable[[Sequence[tuple[Playable, Path, str]]], Iterator[tuple[int, Outcome]]]
"""Plays points, each with its folder and name; gives the place and outcome of each as it ends.
After Ctrl-C no more are begun."""


def play_grid(points: Sequence[Playable], settings: dict[str, Any]) -> int:
    """Play every point; the exit code of the first one that did not end well."""
    launch = launcher(settings)
    swept = swept_keys([point.overrides for point in points])
    root = root_of(points[0])
    jobs = [
        (point, root / f"{number:03d}", _name(point, swept)) for number, point in enumerate(points)
    ]
    outcomes: dict[int, Outcome] = {}
    for place, outcome in launch(jobs):
        outcomes[place] = outcome
    return tell([(*jobs[place], outcomes[place]) for place in sorted(outcomes)], root)


def _name(point: Playable, swept: set[str]) -> str:
    """The overrides that tell it from the others."""
    return " ".join(word for word in point.overrides if word.partition("=")[0] in swept)


def tell(played: Sequence[tuple[Playable | None, Path, str, Outcome]], root: Path) -> int:
    """The table of a sweep, where it lies, and what to do next; the exit code. No point: one that
    could not be made."""
    rows = []
    for point, path, name, outcome in played:
        title = f"{path.name} {name}"
        rows.append(point.row(path, title, outcome) if point else Row(title, None, outcome.note))
    print_table(rows)
    here = shlex.quote(str(shortest(root)))
    finished = [path for _, path, _, _ in played if has_figures(path)]
    if len(finished) > 1:
        page = write_comparison(finished, root)
        print(f"written: {here}, one folder for each run; {shlex.quote(str(shortest(page)))}")
        print(f"next:    automem compare {here}")
    else:
        print(f"written: {here}, one folder for each run")
    print(
        f'         automem query {here} "select run, avg(progression) from episodes group by run"'
    )
    return next((outcome.code for *_, outcome in played if outcome.code), 0)


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """The points of a sweep: every combination of `a=1,2`, `choice(...)` and `range(...)`."""
    try:
        [points] = BasicSweeper.split_arguments(parse_overrides(overrides), max_batch_size=None)
    except HydraException as error:
        raise UsageError(f"cannot sweep over this: {error}") from error
    return points


def root_of(point: Playable) -> Path:
    """The folder of the whole sweep."""
    base = point.config.run.dir
    if base:
        return Path(base).expanduser().resolve()
    return fresh_dir(Path("multirun"), "sweep")


def swept_keys(points: Sequence[Sequence[str]]) -> set[str]:
    """Keys that differ between points."""
    values: dict[str, set[str]] = {}
    for overrides in points:
        for word in overrides:
            values.setdefault(word.partition("=")[0], set()).add(word)
    return {key for key, words in values.items() if len(words) > 1}


def launcher(settings: dict[str, Any]) -> Launch:
    """How points are played: `sweep.launcher`."""
    if settings["launcher"] not in LAUNCHERS:
        raise UsageError(
            f"sweep.launcher must be one of {', '.join(LAUNCHERS)}, got {settings['launcher']!r}"
        )
    for key, least in (("parallel", 1), ("trials", 1), ("cpus", 0)):
        if not settings.get(key, least) >= least:
            raise UsageError(f"sweep.{key} must be at least {least}, got {settings[key]}")
    if settings["launcher"] == "ray":
        from automem.commands.sweep_ray import launch

        return partial(launch, parallel=settings["parallel"], cpus=settings.get("cpus") or 0.0)
    return _launch_here


def _launch_here(jobs: Sequence[tuple[Playable, Path, str]]) -> Iterator[tuple[int, Outcome]]:
    for place, (point, run_dir, name) in enumerate(jobs):
        print(f"[{place + 1}/{len(jobs)}] {name or 'the same'} → {run_dir}", file=sys.stderr)
        outcome = point.play(run_dir, name)
        yield place, outcome
        if outcome.code == INTERRUPTED:
            return
