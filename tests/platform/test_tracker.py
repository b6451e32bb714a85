"""The tracker, against the real wandb in its offline mode."""

import json
import logging
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.loop_parts import specialist
from support.toy_world import toy_spec
from support.tracked import axes, curve, eventually, history, offline_parts, scalars

from automem.errors import UsageError
from automem.loops.following import Following
from automem.loops.gate import Verdict
from automem.loops.ledger import Closed, Ledger, Trained
from automem.rollout.run_dir import create_run
from automem.rollout.stored_run import StoredRun
from automem.tracker import (
    NoTracker,
    RunTracker,
    WandbTracker,
    closing_tracker,
    open_tracker,
    sync_command,
    wandb_key_found,
)
from automem.tracking import prometheus
from automem.tracking.prometheus import Published, gauge_name


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def test_none_follows_nothing(tmp_path: Path) -> None:
    tracker = open_tracker({"name": "none"}, tmp_path, {})
    tracker.log({"progression": 0.5}, step=1)
    tracker.finish({"episodes": 1})
    assert isinstance(tracker, Published)
    assert isinstance(tracker.inner, NoTracker)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_tracker_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'wandb'"):
        open_tracker({"name": "wandbb"}, tmp_path, {})


def test_without_a_key_wandb_writes_to_the_run_folder(tmp_path: Path) -> None:
    tracker = open_tracker({"name": "wandb"}, tmp_path, {"env": {"name": "crafter"}})
    tracker.log({"progression": 0.25, "steps_per_s": 100.0}, step=10)
    tracker.log({"progression": 0.5, "steps_per_s": 120.0}, step=20)
    tracker.finish({"episodes": 2, "progression": {"mean": 0.5}})
    [folder] = (tmp_path / "wandb").glob("offline-run-*")
    [record] = folder.glob("run-*.wandb")
    wanted = (b"steps_per_s", b"crafter", b"progression.mean")
    deadline = time.monotonic() + 30  # wandb's own process writes it out a moment later
    while missing := [name for name in wanted if name not in record.read_bytes()]:
        assert time.monotonic() < deadline, missing
        time.sleep(0.02)
    [table] = folder.rglob("summary*.table.json")
    assert ["progression.mean", "0.5"] in json.loads(table.read_text())["data"]


def test_a_resumed_run_is_one_run_of_wandb_and_its_steps_go_on(tmp_path: Path) -> None:
    for driver in range(2):
        (tmp_path / "run.json").write_text(json.dumps({"steps_measured": 40 * driver}))
        tracker = WandbTracker({"name": "wandb", "artifacts": False}, tmp_path, {})
        assert tracker.first_step == 40 * driver
        tracker.log({"progression": 0.5}, step=10)
        tracker.finish({"episodes": 1})
    names = [path.stem for path in offline_parts(tmp_path)]
    assert len(names) == 2
    assert len(set(names)) == 1, "two ids for one run"


def follow_two_loops(run_dir: Path, kind: str) -> None:
    """Two training seeds, one after the other; the second one's machine is lost after the second
    step, and another goes on from the checkpoint after the first."""

    def train(tracker: RunTracker, seed: int, first: int, last: int) -> Following:
        ledger = Ledger(run_dir / f"seed-{seed}")
        followed = Following(tracker.part(f"seed-{seed}"), ledger)
        training = followed.training()
        for step in range(first, last):
            training.log({"train/loss": 1.0 / (step + 1)}, step)
        return followed

    def close(followed: Following, seed: int, steps: int) -> None:
        ledger, made = Ledger(run_dir / f"seed-{seed}"), specialist("good", steps=steps)
        ledger.add(1, Trained(0, made))
        ledger.add(1, Closed(Verdict.ACCEPTED, "better", made, made, 0.25))
        followed.log_round(1, 0.25, Verdict.ACCEPTED)

    tracker = open_tracker({"name": kind}, run_dir, {})
    close(train(tracker, 0, 0, 3), 0, steps=3)
    train(tracker, 1, 0, 2)
    tracker.finish({})
    tracker = open_tracker({"name": kind}, run_dir, {})
    close(train(tracker, 1, 1, 4), 1, steps=4)
    tracker.finish({"arms": {"base": {"mean": 0.5}}})


