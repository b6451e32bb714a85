"""A sweep: the points of `automem rollout -m`, played here or as tasks on Ray, and their table.

Promise: every point has a folder of its own; one that fails, even by the death of its process, does
not stop the others, and is named in the table with its reason. Points are played on the driver's
node, since that is where their folders are; their workers are wherever the cluster has room.
"""

import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from automem.cli import FAILED, INTERRUPTED
from automem.commands.compare import write_comparison
from automem.commands.plan import fresh_dir
from automem.commands.play import broken_off, cut_short, exit_code, play_new, shortest
from automem.commands.table import Row, print_table
from automem.errors import AutoMemError, InfrastructureError, UsageError
from automem.rollout.spec import RolloutSpec
from automem.trace.summary import write_summary

LAUNCHERS = ("local", "ray")


@dataclass(frozen=True, slots=True)
class Point:
    """One run to be played: checked, not yet started."""

    overrides: list[str]
    config: DictConfig
    spec: RolloutSpec

    def name(self, swept: set[str]) -> str:
        """The overrides that tell it from the others."""
        return " ".join(word for word in self.overrides if word.partition("=")[0] in swept)


class Outcome(NamedTuple):
    """What came of a point."""

    code: int
    """As the process would exit."""
    note: str = ""


Launch = Callable[[Sequence[tuple[Point, Path, str]]], Iterator[tuple[int, Outcome]]]
"""Plays points, each with its folder and name; gives the place and outcome of each as it ends.
After Ctrl-C no more are begun."""


def play_grid(points: list[Point], settings: dict[str, Any]) -> int:
    """Play every point; the exit code of the first one that did not end well."""
    launch = launcher(settings)
    swept = swept_keys([point.overrides for point in points])
    root = root_of(points[0])
    jobs = [
        (point, root / f"{number:03d}", point.name(swept)) for number, point in enumerate(points)
    ]
    outcomes: dict[int, Outcome] = {}
    for place, outcome in launch(jobs):
        outcomes[place] = outcome
    return tell(
        [(jobs[place][1], jobs[place][2], outcomes[place]) for place in sorted(outcomes)], root
    )


def tell(played: Sequence[tuple[Path, str, Outcome]], root: Path) -> int:
    """The table of a sweep, where it lies, and what to do next; the exit code."""
    print_table([_row(*each) for each in played])
    here = shlex.quote(str(shortest(root)))
    finished = [path for path, _, _ in played if (path / "tables").is_dir()]
    if len(finished) > 1:
        page = write_comparison(finished, root)
        print(f"written: {here}, one folder for each run; {shlex.quote(str(shortest(page)))}")
        print(f"next:    automem compare {here}")
    else:
        print(f"written: {here}, one folder for each run")
    print(
        f'         automem query {here} "select run, avg(progression) from episodes group by run"'
    )
    return next((outcome.code for _, _, outcome in played if outcome.code), 0)


def _row(run_dir: Path, name: str, outcome: Outcome) -> Row:
    has_run = (run_dir / "run.json").exists() and outcome.code != FAILED
    return Row(f"{run_dir.name} {name}", write_summary(run_dir) if has_run else None, outcome.note)


def root_of(point: Point) -> Path:
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
    if settings["launcher"] == "ray":
        from automem.commands.sweep_ray import launch

        return partial(launch, parallel=settings["parallel"], cpus=settings.get("cpus") or 0.0)
    return _launch_here


def _launch_here(jobs: Sequence[tuple[Point, Path, str]]) -> Iterator[tuple[int, Outcome]]:
    for place, (point, run_dir, name) in enumerate(jobs):
        print(f"[{place + 1}/{len(jobs)}] {name or 'the same'} → {run_dir}", file=sys.stderr)
        outcome = play_point(point.spec, point.config, run_dir, name)
        yield place, outcome
        if outcome.code == INTERRUPTED:
            return


def play_point(
    spec: RolloutSpec, config: DictConfig, run_dir: Path, name: str, is_shown: bool = True
) -> Outcome:
    """Play one point, whatever becomes of it."""
    try:
        result = play_new(spec, run_dir, config, title=name, is_shown=is_shown)
    except KeyboardInterrupt:
        return Outcome(cut_short(run_dir))
    except InfrastructureError as error:
        return Outcome(broken_off(error, run_dir), str(error))
    except AutoMemError as error:
        return Outcome(FAILED, f"failed: {error}")
    except Exception as error:  # noqa: BLE001 - one broken point must not cost the others
        traceback.print_exc()
        return Outcome(FAILED, f"failed: {error!r}")
    return Outcome(exit_code(result, run_dir))


def play_packed(
    spec: RolloutSpec, config: str, run_dir: str, name: str, import_path: Sequence[str]
) -> tuple[int, str]:
    """`play_point` in another process, from what travels."""
    sys.path.extend(path for path in import_path if path not in sys.path)
    tree = OmegaConf.create(config)
    assert isinstance(tree, DictConfig)
    outcome = play_point(spec, tree, Path(run_dir), name, is_shown=False)
    return outcome.code, outcome.note
