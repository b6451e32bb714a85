"""A loop that collects while it trains is killed, again and again, and goes on: nothing is lost,
repeated or decided twice."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support.collect_driver import COLLECTION, ROUNDS, WANT
from support.drivers import PATIENCE_S, TESTS, wait_until

from automem.loops.collection import Gathered, PartBegun, PartPlayed
from automem.loops.ledger import LEDGER, Chosen, Closed, Compared, Ledger, Picked, Trained
from automem.loops.seedbook import SeedBook

pytestmark = pytest.mark.slow


def start(folder: Path) -> "subprocess.Popen[bytes]":
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "support.collect_driver", str(folder)],
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )


def events(folder: Path) -> int:
    """Lines in the ledger and in all journals: how far the loop has come."""
    # not `rglob`: folders go while it looks
    walked = [(place, names) for place, _, names in os.walk(folder) if place.endswith("journal")]
    paths = [Path(place, name) for place, names in walked for name in names]
    found = [path for path in (folder / LEDGER, *paths) if path.exists()]
    return sum(path.read_bytes().count(b"\n") for path in found)


def test_a_loop_killed_while_it_collects_and_trains_repeats_and_loses_nothing(
    tmp_path: Path,
) -> None:
    finished: dict[Path, int] = {}
    for kill in (2, 900, 3600):  # of some 5,800: in the first part, in play, in a later round
        driver = start(tmp_path)
        try:
            wait_until(
                lambda at=kill, it=driver: events(tmp_path) >= at or it.poll() is not None,
                f"{kill} records",
            )
        finally:
            os.killpg(driver.pid, signal.SIGKILL)
        assert driver.wait() == -signal.SIGKILL  # it was killed, not done
        found = tmp_path.rglob("episodes/*/episode.json")
        finished |= {path: path.stat().st_mtime_ns for path in found if path not in finished}
    assert start(tmp_path).wait(PATIENCE_S) == 0
    assert finished
    assert {path: path.stat().st_mtime_ns for path in finished} == finished  # none played again
    ledger = Ledger(tmp_path)
    entries = ledger.entries()
    kinds = Counter(type(entry.what) for entry in entries)
    for kind in (Chosen, Gathered, Picked, Trained, Closed):
        assert [e.round for e in entries if isinstance(e.what, kind)] == [1, 2, 3]
    looks = [(e.round, e.what.kind) for e in entries if isinstance(e.what, Compared)]
    assert len(looks) == len(set(looks))
    begun = [entry.what for entry in entries if isinstance(entry.what, PartBegun)]
    played = [entry.what.part for entry in entries if isinstance(entry.what, PartPlayed)]
    assert [part.part for part in begun] == sorted(played)
    assert kinds[PartBegun] == ROUNDS * WANT // COLLECTION.part
    used = [u for e in entries if isinstance(e.what, Gathered) for u in e.what.uses]
    assert [use.part for use in used] == list(range(1, len(used) + 1))
    assert {use.part: use.version for use in used} == {p.part: p.version for p in begun}
    assert max(use.lag for use in used) <= COLLECTION.max_staleness
    assert sum(use.turns for use in used) > 0
    assert_nothing_was_repeated(tmp_path)


def assert_nothing_was_repeated(folder: Path) -> None:
    """No seed served twice, and an episode that was finished was not begun again."""
    seeds = [(d.range, seed) for d in SeedBook(folder / "seeds.jsonl").draws() for seed in d.seeds]
    assert len(seeds) == len(set(seeds))
    episodes = list(folder.rglob("episodes/*/episode.json"))
    parts = [path for path in episodes if "/collect/" in str(path)]
    assert len(parts) == len({path.parent.name for path in parts}) == ROUNDS * WANT
