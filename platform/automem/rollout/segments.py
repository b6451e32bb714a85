"""Journals in object storage: what lets an episode survive the loss of its node.

Under an fsspec URL each attempt has a folder `EPISODE/0003/` with a claim, `lease.json`, and
immutable numbered segments, `000001-57.jsonl` (57 records), each holding the journal's very lines.
They are written every so many steps or seconds, so the death of a node loses the tail after the
last segment, which is played again. A folder's first record says, as on disk, what it continues.

Promise: `restore` gives a journal that reads as everything that was stored, in order; a claim is
exclusive, so of two nodes that take an episode one loses before it has stored anything; a node that
lost its claim stops at its next segment, and what it stored meanwhile is not in the chain.

The claim needs an exclusive create. `file`, `memory` and stores whose fsspec implementation honours
`mode="create"` (S3 by conditional writes) have it; elsewhere two nodes that start the same episode
within the same moment may both believe to own it: start a run on one driver only.
"""

import asyncio
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import fsspec
import msgspec

from automem.errors import LeaseLostError, StoreError
from automem.rollout.chain import (
    JOURNAL_FOLDER,
    ChainHead,
    decode,
    encode,
    iter_lines,
    journal_epochs,
    journal_path,
)
from automem.trace.events import Attempt, Committed, Event

LEASE = "lease.json"


class Segment(NamedTuple):
    """One stored object."""

    number: int
    records: int
    path: str


class SegmentStore:
    """The store of one run; knows names and objects, no journals."""

    def __init__(self, url: str) -> None:
        """`url`: any that fsspec knows, for example `s3://bucket/runs/7`."""
        self._fs, self._root = fsspec.core.url_to_fs(url)

    def epochs(self, episode: str) -> list[int]:
        """Attempts that have claimed the episode, oldest first."""
        return sorted(int(name) for name in self._names(episode) if name.isdigit())

    def claim(self, episode: str, epoch: int) -> None:
        """Take the epoch; LeaseLostError where somebody has it."""
        folder = f"{self._root}/{episode}/{epoch:04d}"
        mine = msgspec.json.encode({"claim": uuid.uuid4().hex})
        with _store_errors(folder):
            self._fs.makedirs(folder, exist_ok=True)
            try:
                self._create(f"{folder}/{LEASE}", mine)
            except FileExistsError:
                # A request that was repeated after its answer was lost finds its own claim.
                if self._fs.cat_file(f"{folder}/{LEASE}") != mine:
                    raise LeaseLostError(f"{episode}: another node has epoch {epoch}") from None

    def segments(self, episode: str, epoch: int) -> list[Segment]:
        """The attempt's segments without a gap, in order."""
        found = sorted(
            Segment(int(number), int(records), f"{self._root}/{episode}/{epoch:04d}/{name}")
            for name in self._names(f"{episode}/{epoch:04d}")
            if name.endswith(".jsonl")
            for number, _, records in [name.removesuffix(".jsonl").partition("-")]
        )
        return [s for expected, s in enumerate(found, 1) if s.number == expected]

    def put(self, episode: str, epoch: int, number: int, lines: list[bytes]) -> None:
        """Store a segment; LeaseLostError where a newer attempt has claimed the episode."""
        newest = max(self.epochs(episode), default=epoch)
        if newest > epoch:
            raise LeaseLostError(f"{episode}: epoch {epoch} lost its claim to epoch {newest}")
        path = f"{self._root}/{episode}/{epoch:04d}/{number:06d}-{len(lines)}.jsonl"
        with _store_errors(path):
            self._create(path, b"".join(lines))

    def read(self, segment: Segment) -> bytes:
        """A segment's lines."""
        with _store_errors(segment.path):
            data: bytes = self._fs.cat_file(segment.path)
            return data

    def head(self, episode: str) -> ChainHead:
        """Newest attempt with a segment, and the records of its chain; epoch 0 where none has."""
        for epoch in reversed(self.epochs(episode)):
            if segments := self.segments(episode, epoch):
                first = decode(self.read(segments[0]).partition(b"\n")[0] + b"\n")
                inherited = first.parent_records if isinstance(first, Attempt) else 0
                return ChainHead(epoch, inherited + sum(s.records for s in segments))
        return ChainHead(0, 0)

    def _create(self, path: str, data: bytes) -> None:
        if "file" in self._fs.protocol:
            _create_file(path, data)
        else:
            self._fs.pipe_file(path, data, mode="create")

    def _names(self, folder: str) -> list[str]:
        with _store_errors(folder):
            self._fs.invalidate_cache()
            try:
                paths = self._fs.ls(f"{self._root}/{folder}", detail=False)
            except FileNotFoundError:
                return []
            return [str(path).rstrip("/").rpartition("/")[2] for path in paths]


