"""Who may write an episode: one lease per attempt, with an epoch that only grows.

`acquire` compares and sets under an flock and replaces `lease.json` atomically; whoever held the
lease before has lost it, alive or not, and finds out at its next write. So a worker that stalled
and wakes up does no harm: its writes are refused, and what slips in between check and write lands
in its own epoch's file, behind the point where the newer attempt cut off (see `journal`).

The flock is held only for the moments of acquiring and finishing, never while playing: a stopped
process must not be able to keep others out. Not covered: file systems without flock or with a
stale attribute cache (some NFS mounts); several nodes then own episodes by the leases that
`segments` keeps in object storage.
"""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from automem.errors import LeaseLostError, StoreError

LEASE_FILE = "lease.json"
LOCK_FILE = "lease.lock"
LOCK_WAIT_S = 2.0


class LeaseRecord(msgspec.Struct, frozen=True):
    """What `lease.json` says: the newest attempt at the episode."""

    epoch: int
    host: str
    pid: int
    time: float


class Lease:
    """The right to write one episode in one epoch."""

    __slots__ = ("_directory", "_path", "_seen", "epoch")

    def __init__(self, directory: Path, epoch: int) -> None:
        self.epoch = epoch
        self._directory = directory
        self._path = str(directory / LEASE_FILE)
        self._seen = _stamp(self._path)

    def check(self) -> None:
        """LeaseLostError where a newer attempt owns the episode. One `stat` while unchanged."""
        if _stamp(self._path) != self._seen:
            self._read_again()

    @contextmanager
    def held(self) -> Iterator[None]:
        """No other attempt can begin meanwhile; for the few moves that finish an episode."""
        with _locked(self._directory):
            self.check()
            yield

    def _read_again(self) -> None:
        seen = _stamp(self._path)
        current = read_lease(self._directory)
        if current is None or current.epoch != self.epoch:
            owner = f"epoch {current.epoch} ({current.host}:{current.pid})" if current else "nobody"
            raise LeaseLostError(
                f"{self._directory.name}: epoch {self.epoch} lost its lease to {owner}"
            )
        self._seen = seen


def acquire(directory: Path, above: int = 0) -> Lease:
    """Begin a new attempt: the epoch after the newest one, and after `above` (epochs known from
    journal files or from a store, in case `lease.json` was lost)."""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(directory):
            current = read_lease(directory)
            epoch = max(above, current.epoch if current else 0) + 1
            _write(directory, LeaseRecord(epoch, socket.gethostname(), os.getpid(), time.time()))
            return Lease(directory, epoch)
    except OSError as error:
        raise StoreError(f"{directory}: cannot take the lease: {error}") from error


def read_lease(directory: Path) -> LeaseRecord | None:
    """The newest lease, or None where there is none (or none that can be read)."""
    try:
        return msgspec.json.decode((directory / LEASE_FILE).read_bytes(), type=LeaseRecord)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _write(directory: Path, record: LeaseRecord) -> None:
    temporary = directory / f".{LEASE_FILE}.{record.epoch}"
    temporary.write_bytes(msgspec.json.encode(record))
    os.replace(temporary, directory / LEASE_FILE)


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_ino, status.st_size)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory / LOCK_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        _wait_for_lock(descriptor, directory)
        yield
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, directory: Path) -> None:
    """Take the flock; its holders need microseconds, so one who does not yield was stopped."""
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StoreError(
                    f"{directory / LOCK_FILE} is held by a process that does not go on; end it"
                ) from None
            time.sleep(0.002)
