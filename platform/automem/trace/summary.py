"""`summary.json`: a run in numbers, from the tables of its finished episodes.

Promise: every finished episode counts, failed ones with what they reached; episodes that are not
finished are counted as `pending` and make the summary `complete: false`. Figures are means over
seeds of the means over a seed's plays: with equally many plays of each seed, means over episodes.
Their intervals take the seed as the unit, so playing a seed twice does not feign a second sample.

Progression of a world whose episodes are of several tasks is the mean over tasks (of the mean over
a task's seeds), as such worlds are published: tasks that got more seeds do not count for more. Its
interval resamples seeds within each task, for the tasks are given and the seeds are drawn.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from automem.errors import StoreError
from automem.trace.metrics import METRICS
from automem.trace.statistics import RESAMPLES, Estimate, estimate

SUMMARY_FILE = "summary.json"
RUN_FILE = "run.json"
DONE_FILE = "episode.json"
_CHUNK = 500
"""Resamples drawn at once: bounded memory, however many seeds a task has."""
TIMING = ("wall_s", "platform_ms_per_step")
"""What the run measured itself: given to `write_summary`, or kept in `run.json`."""


def finished_episodes(run_dir: Path) -> list[str]:
    """Ids of episodes whose tables are whole and which bear the done mark (where the run's
    episode folders are there at all: a copy of the tables alone is as good)."""
    tables = run_dir / "tables" / "episodes"
    named = sorted((path.stem for path in tables.glob("*.parquet")), key=_natural)
    if not (run_dir / "episodes").is_dir():
        return named
    return [name for name in named if (run_dir / "episodes" / name / DONE_FILE).exists()]


def pending_episodes(run_dir: Path, finished: Iterable[str]) -> list[str]:
    """Ids of episodes that were planned or begun and are not finished."""
    known = {path.name for path in (run_dir / "episodes").glob("*") if path.is_dir()}
    known |= planned_episodes(read_run(run_dir))
    return sorted(known - set(finished), key=_natural)


def planned_episodes(run: Mapping[str, Any]) -> set[str]:
    """Ids of the episodes that `run.json` plans."""
    return {planned["episode"] for planned in run.get("episodes", ())}


def read_run(run_dir: Path) -> dict[str, Any]:
    """`run.json`, or nothing where there is none."""
    try:
        value = json.loads((run_dir / RUN_FILE).read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise StoreError(f"{run_dir / RUN_FILE} is not JSON: {error}") from error
    return value if isinstance(value, dict) else {}


def episode_rows(run_dir: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """The `episodes` row of each of these, in this order."""
    folder = run_dir / "tables" / "episodes"
    rows: list[dict[str, Any]] = []
    for name in names:
        path = folder / f"{name}.parquet"
        try:
            rows.extend(pq.ParquetFile(path).read().to_pylist())
        except (OSError, pa.ArrowException) as error:
            raise StoreError(
                f"{path} cannot be read: {error}; `automem resume {run_dir}` makes it again"
            ) from error
    return rows


def per_seed(rows: Iterable[Mapping[str, Any]], column: str) -> dict[tuple[str, int], float]:
    """World and seed to the mean of `column` over its plays; undefined values are left out."""
    values: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        if row.get(column) is not None:
            values.setdefault((row["world"], row["seed"]), []).append(row[column])
    return {key: sum(found) / len(found) for key, found in sorted(values.items())}


def estimate_of(rows: Iterable[Mapping[str, Any]], column: str) -> Estimate:
    """Estimate of a column of `episodes`, the seed being the unit."""
    return estimate(list(per_seed(rows, column).values()))


def by_task(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Rows of `episodes` by the world's task; nothing for worlds that have one only. An episode
    that holds several tasks counts for each, with what it reached in that."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if task := row.get("task"):
            found.setdefault(task, []).append(row)
        for score in row.get("task_scores") or ():
            own = {**row, "progression": score["progression"]}
            found.setdefault(score["task"], []).append(own)
    return dict(sorted(found.items()))


def progression_of(rows: Sequence[Mapping[str, Any]]) -> Estimate:
    """The headline; see the module's docstring. Episodes that hold several tasks say themselves
    what they reached in all."""
    tasks: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        tasks.setdefault(row.get("task") or "", []).append(row)
    if len(tasks) < 2:
        return estimate_of(rows, "progression")
    return estimate_over(
        [list(per_seed(own, "progression").values()) for _, own in sorted(tasks.items())]
    )


def estimate_over(tasks: Sequence[Sequence[float]], seed: int = 0) -> Estimate:
    """Estimate of the mean over tasks from each task's values; `n` counts values. `se` and the 95 %
    interval (stratified bootstrap: each task's values are resampled among themselves) are None
    where a task has a single value, which says nothing of how far it varies."""
    arrays = [np.asarray(values, dtype=np.float64) for values in tasks]
    mean = float(np.mean([array.mean() for array in arrays]))
    n = sum(array.size for array in arrays)
    if any(array.size < 2 for array in arrays):
        return Estimate(mean, None, None, n)
    se = float(np.sqrt(sum(array.var(ddof=1) / array.size for array in arrays)) / len(arrays))
    generator = np.random.default_rng(seed)
    means = np.zeros(RESAMPLES)
    for array in arrays:
        for start in range(0, RESAMPLES, _CHUNK):
            drawn = generator.integers(0, array.size, (_CHUNK, array.size))
            means[start : start + _CHUNK] += array[drawn].mean(axis=1)
    low, high = np.quantile(means / len(arrays), [0.025, 0.975])
    return Estimate(mean, se, (float(low), float(high)), n)


def summarise(run_dir: Path, timing: Mapping[str, float] | None = None) -> dict[str, Any]:
    """What `write_summary` writes."""
    finished = finished_episodes(run_dir)
    pending = pending_episodes(run_dir, finished)
    rows = episode_rows(run_dir, finished)
    measured = {**read_run(run_dir), **(timing or {})}
    steps = sum(row["steps"] for row in rows)
    wall_s = measured.get("wall_s")
    return {
        "schema": 1,
        "complete": not pending and bool(rows),
        "progression": _plain(progression_of(rows)),
        "episodes": len(rows) + len(pending),
        "finished": len(rows),
        "failed": sum(row["failed"] for row in rows),
        "pending": len(pending),
        "steps": steps,
        "tokens": {
            "in": sum(row["tokens_in"] for row in rows),
            "out": sum(row["tokens_out"] for row in rows),
            "cached": sum(row["tokens_cached"] for row in rows),
        },
        "wall_s": wall_s,
        "steps_per_s": steps / wall_s if wall_s else None,
        "platform_ms_per_step": measured.get("platform_ms_per_step"),
        "metrics": {metric.name: _plain(estimate_of(rows, metric.name)) for metric in METRICS},
        "seeds": _seeds(rows),
        "tasks": [
            {"task": task, "episodes": len(own), **_plain(estimate_of(own, "progression"))}
            for task, own in by_task(rows).items()
        ],
        "failures": [
            {"episode": row["episode"], **failure} for row in rows for failure in row["failures"]
        ],
        "pending_episodes": pending,
    }


def _plain(value: Estimate) -> dict[str, Any]:
    return {
        "mean": value.mean,
        "se": value.se,
        "ci95": list(value.ci95) if value.ci95 else None,
        "n": value.n,
    }


def _seeds(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    columns = ("world", "seed", "replicate", "episode", "progression", "steps", "stop", "failed")
    chosen = [{name: row[name] for name in columns} for row in rows]
    return sorted(chosen, key=lambda row: (row["world"], row["seed"], row["replicate"]))


def _natural(name: str) -> list[Any]:
    """Sort key by which `crafter-9-0` comes before `crafter-42-0`."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def write_summary(run_dir: Path, timing: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Write `summary.json` atomically and return it. `timing` holds what `TIMING` names; missing
    values are taken from `run.json`, and null where neither has them."""
    summary = summarise(run_dir, timing)
    path = run_dir / SUMMARY_FILE
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {error}") from error
    return summary
