"""The journal: an episode's truth on disk, one file per attempt, one line per event.

Promise: when `append` returns, the event survives a kill of this process (with `fsync`, a power
cut). A line is the event as JSON with a last field `crc`; it is written by a single `os.write` to a
file that only this attempt writes, after a check of the lease. A write that cannot be completed is
undone and raises StoreError, and the journal takes nothing more: the caller recovers with a new
attempt. The cost of a record does not depend on the length of the episode.

An attempt never writes another's file. Its first record, `Attempt`, names how many records of its
parent's chain it keeps; what an older attempt wrote after that, torn or whole, never happened.
Reading is `read_events` (all) and `iter_events` (streaming); see `chain` for the format.
"""

import errno
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from automem.crash import crash_point, is_armed
from automem.errors import StoreError
from automem.rollout.chain import ChainHead, iter_events, journal_path, read_events, seal
from automem.rollout.durably import sync
from automem.rollout.lease import Lease
from automem.trace.blobs import blob_name, is_blob_name
from automem.trace.events import INLINE_CHARS, Attempt, Blob, Event, Turn

MAX_KNOWN_BLOBS = 16_384
"""Blobs that a journal remembers having written: bounds its memory (2 MB) in endless episodes. A
static prefix is then written once per so many new texts; readers take the first."""


class KnownBlobs:
    """Names of the last blobs written, oldest first out; the same after a resume as before."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> None:
        self._names[name] = None
        if len(self._names) > MAX_KNOWN_BLOBS:
            del self._names[next(iter(self._names))]


class Totals(msgspec.Struct):
    """What this attempt has written, for progress reports."""

    records: int = 0
    bytes: int = 0
    turns: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


class Journal:
    """One attempt's journal: the `Recorder` of a session, on disk."""

    def __init__(
        self,
        directory: Path,
        lease: Lease,
        parent: ChainHead | None = None,
        known: KnownBlobs | None = None,
        *,
        fsync: bool = False,
        on_write: Callable[[bytes, Event], None] | None = None,
    ) -> None:
        """Begin the file of `lease.epoch` after `parent` (None: a fresh episode). `on_write` gets
        every line that was written, with its event."""
        self.totals = Totals()
        self._lease = lease
        self._known = known or KnownBlobs()
        self._fsync = fsync
        self._on_write = on_write
        self._encoder = msgspec.json.Encoder()
        self._buffer = bytearray()
        self._size = 0
        self._broken = ""
        self._path = journal_path(directory, lease.epoch)
        parent = parent or ChainHead(0, 0)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = os.open(self._path, flags, 0o600)
            if fsync:  # the file's name, its folder's, and the episode's
                for folder in (self._path.parent, directory, directory.parent):
                    sync(folder)
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be created: {error}") from error
        try:
            self.append(
                Attempt(
                    epoch=lease.epoch,
                    parent_epoch=parent.epoch,
                    parent_records=parent.records,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    time=time.time(),
                )
            )
        except StoreError:
            self.close()
            raise

    @property
    def epoch(self) -> int:
        return self._lease.epoch

    def append(self, event: Event) -> None:
        """Write one event. StoreError where it cannot be, LeaseLostError where it may not."""
        if self._broken:
            raise StoreError(self._broken)
        self._lease.check()
        line = self._encode(event)
        crash_point("journal.before")
        self._write(line)
        crash_point("journal.after")
        if is_armed():
            crash_point(f"event.{event.__struct_config__.tag}")
        totals = self.totals
        totals.records += 1
        totals.bytes += len(line)
        if type(event) is Turn:
            totals.turns += 1
            totals.tokens_in += event.prompt_tokens
            totals.tokens_out += event.completion_tokens
        if self._on_write is not None:
            self._on_write(bytes(line), event)

    def text(self, text: str) -> str:
        """`text` itself where it is short, else the name of its blob, written at first use."""
        if len(text) <= INLINE_CHARS and not is_blob_name(text):
            return text
        name = blob_name(text)
        if name not in self._known:
            self.append(Blob(digest=name, text=text))
            self._known.add(name)
        return name

    def close(self) -> None:
        """Free the file; nothing is pending, ever."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self._broken = self._broken or f"{self._path}: this attempt is over"

    def _encode(self, event: Event) -> bytearray:
        line = self._buffer
        try:
            self._encoder.encode_into(event, line)
        except (TypeError, ValueError, OverflowError) as error:
            raise StoreError(
                f"{self._path}: {type(event).__name__} is not JSON: {error}"
            ) from error
        seal(line)
        return line

    def _write(self, line: bytearray) -> None:
        """All of `line`, or nothing of it and StoreError."""
        try:
            written = os.write(self._file, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, f"only {written} of {len(line)} bytes were written")
            if self._fsync:
                os.fsync(self._file)
            self._size += written
        except OSError as error:
            self._undo(error)
            raise StoreError(self._broken) from error

    def _undo(self, error: OSError) -> None:
        self._broken = (
            f"{self._path}: cannot be written: {error}; make room (or mend the disk), "
            "then resume the run"
        )
        try:
            os.ftruncate(self._file, self._size)
        except OSError as second:
            # Readers ignore a torn tail, so this costs nothing but the sight of it.
            self._broken += f" (its torn tail stays: {second})"


__all__ = ["Journal", "KnownBlobs", "Totals", "iter_events", "read_events"]