def test_wandb_draws_every_training_seed_and_what_came_after_a_death(tmp_path: Path) -> None:
    follow_two_loops(tmp_path, "wandb")
    name, axis = "seed-1/train/loss", "seed-1/step"
    wanted = [(0, 1.0), (1, 0.5), (1, 0.5), (2, pytest.approx(1 / 3)), (3, 0.25)]
    assert eventually(lambda: curve(tmp_path, name, axis) == wanted), history(tmp_path)
    first = curve(tmp_path, "seed-0/train/loss", "seed-0/step")
    assert [place for place, _ in first] == [0, 1, 2]
    assert curve(tmp_path, "seed-0/gain", "seed-0/step") == [(4, 0.25)]
    assert curve(tmp_path, "seed-1/gain", "seed-1/step") == [(5, 0.25)]
    assert axes(tmp_path)["seed-0/train/loss"] == "seed-0/step"
    assert axes(tmp_path)["seed-1/accepted"] == "seed-1/step"


def test_tensorboard_draws_every_training_seed_and_what_came_after_a_death(tmp_path: Path) -> None:
    follow_two_loops(tmp_path, "tensorboard")
    losses = {
        seed: scalars(tmp_path / "tensorboard" / f"seed-{seed}", "train/loss") for seed in (0, 1)
    }
    assert [place for place, _ in losses[0]] == [0, 1, 2]
    assert [place for place, _ in losses[1]] == [0, 1, 1, 2, 3]
    assert scalars(tmp_path / "tensorboard/seed-1", "gain") == [(5, 0.25)]
    assert scalars(tmp_path / "tensorboard", "summary/arms.base.mean") == [(0, 0.5)]


def test_a_second_round_is_drawn_after_the_first(tmp_path: Path) -> None:
    seen: list[tuple[int, dict[str, float]]] = []

    class Listening(NoTracker):
        def log(self, metrics: Mapping[str, float], step: int) -> None:
            seen.append((step, dict(metrics)))

    ledger = Ledger(tmp_path)
    followed = Following(Listening(), ledger)
    made = specialist("good", steps=7)
    ledger.add(1, Trained(0, made))
    ledger.add(1, Closed(Verdict.REJECTED, "worse", made, None, None))
    followed.training().log({"train/loss": 0.5}, 2)
    assert seen == [(7 + 1 + 2, {"train/loss": 0.5, "train/step": 2.0})]


def test_a_loop_of_a_run_is_a_run_of_its_own_to_prometheus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[dict[str, float], str]] = []
    monkeypatch.setattr(prometheus, "publish", lambda values, run: seen.append((values, run)))
    tracker = open_tracker({"name": "none"}, tmp_path / "mine", {})
    tracker.part("seed-3").log({"train/loss": 0.5}, step=4)
    assert seen == [({"train/loss": 0.5, "world_steps": 4.0}, "mine/seed-3")]


