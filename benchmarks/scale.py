"""How far one machine's platform goes: episodes at once, with an engine that only waits.

A toy world and a scripted player behind a fixed latency per call, on real workers under a local
Ray; so what is measured is the platform. For 10 to 2,000 episodes at the same time: steps/s beside
the ideal (episodes that do nothing but wait for their calls), CPU time per step of workers and of
the driver, memory per episode, and the driver's share of one core. The driver's cost should follow
the number of workers and of seconds, not the number of steps. `steady` figures are taken from the
moment when as many steps were played as there are episodes to the last one when none had ended, so
that starts and ends (imports, tables) are left out; the cost of looking is no part of the driver's.

    python benchmarks/scale.py [--episodes 10,100,500,2000] [--workers 2] [--out F]

The paper model of docs/scaling.md takes its figures from the JSON that `--out` writes.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests")]


@dataclass(frozen=True)
class Measured:
    """One number of episodes."""

    episodes: int
    workers: int
    steps: int
    turns_per_step: float
    wall_s: float
    steps_per_s: float
    ideal_steps_per_s: float
    worker_ms_per_step: float
    """CPU time of all workers, worlds left out."""
    driver_cpu_s: float
    driver_core_share: float
    """CPU time of the driver while episodes were played, per second."""
    driver_ms_per_step: float
    worker_mb: float
    """Resident memory of all workers at the most."""
    mb_per_episode: float
    """What it grows by from the smallest run to this one, per episode."""
    journal_bytes_per_step: float
    steady_s: float
    """Length of the steady part; 0 where the run was too short to have one."""
    steady_steps_per_s: float
    steady_worker_ms_per_step: float
    """CPU time of the workers' processes, the toy worlds' included."""


@dataclass(frozen=True)
class Look:
    """The run at one moment."""

    at: float
    steps: int
    ended: int
    driver_cpu_s: float
    worker_cpu_s: float


def measure(episodes: int, workers: int, latency_s: float, steps: int) -> Measured:
    """Play them all at once; the first report with steps starts the clock."""
    from support.toy_world import toy_spec

    from automem.rollout.progress import Progress
    from automem.rollout.run import run_rollout

    looks: list[Look] = []
    most, looking_s = 0.0, 0.0

    def look(progress: Progress) -> None:
        nonlocal most, looking_s
        now, own = time.monotonic(), _cpu_s()
        mb, cpu_s = _workers()
        looks.append(Look(now, progress.steps, progress.episodes_done, own - looking_s, cpu_s))
        most = max(most, mb)
        looking_s += _cpu_s() - own

    spec = toy_spec(
        seeds=range(episodes),
        workers=workers,
        sessions_per_worker=-(-episodes // workers),
        latency_s=latency_s,
        world_args={"max_steps": steps},
    )
    with tempfile.TemporaryDirectory(prefix="automem-scale-") as folder:
        result = run_rollout(spec, Path(folder) / "run", look)
    if not result.is_complete or result.restarts:
        raise SystemExit(f"{len(result.pending)} episodes pending, {result.restarts} restarts")
    flowing = [each for each in looks if each.steps > 0]
    first, last = flowing[0], flowing[-1]
    wall_s, played = last.at - first.at, last.steps - first.steps
    driver_s = last.driver_cpu_s - first.driver_cpu_s
    steady = [each for each in looks if each.steps >= episodes and not each.ended]
    begin, end = (steady[0], steady[-1]) if steady else (first, first)
    steady_s, steady_steps = end.at - begin.at, end.steps - begin.steps
    stats = result.stats
    turns = stats.turns / stats.steps
    return Measured(
        episodes=episodes,
        workers=workers,
        steps=stats.steps,
        turns_per_step=round(turns, 2),
        wall_s=round(wall_s, 2),
        steps_per_s=round(played / wall_s, 1),
        ideal_steps_per_s=round(episodes / (turns * latency_s), 1),
        worker_ms_per_step=round(1e3 * stats.cpu_s / stats.steps, 3),
        driver_cpu_s=round(driver_s, 3),
        driver_core_share=round(driver_s / wall_s, 4),
        driver_ms_per_step=round(1e3 * driver_s / max(1, played), 4),
        worker_mb=round(most, 1),
        mb_per_episode=0.0,
        journal_bytes_per_step=round(stats.bytes / stats.steps),
        steady_s=round(steady_s, 2),
        steady_steps_per_s=round(steady_steps / steady_s, 1) if steady_s else 0.0,
        steady_worker_ms_per_step=round(
            1e3 * (end.worker_cpu_s - begin.worker_cpu_s) / max(1, steady_steps), 3
        ),
    )


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _workers() -> tuple[float, float]:
    """Resident MB and CPU seconds of the processes that host episodes (below the local Ray that we
    started)."""
    total, cpu_s = 0, 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            if process.name().startswith("ray::Worker"):
                total += process.memory_info().rss
                used = process.cpu_times()
                cpu_s += used.user + used.system
        except psutil.NoSuchProcess:
            continue
    return total / 1e6, cpu_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", default="10,100,500,2000")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--latency-s", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=6, help="per episode")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from automem.rollout.ray_local import connected

    rows: list[Measured] = []
    with connected():
        for count in (int(word) for word in options.episodes.split(",")):
            row = measure(count, options.workers, options.latency_s, options.steps)
            if rows:
                grown = (row.worker_mb - rows[0].worker_mb) / (row.episodes - rows[0].episodes)
                row = Measured(**{**asdict(row), "mb_per_episode": round(grown, 3)})
            rows.append(row)
            print(f"{count} episodes: {row.wall_s} s", file=sys.stderr)
    table = Table(title=f"{options.workers} workers, {options.latency_s:g} s per call")
    for column in (
        "episodes", "steps/s", "of ideal", "worker CPU/step", "steady steps/s", "steady CPU/step",
        "driver CPU/step", "driver core", "MB/episode", "bytes/step",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            f"{row.episodes:,}",
            f"{row.steps_per_s:,.0f}",
            f"{row.steps_per_s / row.ideal_steps_per_s:.0%}",
            f"{row.worker_ms_per_step:.2f} ms",
            f"{row.steady_steps_per_s:,.0f}" if row.steady_s else "",
            f"{row.steady_worker_ms_per_step:.2f} ms" if row.steady_s else "",
            f"{row.driver_ms_per_step:.3f} ms",
            f"{row.driver_core_share:.1%}",
            f"{row.mb_per_episode:.2f}",
            f"{row.journal_bytes_per_step:,.0f}",
        )
    Console(width=140).print(table)
    if options.out:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip()
        load = os.getloadavg()[0]
        options.out.write_text(
            json.dumps(
                {
                    "commit": commit,
                    "cores": os.cpu_count(),
                    "load_average_at_the_end": round(load, 1),
                    "latency_s": options.latency_s,
                    "rows": [asdict(row) for row in rows],
                },
                indent=2,
            )
            + "\n"
        )


if __name__ == "__main__":
    main()
