"""`automem compare`: runs, or a whole sweep, beside one another: one table and one drawing.
Of a loop it is one arm that is compared, over the games of all its training seeds.

Promise: what differs between the runs' configurations is what names them; differences are paired by
world and seed over the seeds that both have finished, with a bootstrap interval, and the table says
how many that were. It describes and decides nothing: with many runs the best one looks good by
chance, and a run with pending episodes is marked.
"""

import csv
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich import box
from rich.table import Table

from automem.commands.arguments import Parser
from automem.commands.play import CONFIG_FILE, shortest
from automem.commands.table import interval, number, wide_console
from automem.errors import UsageError
from automem.loops.experiment import RESULTS
from automem.loops.run_results import RESULTS as RESULTS_OF_BOTH
from automem.report import write_report
from automem.report_parts.gather import Arm
from automem.rollout.run_dir import RUN_FILE
from automem.suggest import no_such
from automem.trace.statistics import Estimate, paired_difference
from automem.trace.summary import episode_rows, finished_episodes, per_seed, write_summary

EXAMPLES = [
    "automem compare multirun/20260701-120000-sweep",
    "automem compare runs/first runs/second runs/third     # differences are to the first",
    "automem compare SWEEP --metric redundant_writes --csv table.csv",
]
PAGE = "comparison.html"
ARMS = ("specialist", "evolved + trained", "evolved")
"""Which arm of a loop is compared: the first of these that it has."""
SAME_ANYWAY = ("run.dir", "sweep", "storage", "tracker")
"""Keys that do not decide what is played."""
COLUMNS = ("value", "95 % interval", "episodes", "minus first", "95 % interval", "pairs")


@dataclass(frozen=True, slots=True)
class Entry:
    """One run of a comparison."""

    run_dir: Path
    name: str
    """What tells it from the others."""
    values: Mapping[tuple[str, int], float]
    """World and seed to the metric's mean over their plays."""
    summary: Mapping[str, Any]
    metric: Estimate
    difference: Estimate | None
    """To the first run, over the seeds of both; None for the first itself."""


def main(argv: list[str]) -> int:
    """See the module's docstring."""
    parser = Parser("compare", "Runs beside one another: a table and a drawing.", EXAMPLES)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs, or of sweeps")
    parser.add_argument("--metric", default="progression", help="a column of `episodes`")
    parser.add_argument("--arm", metavar="NAME", help=f"of loops; default: {', '.join(ARMS)}")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table there, too")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"where {PAGE} goes")
    options = parser.parse_args(argv)
    folders = run_folders(options.runs)
    entries = compare(folders, options.metric, options.arm)
    _print(entries, options.metric)
    if options.csv:
        _write_csv(entries, options.metric, options.csv)
    page = write_comparison(folders, options.out or _common(options.runs, folders), options.arm)
    print(f"written: {shlex.quote(str(shortest(page)))}")
    return 0


def run_folders(named: Sequence[str]) -> list[Path]:
    """The runs in these folders, those of a sweep in their order. UsageError where there are not
    two."""
    found: list[Path] = []
    for text in named:
        folder = Path(text).expanduser().resolve()
        if has_figures(folder) or (folder / RUN_FILE).exists():
            found.append(folder)
            continue
        below = sorted(path.parent for path in folder.glob(f"*/{RUN_FILE}"))
        below += sorted(path.parent for path in folder.glob("*/results*.json") if arms_in(path))
        if not below:
            raise UsageError(
                f"{text}: expected the folder of a run or of a loop with results, or of a sweep of "
                "such"
            )
        found.extend(below)
    found = list(dict.fromkeys(found))
    if len(found) < 2:
        raise UsageError(
            "a comparison needs two runs: automem compare RUN RUN, or a sweep's folder"
        )
    return found


def has_figures(folder: Path) -> bool:
    """Whether this is a run with finished episodes, or a loop with a table of arms."""
    results = (folder / name for name in (RESULTS, RESULTS_OF_BOTH))
    return (folder / "tables").is_dir() or any(map(arms_in, results))


def arms_in(results: Path) -> dict[str, list[Path]]:
    """The arms of a loop's table and the runs of each; nothing where it has none."""
    try:
        arms = json.loads(results.read_bytes()).get("arms")
    except FileNotFoundError:
        return {}
    told = [arm for arm in arms or () if isinstance(arm, dict) and arm.get("runs")]
    return {arm["name"]: [results.parent / run for run in arm["runs"]] for arm in told}


def _runs_of(folder: Path, arm: str | None) -> list[Path]:
    """The run itself; of a loop those of one arm. UsageError where there is none of that name."""
    if (folder / RUN_FILE).exists():
        return [folder]
    arms = arms_in(folder / RESULTS_OF_BOTH) or arms_in(folder / RESULTS)
    name = arm or next((name for name in ARMS if name in arms), "")
    if name not in arms:
        raise UsageError(no_such("--arm", name, arms))
    return arms[name]


