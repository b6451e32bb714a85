"""The tracker, against the real wandb in its offline mode."""

import json
import logging
import time
from pathlib import Path

import pytest

from automem.errors import UsageError
from automem.tracker import NoTracker, WandbTracker, open_tracker, wandb_key_found


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def test_none_follows_nothing(tmp_path: Path) -> None:
    tracker = open_tracker({"name": "none"}, tmp_path, {})
    tracker.log({"progression": 0.5}, step=1)
    tracker.finish({"episodes": 1})
    assert isinstance(tracker, NoTracker)
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
