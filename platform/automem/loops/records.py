"""An append-only file of records, one JSON line each: what loops remember across deaths.

Promise: when `append` returns, the record is on disk; a torn last line never happened; a file that
holds anything else than whole records is refused. Writers take a lock, so two processes never
interleave.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from automem.errors import StoreError

RecordType = TypeVar("RecordType", bound=msgspec.Struct)


class Records(Generic[RecordType]):
    """The records of one type in one file."""

    def __init__(self, path: Path, kind: type[RecordType]) -> None:
        self._path = path
        self._kind = kind

    def all(self) -> list[RecordType]:
        """Every record so far, oldest first."""
        if not self._path.exists():
            return []
        return self._parse(self._path.read_bytes())[0]

    def append(self, record: RecordType) -> None:
        """Add one record."""
        with self._locked() as descriptor:
            self._write(descriptor, record)

    def append_after(self, make: Callable[[list[RecordType]], RecordType]) -> RecordType:
        """Add what `make` makes of the records so far, nobody writing in between. A record that is
        among them already (the same object) is returned and not written again."""
        with self._locked() as descriptor:
            data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            records = self._parse(data)[0]
            record = make(records)
            if not any(record is known for known in records):
                self._write(descriptor, record)
            return record

    @contextmanager
    def _locked(self) -> Iterator[int]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _write(self, descriptor: int, record: RecordType) -> None:
        size = os.fstat(descriptor).st_size
        os.ftruncate(descriptor, self._parse(os.pread(descriptor, size, 0))[1])
        line = msgspec.json.encode(record) + b"\n"
        if os.write(descriptor, line) < len(line):
            raise StoreError(f"{self._path}: the disk is full; free some space and go on")
        os.fsync(descriptor)

    def _parse(self, data: bytes) -> tuple[list[RecordType], int]:
        """The records of the whole lines, and where those end."""
        whole = data.rfind(b"\n") + 1
        try:
            lines = data[:whole].splitlines()
            return [msgspec.json.decode(line, type=self._kind) for line in lines], whole
        except msgspec.DecodeError as error:
            raise StoreError(f"{self._path} is damaged: {error}") from error
