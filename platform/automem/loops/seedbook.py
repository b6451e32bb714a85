"""Which seeds a loop has used: an append-only file, so that confirm seeds are used once.

Promise: `take` never hands out a seed of a single-use range twice for the same book, whatever
process died in between; a request is recorded before its seeds are returned. Asking again for the
same purpose returns the same seeds, so a killed loop goes on with what it had drawn.
"""

import fcntl
import os
from pathlib import Path

import msgspec

from automem.errors import StoreError, UsageError
from automem.seeds import SeedRange, seeds_from

_ALLOWED = (SeedRange.TRAIN, SeedRange.SELECT, SeedRange.CONFIRM, SeedRange.REPORT)


class Draw(msgspec.Struct, frozen=True):
    """Seeds handed out for one purpose: `count` from the `offset`-th of a range on."""

    purpose: str
    range: SeedRange
    offset: int
    count: int

    @property
    def seeds(self) -> list[int]:
        return seeds_from(self.range, self.count, self.offset)


class SeedBook:
    """See the module's docstring."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self, range_name: SeedRange, count: int, purpose: str) -> list[int]:
        """`count` fresh seeds of a range for `purpose` (or those it was given before)."""
        if range_name not in _ALLOWED:
            raise UsageError(f"no loop may draw seeds of the range {range_name!s}")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            draws, whole = self._read(file.fileno())
            os.ftruncate(file.fileno(), whole)  # a torn last line was never handed out
            for draw in draws:
                if draw.purpose == purpose and draw.range == range_name:
                    if draw.count != count:
                        raise UsageError(
                            f"{purpose} was given {draw.count} {range_name!s} seeds before and "
                            f"asks for {count} now: its settings changed in the middle of the loop"
                        )
                    return draw.seeds
            offset = max((d.offset + d.count for d in draws if d.range == range_name), default=0)
            draw = Draw(purpose, range_name, offset, count)
            os.write(file.fileno(), msgspec.json.encode(draw) + b"\n")
            os.fsync(file.fileno())
        return draw.seeds

    def draws(self) -> list[Draw]:
        """Everything handed out so far."""
        if not self._path.exists():
            return []
        with open(self._path, "rb") as file:
            return self._read(file.fileno())[0]

    def _read(self, descriptor: int) -> tuple[list[Draw], int]:
        """The draws of the whole lines, and where those end."""
        data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        whole = data.rfind(b"\n") + 1
        try:
            lines = data[:whole].splitlines()
            return [msgspec.json.decode(line, type=Draw) for line in lines], whole
        except msgspec.DecodeError as error:
            raise StoreError(f"{self._path} is damaged: {error}") from error