def compare(
    folders: Sequence[Path], metric: str = "progression", arm: str | None = None
) -> list[Entry]:
    """The runs with their figures; differences are to the first."""
    names = names_of(folders)
    runs = [_runs_of(folder, arm) for folder in folders]
    values = [_values(each, metric) for each in runs]
    entries = []
    for folder, name, ours, found in zip(folders, names, runs, values, strict=True):
        entries.append(
            Entry(
                run_dir=folder,
                name=name,
                values=found,
                summary=_counted([write_summary(run) for run in ours]),
                metric=_estimate(found),
                difference=None if found is values[0] else _difference(found, values[0]),
            )
        )
    return entries


def names_of(folders: Sequence[Path]) -> list[str]:
    """What differs between the runs' configurations; their folders' names where nothing does."""
    flat = [_flat(folder) for folder in folders]
    keys = sorted({key for each in flat for key in each})
    differing = [key for key in keys if len({str(each.get(key)) for each in flat}) > 1]
    telling = _fewest(differing, flat)
    names = [" ".join(f"{key}={each.get(key)}" for key in telling) for each in flat]
    if len(set(names)) == len(names) and all(names):
        return names
    return [f"{folder.name} {name}".strip() for folder, name in zip(folders, names, strict=True)]


def write_comparison(folders: Sequence[Path], into: Path, arm: str | None = None) -> Path:
    """The drawing: every run as an arm of one page; of a loop the arm's first."""
    named = zip(names_of(folders), (_runs_of(folder, arm)[0] for folder in folders), strict=True)
    arms = [Arm(name, run) for name, run in named if (run / "tables").is_dir()]
    page = into / PAGE
    write_report(arms, title="AutoMem: runs compared", out=page)
    return page


def _values(runs: Sequence[Path], metric: str) -> dict[tuple[str, int], float]:
    rows = [row for run in runs for row in episode_rows(run, finished_episodes(run))]
    numeric = {key for row in rows for key, value in row.items() if isinstance(value, int | float)}
    if rows and metric not in numeric:
        raise UsageError(no_such("metric", metric, sorted(numeric)))
    return per_seed(rows, metric)


def _counted(summaries: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    keys = ("finished", "episodes", "pending", "failed")
    return {key: sum(summary[key] for summary in summaries) for key in keys}


def _estimate(values: Mapping[tuple[str, int], float]) -> Estimate:
    from automem.trace.statistics import estimate

    return estimate(list(values.values()))


def _difference(
    ours: Mapping[tuple[str, int], float], theirs: Mapping[tuple[str, int], float]
) -> Estimate:
    both = sorted(set(ours) & set(theirs))
    return paired_difference([ours[key] for key in both], [theirs[key] for key in both])


def _fewest(differing: Sequence[str], flat: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of keys that always change together (`env` with all that it brings) only the first."""
    seen: dict[tuple[int, ...], str] = {}
    for key in sorted(differing, key=lambda key: (not key.endswith(".name"), key.count("."), key)):
        order: dict[str, int] = {}
        pattern = tuple(order.setdefault(str(each.get(key)), len(order)) for each in flat)
        seen.setdefault(pattern, key)
    return list(seen.values())


def _flat(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    tree = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else {}
    flat: dict[str, Any] = {}

    def walk(node: Any, prefix: str) -> None:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                walk(value, f"{prefix}.{key}" if prefix else str(key))
        elif not prefix.startswith(SAME_ANYWAY):
            flat[prefix] = node

    walk(tree, "")
    return flat


def _cells(entry: Entry) -> list[str]:
    summary, difference = entry.summary, entry.difference
    marks = "".join(f", {summary[k]} {k}" for k in ("pending", "failed") if summary.get(k))
    return [
        number(entry.metric.mean),
        interval(entry.metric.ci95),
        f"{summary['finished']}/{summary['episodes']}{marks}",
        "" if difference is None or difference.mean is None else f"{difference.mean:+.3f}",
        "" if difference is None else interval(difference.ci95),
        "" if difference is None else str(difference.n),
    ]


def _print(entries: Sequence[Entry], metric: str) -> None:
    table = Table(box=box.SIMPLE_HEAD, title=metric, title_justify="left")
    table.add_column("run")
    for column in COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for entry in entries:
        table.add_row(entry.name, *_cells(entry))
    wide_console().print(table)


def _write_csv(entries: Sequence[Entry], metric: str, path: Path) -> None:
    names = ["run", metric, "interval", "episodes", "minus_first", "minus_interval", "pairs"]
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(names)
        rows.writerows([entry.name, *_cells(entry)] for entry in entries)


def _common(named: Sequence[str], folders: Sequence[Path]) -> Path:
    """The sweep's own folder where one was named, else where the person is."""
    if len(named) == 1:
        return folders[0].parent
    return Path.cwd()