class SegmentWriter:
    """Stores one attempt's journal as it grows: give `add` to the journal as `on_write`."""

    def __init__(
        self,
        store: SegmentStore,
        directory: Path,
        epoch: int,
        head: ChainHead | None,
        every_steps: int,
        every_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Claims `epoch`. Whatever the store lacks of the chain up to `head` goes into the first
        segment."""
        self._store = store
        self._directory = directory
        self._epoch = epoch
        self._every_steps, self._every_s = every_steps, every_s
        self._clock = clock
        self._lines: list[bytes] = []
        self._steps = 0
        self._stored_at = clock()
        self._number = 0
        self._upload: asyncio.Task[None] | None = None
        store.claim(directory.name, epoch)
        self._parent = store.head(directory.name)
        self._backlog: list[bytes] = []
        if head is not None and head.records > self._parent.records:
            lines = iter_lines(directory)
            self._backlog = list(islice(lines, self._parent.records, head.records))

    def add(self, line: bytes, event: Event) -> None:
        """A line that the journal has written."""
        if isinstance(event, Attempt):
            parents = {"parent_epoch": self._parent.epoch, "parent_records": self._parent.records}
            self._lines = [encode(msgspec.structs.replace(event, **parents)), *self._backlog]
            self._backlog = []
            return
        self._lines.append(line)
        self._steps += isinstance(event, Committed)

    async def after_step(self) -> None:
        """Start a segment where one is due; what broke the last one is raised here."""
        is_due = (
            self._steps >= self._every_steps or self._clock() - self._stored_at >= self._every_s
        )
        if self._upload is not None and (self._upload.done() or is_due):
            await asyncio.shield(self._upload)  # who is cancelled here still hands over
            self._upload = None
        if is_due and self._lines:
            self._upload = asyncio.create_task(self._put(self._take_lines()))

    async def finish(self) -> None:
        """Everything written so far is stored."""
        if self._upload is not None:
            await self._upload
            self._upload = None
        if self._lines:
            await self._put(self._take_lines())

    def cancel(self) -> None:
        """The attempt is over; an upload under way may or may not arrive."""
        if self._upload is not None:
            self._upload.cancel()

    def _take_lines(self) -> list[bytes]:
        lines, self._lines = self._lines, []
        self._steps, self._stored_at = 0, self._clock()
        self._number += 1
        return lines

    async def _put(self, lines: list[bytes]) -> None:
        episode = self._directory.name
        await asyncio.to_thread(self._store.put, episode, self._epoch, self._number, lines)


def restore(store: SegmentStore, directory: Path) -> bool:
    """Rebuild the journal in `directory` from the store where the store knows more than this node
    (a new node, or one that others overtook); whether it did."""
    stored = store.head(directory.name)
    if stored.epoch == 0 or not _is_behind(directory, stored):
        return False
    fresh = directory / f"{JOURNAL_FOLDER}.restoring"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for epoch in store.epochs(directory.name):
        with open(fresh / journal_path(directory, epoch).name, "wb") as file:
            for segment in store.segments(directory.name, epoch):
                file.write(store.read(segment))
    shutil.rmtree(directory / JOURNAL_FOLDER, ignore_errors=True)
    fresh.rename(directory / JOURNAL_FOLDER)
    return True


def _is_behind(directory: Path, stored: ChainHead) -> bool:
    """Whether the local journal is older than `stored`. A chain that has lost its own tail to a
    power cut counts as older; one that has more records of the same attempt does not."""
    local = max(journal_epochs(directory), default=0)
    if local != stored.epoch:
        return local < stored.epoch
    return sum(1 for _ in iter_lines(directory)) < stored.records


@contextmanager
def _store_errors(path: str) -> Iterator[None]:
    """Whatever a store's library raises becomes a StoreError; they have no common base."""
    try:
        yield
    except (StoreError, FileExistsError):
        raise
    except Exception as error:
        raise StoreError(f"{path}: the store refused: {error}") from error


def _create_file(path: str, data: bytes) -> None:
    """A local file that appears whole and only where there is none yet."""
    temporary = f"{path}.{os.getpid()}-{threading.get_ident()}.tmp"
    Path(temporary).write_bytes(data)
    try:
        os.link(temporary, path)
    finally:
        os.unlink(temporary)
