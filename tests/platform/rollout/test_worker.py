"""A worker hosts many episodes in one loop, says how they stand, and stops where they stand."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from support.drivers import assert_same_traces, memory_of, records
from support.toy_world import toy_spec

from automem.errors import UsageError
from automem.rollout.run import resume_run, run_rollout
from automem.rollout.run_dir import read_run
from automem.rollout.spec import Deadlines, EngineSpec, Watchdog, WorldSpec
from automem.rollout.worker import Pulse, Worker


async def start(run_dir: Path, **changes: Any) -> Worker:
    spec = toy_spec(**changes)
    worker = Worker(spec, str(run_dir))
    await worker.start()
    await worker.play(list(spec.episodes))
    return worker


async def pulses_until_done(worker: Worker, count: int) -> list[Pulse]:
    pulses = [await worker.pulse(0.2)]
    while sum(len(pulse.finished) for pulse in pulses) < count:
        pulses.append(await worker.pulse(0.2))
    return pulses


async def test_a_worker_plays_at_most_so_many_episodes_at_once(tmp_path: Path) -> None:
    worker = await start(tmp_path, seeds=range(9), sessions_per_worker=2, latency_s=0.01)
    pulses = await pulses_until_done(worker, 9)
    assert max(pulse.running for pulse in pulses) == 2
    assert pulses[-1].running == 0
    assert pulses[-1].pid == os.getpid()
    assert pulses[-1].stats.steps == 9 * 12
    assert pulses[-1].stats.tokens_out > 0


async def test_an_episode_without_a_new_step_is_reported(tmp_path: Path) -> None:
    watchdog = Watchdog(straggler_s=0.1)
    worker = await start(tmp_path, seeds=[0], latency_s=30.0, watchdog=watchdog)
    pulse = await worker.pulse(0.5)
    [late] = pulse.stragglers
    assert (late.episode, late.step) == ("toy-0-0", 0)
    assert late.idle_s > 0.1
    await worker.drain()


async def test_a_drained_worker_leaves_its_episodes_resumable(tmp_path: Path) -> None:
    worker = await start(tmp_path, seeds=range(3), latency_s=0.01)
    while records(tmp_path) < 20:
        await worker.pulse(0.02)
    pulse = await worker.drain()
    assert (pulse.running, pulse.finished) == (0, ())
    await pulses_until_done(await start(tmp_path, seeds=range(3)), 3)
    again = await asyncio.to_thread(run_rollout, toy_spec(), tmp_path / "undisturbed")
    assert again.is_complete
    assert_same_traces(tmp_path, tmp_path / "undisturbed")


async def test_a_world_that_does_not_exist_is_told_at_the_start(tmp_path: Path) -> None:
    worker = Worker(toy_spec(world=WorldSpec("toy", {"_target_": "support.nowhere.World"})), "")
    with pytest.raises(UsageError, match=r"support\.nowhere"):
        await worker.start()


async def test_wrong_arguments_of_a_world_are_told_at_the_start(tmp_path: Path) -> None:
    worker = Worker(toy_spec(world_args={"lamps": 3}), "")
    with pytest.raises(UsageError, match="lamps"):
        await worker.start()


async def test_an_engine_that_is_away_at_the_start_is_waited_for(tmp_path: Path) -> None:
    target = {"_target_": "support.toy_world.LateEngine", "file": str(tmp_path / "late")}
    engines = {"base": EngineSpec(target=target, placement="worker")}
    worker = await start(tmp_path, seeds=[0], engines=engines)
    assert len((await pulses_until_done(worker, 1))[-1].finished) == 1


def test_a_run_whose_engine_is_gone_is_left_pending(tmp_path: Path) -> None:
    target = {"_target_": "support.toy_world.LateEngine", "file": "/nowhere/late"}
    engines = {"base": EngineSpec(target=target, placement="worker")}
    result = run_rollout(
        toy_spec(seeds=[0], engines=engines, deadlines=Deadlines(patience_s=1.0)), tmp_path / "run"
    )
    assert [episode.reason for episode in result.pending] == ["engine: nobody answers"]


def test_many_episodes_share_a_loop_and_keep_to_themselves(tmp_path: Path) -> None:
    result = run_rollout(toy_spec(seeds=range(60), latency_s=0.005), tmp_path / "run")
    assert result.is_complete
    run_rollout(toy_spec(seeds=[7]), tmp_path / "alone")
    mine, alone = (tmp_path / name / "episodes/toy-7-0" for name in ("run", "alone"))
    assert memory_of(mine) == memory_of(alone)


def test_a_run_measures_what_it_costs_over_its_resumes(tmp_path: Path) -> None:
    broken = toy_spec(seeds=[0], world_args={"raise_step": 6, "raise_file": ""})
    run_rollout(broken, tmp_path / "run")
    first = read_run(tmp_path / "run")
    assert first.steps_measured >= 6
    resume_run(tmp_path / "run")
    second = read_run(tmp_path / "run")
    assert second.wall_s > first.wall_s
    assert second.platform_ms_per_step > 0


def test_with_fsync_the_trace_is_the_same(tmp_path: Path) -> None:
    run_rollout(toy_spec(seeds=[0], fsync=True), tmp_path / "run")
    run_rollout(toy_spec(seeds=[0]), tmp_path / "other")
    assert_same_traces(tmp_path / "run", tmp_path / "other")


def test_a_record_of_a_longer_episode_costs_no_more(tmp_path: Path) -> None:
    """A defect of other platforms: a trace whose size grows with the square of the episode."""
    for steps in (20, 200):
        args = {"max_steps": steps}
        run_rollout(toy_spec(seeds=[0], world_args=args), tmp_path / str(steps))
    size = {
        steps: (tmp_path / f"{steps}/episodes/toy-0-0/journal/0001.jsonl").stat().st_size / steps
        for steps in (20, 200)
    }
    assert size[200] < 1.15 * size[20]
    assert records(tmp_path / "200") < 11 * records(tmp_path / "20")
