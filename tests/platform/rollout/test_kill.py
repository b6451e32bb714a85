"""Kill -9 at every named seam and at random moments: after a resume the traces are those of an
undisturbed run."""

import random
import signal
from pathlib import Path
from typing import Any

import pytest
from support.drivers import assert_same_traces, end_of, records, start_driver, wait_until
from support.toy_world import toy_spec

from automem.errors import UsageError
from automem.rollout.run import resume_run, run_rollout

SEEDS: dict[str, Any] = {"seeds": [0, 1, 2]}
QUICK_POINTS = ["journal.after:41", "rename.before:17", "event.commit:20", "episode_json.before:2"]
MORE_POINTS = [
    "journal.before:1",
    "journal.before:60",
    "journal.after:1",
    "rename.after:30",
    "event.attempt:2",
    "event.blob:9",
    "event.observe:11",
    "event.turn:25",
    "event.op:33",
    "event.memory:4",
    "event.end:1",
    "compaction.before:1",
    "compaction.after:3",
    "episode_json.after:1",
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert run_rollout(toy_spec(**SEEDS), run_dir).is_complete
    return run_dir


def kill_at(point: str, run_dir: Path) -> None:
    code, output = end_of(start_driver(run_dir, SEEDS, AUTOMEM_CRASH=point))
    assert code == -signal.SIGKILL, output


@pytest.mark.parametrize(
    "point",
    [*QUICK_POINTS, *(pytest.param(point, marks=pytest.mark.slow) for point in MORE_POINTS)],
)
def test_a_run_killed_at_a_seam_resumes_to_the_same_traces(
    point: str, undisturbed: Path, tmp_path: Path
) -> None:
    kill_at(point, tmp_path / "run")
    assert resume_run(tmp_path / "run").is_complete
    assert_same_traces(tmp_path / "run", undisturbed)


def test_a_run_killed_again_and_again_resumes_to_the_same_traces(
    undisturbed: Path, tmp_path: Path
) -> None:
    for point in ("event.turn:14", "journal.after:35", "event.op:21"):
        kill_at(point, tmp_path / "run")
    assert resume_run(tmp_path / "run").is_complete
    assert_same_traces(tmp_path / "run", undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(4))
def test_a_run_killed_at_a_random_moment_resumes_to_the_same_traces(
    number: int, tmp_path: Path
) -> None:
    changes = {"seeds": [0, 1], "latency_s": 0.01}
    run_rollout(toy_spec(**changes), tmp_path / "undisturbed")
    target = random.Random(number).randrange(5, records(tmp_path / "undisturbed") - 20)
    driver = start_driver(tmp_path / "run", changes)
    wait_until(lambda: records(tmp_path / "run") >= target or driver.poll() is not None, "records")
    driver.kill()
    assert end_of(driver)[0] == -signal.SIGKILL
    assert resume_run(tmp_path / "run").is_complete
    assert_same_traces(tmp_path / "run", tmp_path / "undisturbed")


def test_ctrl_c_stops_in_order_and_a_resume_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    changes = {**SEEDS, "latency_s": 0.05}
    driver = start_driver(tmp_path / "run", changes)
    wait_until(lambda: records(tmp_path / "run") > 40, "the first records")
    driver.send_signal(signal.SIGINT)
    code, output = end_of(driver)
    assert (code, output.splitlines()[0]) == (0, "finished 0 pending 3")
    assert "the run was stopped" in output
    assert resume_run(tmp_path / "run").is_complete
    assert_same_traces(tmp_path / "run", undisturbed)


def test_a_second_run_in_one_directory_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    driver = start_driver(tmp_path / "run", {**SEEDS, "latency_s": 0.2})
    wait_until(lambda: records(tmp_path / "run") > 10, "the first records")
    try:
        with pytest.raises(UsageError, match=rf"is being played by process {driver.pid} on "):
            run_rollout(toy_spec(**SEEDS), tmp_path / "run")
        with pytest.raises(UsageError, match="is being played by"):
            resume_run(tmp_path / "run")
    finally:
        driver.kill()
        end_of(driver)


def test_a_new_run_in_the_folder_of_another_is_refused(undisturbed: Path) -> None:
    with pytest.raises(UsageError, match="automem resume"):
        run_rollout(toy_spec(**SEEDS), undisturbed)


def test_a_resume_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"):
        resume_run(tmp_path)


def test_a_stopped_process_that_wakes_up_after_its_episode_moved_on_does_no_harm(
    undisturbed: Path, tmp_path: Path
) -> None:
    """The run's lock is of the node; here the stale process is on another one, so to speak."""
    driver = start_driver(tmp_path / "run", {**SEEDS, "latency_s": 0.02})
    wait_until(lambda: records(tmp_path / "run") > 60, "the first records")
    driver.send_signal(signal.SIGSTOP)
    try:
        (tmp_path / "run" / "run.lock").unlink()
        assert resume_run(tmp_path / "run").is_complete
        before = records(tmp_path / "run")
    finally:
        driver.send_signal(signal.SIGCONT)
    code, output = end_of(driver)
    assert (code, output.splitlines()[0]) == (0, "finished 0 pending 3")
    assert "lost its lease" in output
    assert records(tmp_path / "run") == before
    assert_same_traces(tmp_path / "run", undisturbed)
