"""The tracker, against the real wandb in its offline mode."""

import json
import logging
import time
from pathlib import Path

import pytest

from automem.errors import UsageError
from automem.tracker import NoTracker, WandbTracker, open_tracker, wandb_key_found
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


def offline_records(run_dir: Path) -> list[Path]:
    return sorted((run_dir / "wandb").glob("offline-run-*/run-*.wandb"))


def test_a_resumed_run_is_one_run_of_wandb_and_its_steps_go_on(tmp_path: Path) -> None:
    for driver in range(2):
        (tmp_path / "run.json").write_text(json.dumps({"steps_measured": 40 * driver}))
        tracker = WandbTracker({"name": "wandb", "artifacts": False}, tmp_path, {})
        assert tracker.first_step == 40 * driver
        tracker.log({"progression": 0.5}, step=10)
        tracker.finish({"episodes": 1})
    names = [path.stem for path in offline_records(tmp_path)]
    assert len(names) == 2
    assert len(set(names)) == 1, "two ids for one run"


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
    [record] = offline_records(tmp_path / "run")
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


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    """What TensorBoard would draw."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events.*")):
        data = path.read_bytes()
        while data:  # a record: length (8 bytes), its checksum (4), the event, a checksum (4)
            length = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + length])
            data = data[12 + length + 4 :]
            found += [
                (event.step, value.simple_value)
                for value in event.summary.value
                if value.tag == tag
            ]
    return sorted(found)


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
