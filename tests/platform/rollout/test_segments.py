"""The loss of a node: what was stored comes back, what was not is played again."""

import asyncio
import shutil
from pathlib import Path

import pytest
from support.drivers import assert_same_traces, end_of, records, start_driver, wait_until
from support.toy_world import toy_spec

from automem.errors import LeaseLostError, StoreError
from automem.rollout import lease
from automem.rollout.chain import ChainHead, iter_lines, read_events
from automem.rollout.journal import Journal
from automem.rollout.run import resume_run, run_rollout
from automem.rollout.segments import SegmentStore, SegmentWriter, restore
from automem.trace.events import CommitSource, Committed


@pytest.fixture
def store(tmp_path: Path) -> SegmentStore:
    return SegmentStore(f"file://{tmp_path}/store")


def begin(
    store: SegmentStore, folder: Path, epoch: int, parent: ChainHead | None = None
) -> tuple[Journal, SegmentWriter]:
    writer = SegmentWriter(store, folder, epoch, parent, every_steps=3, every_s=1e9)
    journal = Journal(folder, lease.acquire(folder, epoch - 1), parent, on_write=writer.add)
    return journal, writer


def write(journal: Journal, writer: SegmentWriter, steps: range) -> None:
    async def run() -> None:
        for step in steps:
            journal.append(Committed(step, f"go {step}", CommitSource.MODEL))
            await writer.after_step()
        if writer._upload is not None:
            await writer._upload

    asyncio.run(run())


def actions(folder: Path) -> list[int]:
    return [event.step for event in read_events(folder) if isinstance(event, Committed)]


def test_a_lost_node_costs_the_steps_after_the_last_segment(
    store: SegmentStore, tmp_path: Path
) -> None:
    node, other = tmp_path / "node/toy-0-0", tmp_path / "other/toy-0-0"
    write(*begin(store, node, 1), range(8))
    assert actions(node) == list(range(8))
    shutil.rmtree(node)
    assert restore(store, other)
    assert actions(other) == list(range(6))
    assert not restore(store, other)


def test_a_resume_on_the_same_node_first_stores_what_the_store_lacks(
    store: SegmentStore, tmp_path: Path
) -> None:
    node, other = tmp_path / "node/toy-0-0", tmp_path / "other/toy-0-0"
    write(*begin(store, node, 1), range(5))
    write(*begin(store, node, 2, ChainHead(1, 5)), range(4, 11))
    write(*begin(store, node, 3, ChainHead(2, 12)), range(10, 20))
    assert actions(node) == list(range(20))
    assert restore(store, other)
    assert actions(other) == list(range(19))
    assert sum(1 for _ in iter_lines(other)) == store.head("toy-0-0").records


def test_a_node_that_others_overtook_takes_over_their_journal(
    store: SegmentStore, tmp_path: Path
) -> None:
    node, other = tmp_path / "node/toy-0-0", tmp_path / "other/toy-0-0"
    stale = begin(store, node, 1)
    write(*stale, range(7))
    assert restore(store, other)
    write(*begin(store, other, 2, ChainHead(1, 7)), range(6, 10))
    with pytest.raises(LeaseLostError, match="epoch 1 lost its claim to epoch 2"):
        write(*stale, range(7, 10))
    assert restore(store, node)
    assert actions(node) == list(range(9))


def test_an_epoch_is_claimed_once(store: SegmentStore, tmp_path: Path) -> None:
    store.claim("toy-0-0", 4)
    with pytest.raises(LeaseLostError, match="another node has epoch 4"):
        store.claim("toy-0-0", 4)
    assert store.epochs("toy-0-0") == [4]


def test_a_claim_without_segments_is_no_attempt(store: SegmentStore, tmp_path: Path) -> None:
    store.claim("toy-0-0", 1)
    assert store.head("toy-0-0") == ChainHead(0, 0)
    assert not restore(store, tmp_path / "toy-0-0")


def test_segments_after_a_gap_do_not_count(store: SegmentStore, tmp_path: Path) -> None:
    node, other = tmp_path / "node/toy-0-0", tmp_path / "other/toy-0-0"
    write(*begin(store, node, 1), range(12))
    second = next((tmp_path / "store/toy-0-0/0001").glob("000002-*"))
    second.unlink()
    assert restore(store, other)
    assert actions(other) == [0, 1, 2]


def test_a_store_that_refuses_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="the store refused"):
        SegmentStore(f"file://{tmp_path}/file").claim("toy-0-0", 1)


def test_a_memory_store_works_too(tmp_path: Path) -> None:
    store = SegmentStore(f"memory://{tmp_path.name}")
    node, other = tmp_path / "node/toy-0-0", tmp_path / "other/toy-0-0"
    write(*begin(store, node, 1), range(6))
    assert restore(store, other)
    assert actions(other) == list(range(6))


def test_a_run_goes_on_after_its_node_is_lost(tmp_path: Path) -> None:
    run_rollout(toy_spec(), tmp_path / "undisturbed")
    run_dir = tmp_path / "run"
    changes = {
        "seeds": [0, 1, 2],
        "latency_s": 0.01,
        "segments_url": f"file://{tmp_path}/store",
        "segment_steps": 2,
    }
    driver = start_driver(run_dir, changes)
    wait_until(lambda: records(run_dir) > 250, "steps")
    driver.kill()
    end_of(driver)
    shutil.rmtree(run_dir / "episodes")
    assert resume_run(run_dir).is_complete
    assert_same_traces(run_dir, tmp_path / "undisturbed")
    stored = read_events(run_dir / "episodes/toy-0-0")
    shutil.rmtree(run_dir / "episodes")
    assert restore(SegmentStore(f"file://{tmp_path}/store"), run_dir / "episodes/toy-0-0")
    assert len(read_events(run_dir / "episodes/toy-0-0")) == len(stored)
