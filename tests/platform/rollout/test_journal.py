"""The journal: what is written survives, what is torn is ignored, what is stale is refused."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automem.errors import LeaseLostError, StoreError
from automem.memory.ops import Append, Edit, OpResult, OpStatus
from automem.rollout import chain, lease
from automem.rollout.chain import ChainHead, read_events
from automem.rollout.journal import MAX_KNOWN_BLOBS, Journal, KnownBlobs
from automem.trace.events import (
    Attempt,
    Blob,
    CommitSource,
    Committed,
    Event,
    Observed,
    OpDone,
    Outcome,
    Role,
    Routine,
    Turn,
)


def begin(folder: Path, parent: ChainHead | None = None) -> Journal:
    return Journal(folder, lease.acquire(folder), parent)


def commits(count: int, first: int = 0) -> list[Event]:
    return [
        Committed(step=step, action=f"go {step}", source=CommitSource.MODEL)
        for step in range(first, first + count)
    ]


def steps_of(events: list[Event]) -> list[int]:
    return [event.step for event in events if isinstance(event, Committed)]


def test_every_kind_of_event_comes_back_as_it_was(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    edit = Edit(file="a.txt", inserted="x\n", creates=True)
    written: list[Event] = [
        Observed(
            step=0, observation="é \n \u2028", changed=True, outcome=Outcome(0.5, info={"a": 1})
        ),
        Turn(
            step=0,
            turn=0,
            routine=Routine.LOG,
            role=Role.MEMORY,
            prompt=[("user", "hi")],
            completion="ok",
            logprobs=[-0.25],
        ),
        OpDone(
            step=0,
            turn=0,
            index=0,
            op=Append(file="a.txt", text="x"),
            result=OpResult(OpStatus.OK, "ok"),
            edit=edit,
            chain="0" * 16,
        ),
        *commits(1),
    ]
    for event in written:
        journal.append(event)
    attempt, *events = read_events(tmp_path)
    assert isinstance(attempt, Attempt)
    assert events == written


def test_a_long_text_is_stored_once_over_all_attempts(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    name = journal.text("x" * 1000)
    assert journal.text("x" * 1000) == name
    assert journal.text("short") == "short"
    known = KnownBlobs()
    known.add(name)
    again = Journal(tmp_path, lease.acquire(tmp_path), ChainHead(1, 2), known)
    assert again.text("x" * 1000) == name
    assert sum(isinstance(event, Blob) for event in read_events(tmp_path)) == 1


def test_an_inline_text_that_looks_like_a_blob_name_is_stored_as_a_blob(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    impostor = "b:" + "0" * 32
    assert journal.text(impostor) != impostor


def test_the_memory_for_known_blobs_is_bounded() -> None:
    known = KnownBlobs()
    for number in range(MAX_KNOWN_BLOBS + 10):
        known.add(str(number))
    assert "9" not in known
    assert "10" in known


def test_a_newer_attempt_cuts_off_what_the_older_one_wrote_after(tmp_path: Path) -> None:
    first = begin(tmp_path)
    for event in commits(3):
        first.append(event)
    third_epoch = Journal(tmp_path, lease.acquire(tmp_path, above=2), ChainHead(1, 3))
    third_epoch.append(*commits(1, first=70))
    assert steps_of(read_events(tmp_path)) == [0, 1, 70]
    fourth = Journal(tmp_path, lease.acquire(tmp_path), ChainHead(3, 2))
    fourth.append(*commits(1, first=90))
    assert steps_of(read_events(tmp_path)) == [0, 90]


def test_a_stale_attempt_is_refused_and_what_slips_through_is_ignored(tmp_path: Path) -> None:
    stale = begin(tmp_path)
    stale.append(*commits(1))
    fresh = Journal(tmp_path, lease.acquire(tmp_path), ChainHead(1, 2))
    with pytest.raises(LeaseLostError, match="epoch 1 lost its lease to epoch 2"):
        stale.append(*commits(1, first=1))
    os.write(stale._file, chain.journal_path(tmp_path, 1).read_bytes())
    fresh.append(*commits(1, first=5))
    assert steps_of(read_events(tmp_path)) == [0, 5]


def test_an_attempt_that_died_before_its_first_record_does_not_count(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    journal.append(*commits(1))
    whole = chain.journal_path(tmp_path, 1).read_bytes()
    chain.journal_path(tmp_path, 2).write_bytes(whole[:20])
    chain.journal_path(tmp_path, 3).touch()
    assert steps_of(read_events(tmp_path)) == [0]


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data(), junk=st.binary(max_size=40).filter(lambda tail: b"\n" not in tail))
def test_a_journal_cut_at_any_byte_reads_as_a_prefix(
    tmp_path: Path, data: st.DataObject, junk: bytes
) -> None:
    path = chain.journal_path(tmp_path, 1)
    whole_path = tmp_path / "whole"
    if not whole_path.exists():
        journal = begin(tmp_path)
        for event in commits(6):
            journal.append(event)
        whole_path.write_bytes(path.read_bytes())
    whole = whole_path.read_bytes()
    path.write_bytes(whole)
    events = read_events(tmp_path)
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut] + junk)
    assert read_events(tmp_path) == events[: whole[:cut].count(b"\n")]


def test_zeros_at_the_end_are_a_torn_tail(tmp_path: Path) -> None:
    begin(tmp_path).append(*commits(1))
    with open(chain.journal_path(tmp_path, 1), "ab") as file:
        file.write(b"\0" * 5000)
    assert steps_of(read_events(tmp_path)) == [0]


def test_damage_in_the_middle_is_an_error_that_says_where(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    for event in commits(4):
        journal.append(event)
    path = chain.journal_path(tmp_path, 1)
    path.write_bytes(path.read_bytes().replace(b"go 1", b"go X"))
    with pytest.raises(StoreError, match=r"0001\.jsonl: record 3 is damaged"):
        read_events(tmp_path)


def test_a_full_disk_undoes_the_torn_record_and_ends_the_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = begin(tmp_path)
    journal.append(*commits(1))
    real_write = os.write

    def short_write(file: int, data: bytes) -> int:
        return real_write(file, bytes(data)[:7])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", short_write)
        with pytest.raises(StoreError, match="make room"):
            journal.append(*commits(1, first=1))
    with pytest.raises(StoreError, match="make room"):
        journal.append(*commits(1, first=1))
    assert chain.journal_path(tmp_path, 1).read_bytes().count(b"\n") == 2
    again = Journal(tmp_path, lease.acquire(tmp_path), ChainHead(1, 2))
    again.append(*commits(1, first=1))
    assert steps_of(read_events(tmp_path)) == [0, 1]


def test_a_really_full_device_is_a_store_error(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    os.close(journal._file)
    journal._file = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(StoreError) as caught:
        journal.append(*commits(1))
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC


def test_the_last_event_is_found_from_the_end(tmp_path: Path) -> None:
    assert chain.last_event(tmp_path) is None
    journal = begin(tmp_path)
    assert isinstance(chain.last_event(tmp_path), Attempt)
    journal.append(Blob(digest="b:" + "1" * 32, text="y" * 1_000_000))
    assert isinstance(chain.last_event(tmp_path), Blob)
    journal.append(*commits(1, first=9))
    with open(chain.journal_path(tmp_path, 1), "ab") as file:
        file.write(b'{"kind":"comm')
    assert chain.last_event(tmp_path) == commits(1, first=9)[0]


def test_an_append_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = begin(tmp_path)
    sizes, write = [], os.write

    def counted(descriptor: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", counted)
    for number, event in enumerate(commits(3), 1):
        journal.append(event)
        assert len(sizes) == number
