"""Which seeds a loop has used: an append-only file, so that confirm seeds are used once.

Promise: `take` never hands out a seed twice for different purposes, whatever process died in
between; a draw is recorded before its seeds are returned. Asking again for the same purpose returns
the same seeds, so a killed loop goes on with what it had drawn. The `final` range is out of reach.
"""

from pathlib import Path

import msgspec

from automem.errors import UsageError
from automem.loops.records import Records
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
        self._records = Records(path, Draw)

    def take(self, range_name: SeedRange, count: int, purpose: str) -> list[int]:
        """`count` fresh seeds of a range for `purpose` (or those it was given before)."""
        if range_name not in _ALLOWED:
            raise UsageError(f"no loop may draw seeds of the range {range_name!s}")

        def draw(draws: list[Draw]) -> Draw:
            same_range = [d for d in draws if d.range == range_name]
            for known in same_range:
                if known.purpose == purpose:
                    return _same_size(known, count)
            offset = max((d.offset + d.count for d in same_range), default=0)
            return Draw(purpose, range_name, offset, count)

        return self._records.append_after(draw).seeds

    def draws(self) -> list[Draw]:
        """Everything handed out so far."""
        return self._records.all()


def _same_size(known: Draw, count: int) -> Draw:
    if known.count != count:
        raise UsageError(
            f"{known.purpose} was given {known.count} {known.range!s} seeds before and asks for "
            f"{count} now: its settings changed in the middle of the loop"
        )
    return known
