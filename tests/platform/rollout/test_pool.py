"""Workers under a real Ray die, hang and stop; the traces stay those of an undisturbed run."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.drivers import (
    assert_same_traces,
    end_of,
    records,
    start_driver,
    wait_until,
)
from support.toy_world import toy_spec

from automem.errors import UsageError
from automem.rollout import pool
from automem.rollout.lease import read_lease
from automem.rollout.progress import Progress
from automem.rollout.ray_local import connected
from automem.rollout.run import resume_run, run_rollout
from automem.rollout.scratch import scratch_root
from automem.rollout.spec import EngineSpec, Watchdog, WorldSpec

SEEDS = {"seeds": range(6)}
IMPATIENT = Watchdog(silent_s=3.0)


@pytest.fixture(scope="module")
def ray_is_up() -> Iterator[None]:
    with connected():
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert run_rollout(toy_spec(**SEEDS), run_dir).is_complete
    return run_dir


def workers_of(run_dir: Path) -> set[int]:
    """Process ids that hold the leases of unfinished episodes."""
    folders = [f for f in (run_dir / "episodes").glob("*") if not (f / "episode.json").exists()]
    return {lease.pid for lease in map(read_lease, folders) if lease is not None}


def once_flowing(run_dir: Path, act: Callable[[int], None]) -> Callable[[Progress], None]:
    """A progress callback that acts on one worker, once, when steps flow."""
    acted: list[int] = []

    def on_progress(progress: Progress) -> None:
        if not acted and records(run_dir) > 60 and workers_of(run_dir):
            acted.append(min(workers_of(run_dir)))
            act(acted[0])

    return on_progress


def test_a_worker_that_has_started_is_not_late_however_long_it_took() -> None:
    """Episodes taken back from a worker that plays them would be played twice."""
    long_ago = time.monotonic() - 10 * pool.LATE_S
    hand = pool.Hand(None, start=object(), pulse=None, heard_at=long_ago, began_at=long_ago)
    assert hand.is_late
    hand.start = None
    assert not hand.is_late


def test_two_workers_write_the_traces_of_one(
    ray_is_up: None, undisturbed: Path, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    result = run_rollout(toy_spec(**SEEDS, workers=2), tmp_path / "run", seen.append)
    assert result.is_complete
    assert result.restarts == 0
    assert_same_traces(tmp_path / "run", undisturbed)
    assert len({_attempt_pid(folder) for folder in (tmp_path / "run/episodes").iterdir()}) == 2
    last = seen[-1]
    assert (last.episodes_done, last.episodes_total, last.steps) == (6, 6, 72)
    assert last.progression_so_far == pytest.approx(
        sum(episode.progression for episode in result.finished) / 6
    )


@pytest.mark.slow
def test_eight_workers_write_the_traces_of_one(
    ray_is_up: None, undisturbed: Path, tmp_path: Path
) -> None:
    assert run_rollout(toy_spec(**SEEDS, workers=8), tmp_path / "run").is_complete
    assert_same_traces(tmp_path / "run", undisturbed)


def test_episodes_of_a_killed_worker_go_on_in_another(
    ray_is_up: None, undisturbed: Path, tmp_path: Path
) -> None:
    spec = toy_spec(**SEEDS, workers=2, latency_s=0.05)
    kill = once_flowing(tmp_path / "run", lambda pid: os.kill(pid, signal.SIGKILL))
    result = run_rollout(spec, tmp_path / "run", kill)
    assert result.is_complete
    assert result.restarts >= 1  # a busy machine may look dead, too
    assert_same_traces(tmp_path / "run", undisturbed)


def test_a_worker_that_stalls_and_wakes_up_does_no_harm(
    ray_is_up: None, undisturbed: Path, tmp_path: Path
) -> None:
    stopped: list[int] = []

    def stop(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        stopped.append(pid)

    spec = toy_spec(**SEEDS, workers=2, latency_s=0.05, watchdog=IMPATIENT)
    result = run_rollout(spec, tmp_path / "run", once_flowing(tmp_path / "run", stop))
    for pid in stopped:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert result.is_complete
    assert result.restarts >= 1  # a busy machine may look dead, too
    assert_same_traces(tmp_path / "run", undisturbed)


def test_a_hung_world_is_killed_and_its_neighbours_lose_nothing(
    ray_is_up: None, undisturbed: Path, tmp_path: Path
) -> None:
    world = {"hang_seed": 1, "hang_file": str(tmp_path / "hung")}
    spec = toy_spec(**SEEDS, workers=1, world_args=world, watchdog=IMPATIENT)
    result = run_rollout(spec, tmp_path / "run")
    assert (tmp_path / "hung").exists()
    assert result.is_complete
    assert result.restarts >= 1  # a busy machine may look dead, too
    assert_same_traces(tmp_path / "run", undisturbed)


def test_a_killed_worker_leaves_no_temporary_files(ray_is_up: None, tmp_path: Path) -> None:
    """Defect: nle's folders of games that were on stayed in the system's temporary folder."""
    litter = {"prefix": f"litter-{time.time_ns()}-", "hang_seed": 1}
    world = {**litter, "hang_file": str(tmp_path / "hung")}
    target = {"_target_": "support.littering_world.LitteringWorld", **world}
    spec = toy_spec(workers=1, world=WorldSpec("toy", target), watchdog=IMPATIENT)
    result = run_rollout(spec, tmp_path / "run")
    assert result.is_complete
    assert result.restarts >= 1
    assert list(Path(tempfile.gettempdir()).glob(f"{litter['prefix']}*")) == []
    assert list(scratch_root().glob(f"*/worker-*/{litter['prefix']}*")) == []


@pytest.mark.slow
def test_a_world_that_always_hangs_gets_a_worker_of_its_own_and_is_left_pending(
    ray_is_up: None, undisturbed: Path, tmp_path: Path
) -> None:
    spec = toy_spec(
        seeds=range(4), workers=1, world_args={"hang_seed": 1}, watchdog=IMPATIENT, latency_s=0.01
    )
    result = run_rollout(spec, tmp_path / "run")
    assert [episode.episode for episode in result.pending] == ["toy-1-0"]
    assert "alone in a worker, its worker gave no sign of life" in result.pending[0].reason
    assert result.restarts >= 3
    run = msgspec.json.decode((tmp_path / "run/run.json").read_bytes())
    run["spec"]["world"]["target"].pop("hang_seed")
    (tmp_path / "run/run.json").write_bytes(msgspec.json.encode(run))
    assert resume_run(tmp_path / "run").is_complete


@pytest.mark.parametrize("dies", [False, True])
def test_an_engine_shared_by_all_workers_changes_no_trace_even_if_it_dies(
    dies: bool, ray_is_up: None, undisturbed: Path, tmp_path: Path
) -> None:
    player = {"dies_file": str(tmp_path / "died")} if dies else {}
    own = toy_spec(**SEEDS, workers=2, player_args=player)
    shared = {"base": msgspec.structs.replace(own.engines["base"], placement="actor")}
    result = run_rollout(msgspec.structs.replace(own, engines=shared), tmp_path / "run")
    assert result.is_complete
    assert result.restarts == 0
    assert (tmp_path / "died").exists() == dies
    assert_same_traces(tmp_path / "run", undisturbed)


def test_bad_input_is_told_before_anything_is_played(ray_is_up: None, tmp_path: Path) -> None:
    target = {"_target_": "automem.engine.scripted.NoSuchEngine"}
    spec = toy_spec(workers=1, engines={"base": EngineSpec(target=target, placement="worker")})
    with pytest.raises(UsageError, match="NoSuchEngine"):
        run_rollout(spec, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_driver_that_ends_with_its_workers_playing_resumes_to_the_same_traces(
    ending: signal.Signals, undisturbed: Path, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"seeds": list(SEEDS["seeds"]), "workers": 2, "latency_s": 0.05}
    driver = start_driver(tmp_path / "run", changes)
    wait_until(lambda: records(tmp_path / "run") > 60, "the first records")
    if ending is signal.SIGKILL:
        driver.kill()
    else:  # as a terminal does it: everything that the driver has started gets it too
        os.killpg(driver.pid, ending)
    code, output = end_of(driver)
    assert code == (-signal.SIGKILL if ending is signal.SIGKILL else 0), output
    again = start_driver(tmp_path / "run", changes)
    assert end_of(again)[1].splitlines()[0] == "finished 6 pending 0"
    assert_same_traces(tmp_path / "run", undisturbed)


def test_the_token_of_a_local_ray_is_its_owners_alone(ray_is_up: None) -> None:
    token = Path.home() / ".ray" / "auth_token"
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert token.stat().st_mode & 0o077 == 0


def test_a_program_that_imported_ray_first_gets_its_cluster_all_the_same(tmp_path: Path) -> None:
    script = """
        import ray
        from automem.rollout.ray_local import connected
        with connected():
            print(ray.get(ray.put("connected")))
    """
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "connected\n", done.stderr


def _attempt_pid(folder: Path) -> int:
    lease = read_lease(folder)
    assert lease is not None
    return lease.pid
