"""A rollout from start to end: `run_rollout` begins a run, `resume_run` plays on.

Promise: whatever ends the driver (an end, Ctrl-C, a kill), the run directory is all that a resume
needs, and it plays each episode on from its last record. The first Ctrl-C stops workers where they
stand; the second ends the driver at once; neither loses a record.

Workers on other nodes of a cluster see the run directory by its path, on a file system that they
share; or the run has a `storage_url`, and nothing is shared: workers play on their node's disk and
store what they have played, the driver fetches each finished episode into the run directory.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import msgspec

from automem.errors import InfrastructureError, UsageError
from automem.rollout.engines import SharedEngines, all_local
from automem.rollout.episode import EpisodeResult, EpisodeStatus, result_of
from automem.rollout.finish import finished
from automem.rollout.interrupt import StopRequest, stop_on_signal
from automem.rollout.meter import WorkerStats
from automem.rollout.progress import Ledger, Progress, RunResult
from automem.rollout.ray_local import connected
from automem.rollout.run_dir import add_measurements, create_run, locked, read_run
from automem.rollout.spec import EpisodeKey, RolloutSpec
from automem.rollout.stored_run import Collector, StoredRun
from automem.rollout.worker import Worker

OnProgress = Callable[[Progress], None]


def run_rollout(
    spec: RolloutSpec,
    run_dir: Path,
    on_progress: OnProgress | None = None,
    engines: SharedEngines | None = None,
    should_stop: Callable[[], bool] | None = None,
    on_begun: Callable[[], None] | None = None,
) -> RunResult:
    """Play `spec` in `run_dir`, which must not hold a run yet (UsageError).

    `engines`: where shared engines come from and stay; without, they end with the run.
    `should_stop`: asked now and then; ends the run as a first Ctrl-C does. `on_begun`: called once
    the folder is this run's."""
    if not (Path(spec.scaffold) / "scaffold.yaml").is_file():
        raise UsageError(f"{spec.scaffold} is no scaffold: it has no scaffold.yaml")
    run_dir = run_dir.absolute()
    with locked(run_dir):
        spec = create_run(run_dir, spec)
        if on_begun is not None:
            on_begun()
        return _play(spec, run_dir, on_progress, engines, should_stop)


def resume_run(
    run_dir: Path,
    on_progress: OnProgress | None = None,
    workers: int | None = None,
    engines: SharedEngines | None = None,
    should_stop: Callable[[], bool] | None = None,
    on_begun: Callable[[], None] | None = None,
) -> RunResult:
    """Play on what is not finished in `run_dir`; `workers` where it is to differ from before;
    the others as for `run_rollout`."""
    run_dir = run_dir.absolute()
    spec = read_run(run_dir).spec
    if workers is not None:
        spec = msgspec.structs.replace(spec, workers=workers)
    with locked(run_dir):
        if on_begun is not None:
            on_begun()
        return _play(spec, run_dir, on_progress, engines, should_stop)


def _play(
    spec: RolloutSpec,
    run_dir: Path,
    on_progress: OnProgress | None,
    engines: SharedEngines | None,
    should_stop: Callable[[], bool] | None,
) -> RunResult:
    began = time.monotonic()
    stored = StoredRun(spec.storage_url) if spec.storage_url else None
    collector = Collector(stored, run_dir) if stored is not None else None
    ledger = Ledger(len(spec.episodes), collector.fetch if collector is not None else None)
    keys = _unfinished(spec, run_dir, ledger, stored)
    stats, restarts, interrupted = WorkerStats(), 0, False
    if stored is not None:
        stored.put_run(run_dir)
        spec = stored.travelling(spec)
    if keys:
        stop = StopRequest(should_stop)
        with stop_on_signal(stop):
            if spec.workers == 0:
                stats = asyncio.run(_play_here(spec, run_dir, keys, ledger, stop, on_progress))
            else:
                stats, restarts = _play_on_workers(
                    spec, run_dir, keys, ledger, stop, on_progress, engines
                )
            interrupted = stop()
    wall_s = time.monotonic() - began
    add_measurements(run_dir, wall_s, stats, restarts)
    episodes = tuple(_result(spec, key, ledger) for key in spec.episodes)
    if stored is not None and collector is not None:
        stored.put_outcome(run_dir)
        left = (each.episode for each in episodes if each.status is not EpisodeStatus.FINISHED)
        collector.finish(left)
    return RunResult(
        episodes=episodes,
        interrupted=interrupted,
        wall_s=wall_s,
        stats=stats,
        restarts=restarts,
    )


def _unfinished(
    spec: RolloutSpec, run_dir: Path, ledger: Ledger, stored: StoredRun | None
) -> list[EpisodeKey]:
    """What is still to be played; the rest is entered in the ledger."""
    keys = []
    marked = stored.finished() if stored is not None else set()
    for key in spec.episodes:
        episode = spec.episode_id(key)
        done = finished(run_dir / "episodes" / episode, run_dir / "tables")
        if done is None and stored is not None and episode in marked:
            done = stored.done(episode)
        if done is None:
            keys.append(key)
        else:
            ledger.add(result_of(done))
    return keys


def _result(spec: RolloutSpec, key: EpisodeKey, ledger: Ledger) -> EpisodeResult:
    episode = spec.episode_id(key)
    interrupted = EpisodeResult(episode, EpisodeStatus.PENDING, reason="the run was stopped")
    return ledger.results.get(episode, interrupted)


def _play_on_workers(
    spec: RolloutSpec,
    run_dir: Path,
    keys: Sequence[EpisodeKey],
    ledger: Ledger,
    stop: StopRequest,
    on_progress: OnProgress | None,
    engines: SharedEngines | None,
) -> tuple[WorkerStats, int]:
    """Totals and lost workers."""
    # Ray puts a handler of its own in the place of ours when it starts.
    with connected(), stop_on_signal(stop):
        from automem.rollout.pool import Pool

        with nullcontext(engines) if engines is not None else SharedEngines() as lender:
            pool = Pool(spec, run_dir, ledger, lender.lend(spec), stop, on_progress)
            pool.play(keys)
            return pool.stats, pool.restarts


async def _play_here(
    spec: RolloutSpec,
    run_dir: Path,
    keys: Sequence[EpisodeKey],
    ledger: Ledger,
    stop: StopRequest,
    on_progress: OnProgress | None,
) -> WorkerStats:
    """The same on a worker in this process: no Ray, and nobody to watch over a hung world."""
    began = time.monotonic()
    worker = Worker(all_local(spec), str(run_dir))
    try:
        await worker.start()
    except InfrastructureError as error:
        for key in keys:
            episode, reason = spec.episode_id(key), f"{error.boundary}: {error}"
            ledger.add(EpisodeResult(episode, EpisodeStatus.PENDING, reason=reason))
        return WorkerStats()
    await worker.play(list(keys))
    left = len(keys)
    while left and not stop():
        pulse = await worker.pulse(0.25)
        left -= len(pulse.finished)
        for result in pulse.finished:
            ledger.add(result)
        if on_progress is not None:
            wall_s = time.monotonic() - began
            progress = ledger.progress(pulse.running, pulse.stats, wall_s, 0, pulse.stragglers)
            on_progress(progress)
    pulse = await worker.drain()
    for result in pulse.finished:
        ledger.add(result)
    return pulse.stats
