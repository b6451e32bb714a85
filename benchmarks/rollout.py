"""What a step of an episode costs beyond its world and its model.

Five measurements, one run:

1. overhead: Crafter, 4 episodes x 200 steps, three calls per step to a local HTTP server that
   answers instantly; platform CPU time per step (all of the worker but the world). At most 3 ms.
2. latency: the same with 50 ms per call and 64 episodes: steps/s against the ideal (64 episodes
   that do nothing but wait for three calls). At least 85 %.
3. growth: bytes of trace per step around step 100 and around step 2,000, while memory grows by a
   line per step. Flat.
4. concurrency: 256 episodes at the same time on one worker with the scripted engine: steps/s and
   memory per episode.
5. defaults: the worker's own count of what one step of (1) is made of.

    python benchmarks/rollout.py [--only overhead,latency,growth,concurrency] [--quick]

Operation latencies are measured by benchmarks/memory_ops.py.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil
from rich.console import Console
from rich.table import Table

from automem.commands.plan import spec_from
from automem.config import compose
from automem.rollout.progress import RunResult
from automem.rollout.run import run_rollout
from automem.rollout.spec import RolloutSpec

ROOT = Path(__file__).parent.parent
CALLS_PER_STEP = 3


@contextmanager
def chat_server(latency_ms: float) -> Iterator[str]:
    """The tests' HTTP server in a process of its own; its base URL."""
    command = [sys.executable, str(ROOT / "tests/support/chat_server.py"), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--latency-ms", str(latency_ms)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().split()[-1])
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def crafter_spec(base_url: str, episodes: int, steps: int, workers: int) -> RolloutSpec:
    """Crafter against an OpenAI-compatible endpoint."""
    return spec_from(
        compose(
            "config",
            [
                "env=crafter",
                "engine=openai",
                f"engine.base_url={base_url}",
                "engine.model=instant",
                "engine.target.max_concurrency=512",
                f"rollout.episodes={episodes}",
                "rollout.seeds=report",
                f"rollout.max_steps={steps}",
                f"rollout.workers={workers}",
            ],
        )
    )


def play(spec: RolloutSpec) -> RunResult:
    """Run it in a folder that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="automem-bench-") as folder:
        return finished(run_rollout(spec, Path(folder) / "run"))


def finished(result: RunResult) -> RunResult:
    """The result of a run in which nothing went wrong: figures come from no other."""
    for episode in result.episodes:
        if episode.is_player_failure or episode.status != "finished":
            raise SystemExit(f"{episode.episode} is {episode.status}: {episode.reason}")
    return result


def overhead(table: Table, quick: bool) -> None:
    with chat_server(0.0) as url:
        result = play(crafter_spec(url, 4, 50 if quick else 200, workers=1))
    stats = result.stats
    platform_ms = 1e3 * stats.cpu_s / stats.steps
    table.add_row(
        "overhead",
        f"{platform_ms:.2f} ms platform CPU per step",
        "<= 3",
        f"{stats.steps} steps, {stats.turns / stats.steps:.2f} calls and "
        f"{stats.bytes / stats.steps:,.0f} bytes per step, "
        f"world {1e3 * stats.world_s / stats.steps:.2f} ms",
    )


def latency(table: Table, quick: bool) -> None:
    latency_s, episodes, steps = 0.05, 64, 60 if quick else 200
    with chat_server(1e3 * latency_s) as url:
        looks: list[tuple[float, int]] = []
        spec = crafter_spec(url, episodes, steps, workers=2)
        with tempfile.TemporaryDirectory(prefix="automem-bench-") as folder:
            finished(
                run_rollout(
                    spec,
                    Path(folder) / "run",
                    lambda progress: looks.append((time.monotonic(), progress.steps)),
                )
            )
    steps_per_s = steady_rate(looks, episodes * steps)
    ideal = episodes / (CALLS_PER_STEP * latency_s)
    table.add_row(
        "latency",
        f"{steps_per_s:.0f} steps/s = {steps_per_s / ideal:.0%} of ideal",
        ">= 85 %",
        f"{episodes} episodes x {steps} steps, 2 workers, 50 ms per call; ideal {ideal:.0f} "
        "steps/s; from 10 to 60 % of the run's steps (starting and ending are paid once)",
    )


def steady_rate(looks: list[tuple[float, int]], total: int) -> float:
    """Steps per second while every episode plays: the first ones end at two thirds of the run."""
    middle = [look for look in looks if 0.10 * total <= look[1] <= 0.60 * total]
    if len(middle) < 2:
        raise SystemExit("the run was too short to be measured: play more steps")
    (begin_s, first), (end_s, last) = middle[0], middle[-1]
    return (last - first) / (end_s - begin_s)


def growth(table: Table, quick: bool) -> None:
    last = 400 if quick else 2000
    with chat_server(0.0) as url, tempfile.TemporaryDirectory(prefix="automem-bench-") as folder:
        # Crafter's player of one action starves early; Concentration lasts as long as it is told.
        spec = crafter_spec(url, 1, 1, workers=0)
        world = msgspec.structs.replace(
            spec.world,
            name="concentration",
            target={
                "_target_": "automem_envs.concentration.ConcentrationWorld",
                "cards": 40,
                "max_steps": last + 60,
            },
        )
        run_dir = Path(folder) / "run"
        run_rollout(msgspec.structs.replace(spec, world=world, max_steps=last + 60), run_dir)
        sizes = _bytes_by_step(next((run_dir / "episodes").iterdir()))
    early, late = (sum(sizes[s] for s in range(a - 50, a + 50)) / 100 for a in (100, last))
    table.add_row(
        "growth",
        f"{early:,.0f} bytes per step at 100, {late:,.0f} at {last:,}: ratio {late / early:.3f}",
        "flat",
        "journal bytes, mean over 100 steps around each; memory grows by one line per step",
    )


def _bytes_by_step(episode: Path) -> dict[int, int]:
    """Journal bytes written in each step."""
    sizes: dict[int, int] = {}
    step = 0
    for path in sorted((episode / "journal").iterdir()):
        for line in path.read_bytes().splitlines(keepends=True):
            event = msgspec.json.decode(line)
            step = max(step, event.get("step", 0))
            sizes[step] = sizes.get(step, 0) + len(line)
    return sizes


def concurrency(table: Table, quick: bool) -> None:
    episodes, steps = 256, 20 if quick else 100
    config = [
        "env=crafter",
        "engine=scripted",
        f"rollout.episodes={episodes}",
        "rollout.seeds=report",
        f"rollout.max_steps={steps}",
        "rollout.workers=0",
    ]
    process = psutil.Process()
    peaks = {}
    results = {}
    for count in (16, episodes):
        spec = spec_from(compose("config", [*config, f"rollout.episodes={count}"]))
        peak = [0]

        def watch(_progress: object, peak: list[int] = peak) -> None:
            peak[0] = max(peak[0], process.memory_info().rss)

        with tempfile.TemporaryDirectory(prefix="automem-bench-") as folder:
            results[count] = run_rollout(spec, Path(folder) / "run", watch)
        peaks[count] = peak[0]
    per_episode = (peaks[episodes] - peaks[16]) / (episodes - 16)
    result = results[episodes]
    table.add_row(
        "concurrency",
        f"{result.stats.steps / result.wall_s:.0f} steps/s, {per_episode / 1e6:.2f} MB per episode",
        "",
        f"{episodes} episodes at once in one process, scripted player included; memory from the "
        f"difference to 16 episodes ({peaks[16] / 1e6:.0f} to {peaks[episodes] / 1e6:.0f} MB)",
    )


MEASUREMENTS = {
    "overhead": overhead,
    "latency": latency,
    "growth": growth,
    "concurrency": concurrency,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(MEASUREMENTS), help="a comma list")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, for a try")
    arguments = parser.parse_args()
    table = Table("measurement", "figure", "target", "on", title="benchmarks/rollout.py")
    for name in arguments.only.split(","):
        MEASUREMENTS[name](table, arguments.quick)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
