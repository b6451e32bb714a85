"""What a report says, gathered from run directories: plain data, no markup."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from automem.memory.ops import READING
from automem.trace.metrics import METRICS, Metric
from automem.trace.statistics import Estimate, estimate
from automem.trace.summary import (
    by_task,
    episode_rows,
    estimate_of,
    finished_episodes,
    pending_episodes,
    progression_of,
    read_run,
)

MAX_STRIPS = 12
"""Episodes of an arm that are drawn; the rest are in the traces."""
STRIP_BINS = 240
"""Points of a strip: more steps than that are drawn as the last (or the sum) of each bin."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One run under the name by which a report speaks of it."""

    name: str
    run_dir: Path
    note: str = ""
    """What sets this arm apart, in a few words."""


@dataclass(frozen=True, slots=True)
class Strip:
    """One episode over its steps, in at most `STRIP_BINS` bins of equal width."""

    episode: str
    seed: int
    progression: float
    steps: int
    stop: str
    failed: bool
    reached: list[float]
    """Progression at the end of each bin."""
    memory_bytes: list[int]
    reads: list[int]
    writes: list[int]
    """Memory operations in each bin."""


@dataclass(slots=True)
class ArmData:
    """One arm, as a report needs it."""

    arm: Arm
    world: str = ""
    policy: str = ""
    max_steps: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    progression: Estimate = field(default_factory=lambda: estimate([]))
    tasks: dict[str, Estimate] = field(default_factory=dict)
    """Progression by task, where the world has several."""
    metrics: dict[str, Estimate] = field(default_factory=dict)
    strips: list[Strip] = field(default_factory=list)
    config: str = ""
    run: dict[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        return sum(row["steps"] for row in self.rows)

    @property
    def failed(self) -> int:
        return sum(row["failed"] for row in self.rows)

    @property
    def most_bytes(self) -> int:
        """The most that memory held in any drawn episode."""
        return max((size for strip in self.strips for size in strip.memory_bytes), default=0)

    @property
    def failures(self) -> list[tuple[str, dict[str, Any]]]:
        return [(row["episode"], failure) for row in self.rows for failure in row["failures"]]


def gather(arm: Arm) -> ArmData:
    """Read one run."""
    finished = finished_episodes(arm.run_dir)
    rows = sorted(episode_rows(arm.run_dir, finished), key=lambda r: (r["seed"], r["replicate"]))
    data = ArmData(
        arm=arm,
        rows=rows,
        pending=pending_episodes(arm.run_dir, finished),
        run=read_run(arm.run_dir),
        config=_text_of(arm.run_dir / "config.yaml"),
    )
    if rows:
        worlds = sorted({row["world"] for row in rows})
        data.world = ", ".join(worlds)
        data.policy = ", ".join(sorted({row["policy"] for row in rows}))
        data.max_steps = max(row["max_steps"] for row in rows)
        data.progression = progression_of(rows)
        data.tasks = {task: estimate_of(own, "progression") for task, own in by_task(rows).items()}
        data.metrics = {metric.name: estimate_of(rows, metric.name) for metric in METRICS}
        data.strips = [_strip(arm.run_dir, row) for row in rows[:MAX_STRIPS]]
    elif data.pending:
        data.world = data.pending[0].rsplit("-", 2)[0]
    return data


def _text_of(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _strip(run_dir: Path, row: dict[str, Any]) -> Strip:
    name = row["episode"]
    steps = _read(run_dir, "steps", name, ["step", "progression", "memory_bytes"])
    ops = _read(run_dir, "ops", name, ["step", "op", "turn"])
    length = len(steps["step"])
    bins = min(length, STRIP_BINS)
    reached, sizes, reads, writes = [0.0] * bins, [0] * bins, [0] * bins, [0] * bins
    for step, progression, size in zip(*steps.values(), strict=True):
        place = step * bins // length
        reached[place], sizes[place] = progression, size
    for step, op, turn in zip(*ops.values(), strict=True):
        if turn >= 0 and step < length:
            (reads if op in READING else writes)[step * bins // length] += 1
    same = ("episode", "seed", "progression", "steps", "stop", "failed")
    return Strip(
        **{key: row[key] for key in same},
        reached=reached,
        memory_bytes=sizes,
        reads=reads,
        writes=writes,
    )


def _read(run_dir: Path, table: str, episode: str, columns: list[str]) -> dict[str, list[Any]]:
    path = run_dir / "tables" / table / f"{episode}.parquet"
    found = pq.ParquetFile(path).read(columns=columns)
    found = found.take(pc.sort_indices(found["step"]))
    return {name: found[name].to_pylist() for name in columns}


def shown_metrics(arms: Sequence[ArmData]) -> list[Metric]:
    """Metrics that say something here: defined in some arm, and no token counts of engines that
    do not count."""
    shown = []
    for metric in METRICS:
        means = [arm.metrics[metric.name].mean for arm in arms if metric.name in arm.metrics]
        known = [mean for mean in means if mean is not None]
        if known and (metric.unit != "tokens" or any(known)):
            shown.append(metric)
    return shown