def test_what_a_loop_logged_before_it_was_broken_off_is_kept(tmp_path: Path) -> None:
    def broken_off() -> None:
        with closing_tracker({"name": "tensorboard"}, tmp_path, {}) as tracker:
            tracker.part("seed-0").log({"train/loss": 0.5}, step=1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert scalars(tmp_path / "tensorboard/seed-0", "train/loss") == [(1, 0.5)]


def test_a_stored_run_takes_its_wandb_id_to_another_machine(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    spec = create_run(here, toy_spec(seeds=[1], storage_url=str(tmp_path / "store")))
    tracker = WandbTracker({"name": "wandb", "mode": "disabled"}, here, {})
    StoredRun(spec.storage_url).put_run(here)  # at once: nothing waits for the tracker's thread
    tracker.finish({})
    StoredRun(spec.storage_url).get_run(there)
    again = WandbTracker({"name": "wandb", "mode": "disabled"}, there, {})
    again.finish({})
    assert again._id == tracker._id
    assert (there / "wandb-id").read_text().strip() == tracker._id


def test_one_command_sends_all_parts_of_a_resumed_run(tmp_path: Path) -> None:
    assert sync_command(tmp_path, tmp_path) is None
    for part in ("1-a", "1-a-1"):
        (tmp_path / f"my run/wandb/offline-run-{part}").mkdir(parents=True)
    command = sync_command(tmp_path / "my run", Path("my run"))
    assert command == "WANDB_RESUME=allow wandb sync 'my run'/wandb/offline-run-*"
    listing = command.replace("wandb sync", "ls -d")
    listed = subprocess.run(listing, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert listed.stdout.splitlines() == [
        "my run/wandb/offline-run-1-a",
        "my run/wandb/offline-run-1-a-1",
    ]


def test_traces_and_adapters_are_artifacts_of_the_run(tmp_path: Path) -> None:
    played, trained = tmp_path / "played", tmp_path / "run/round-1"
    for folder in (played, trained / "adapter", tmp_path / "run/tables/steps"):
        folder.mkdir(parents=True)
        (folder / "file").write_text(folder.name)
    (trained / "adapter.json").write_text(json.dumps({"name": "new one", "path": "adapter"}))
    spec = {"engines": {"base": {"adapters": {"old": str(played)}}}}
    (tmp_path / "run/run.json").write_text(json.dumps({"spec": spec}))
    tracker = WandbTracker({"name": "wandb"}, tmp_path / "run", {})
    seeds = [{"world": "toy", "seed": 1, "progression": 0.5}]
    figure = {"mean": 0.5, "se": 0.1, "ci95": [0.4, 0.6], "n": 4}
    tracker.finish({"progression": figure, "metrics": {"ops": figure}, "seeds": seeds})
    assert not tracker._has_failed
    [record] = offline_parts(tmp_path / "run")
    wanted = (b"traces-run", b"new-one", b"adapters_played", b"old")
    deadline = time.monotonic() + 30
    while missing := [name for name in wanted if name not in record.read_bytes()]:
        assert time.monotonic() < deadline, missing
        time.sleep(0.02)
    [table] = record.parent.rglob("metrics*.table.json")
    assert ["ops", 0.5, 0.4, 0.6, 4] in json.loads(table.read_text())["data"]


def test_tensorboard_gets_curves_and_a_resumed_run_goes_on_in_its_folder(tmp_path: Path) -> None:
    for driver in range(2):
        (tmp_path / "run.json").write_text(json.dumps({"steps_measured": 40 * driver}))
        tracker = open_tracker({"name": "tensorboard"}, tmp_path, {"env": {"name": "toy"}})
        tracker.log({"progression": 0.25 * (driver + 1)}, step=10)
        tracker.finish({"progression": {"mean": 0.5}, "complete": True})
    assert scalars(tmp_path / "tensorboard", "progression") == [(10, 0.25), (50, 0.5)]
    assert scalars(tmp_path / "tensorboard", "summary/progression.mean") == [(10, 0.5), (50, 0.5)]


def test_gauges_have_names_that_prometheus_takes() -> None:
    assert gauge_name("train/loss") == "automem_train_loss"


def test_a_failing_tracker_warns_once_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="automem.tracker"):
        tracker = WandbTracker({"name": "wandb", "mode": "no such mode"}, tmp_path, {})
        for step in range(5):
            tracker.log({"progression": 0.1}, step=step)
        tracker.finish({"episodes": 1})
    assert len(caplog.records) == 1
    assert "the run goes on without it" in caplog.text


def test_a_login_in_netrc_is_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not wandb_key_found()
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.wandb.ai\n  login user\n  password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert wandb_key_found()
