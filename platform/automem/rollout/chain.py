"""Reading journals: which records, of which attempts' files, are the episode.

`EPISODE/journal/0003.jsonl` holds what attempt (epoch) 3 wrote; its first record, `Attempt`, says
"the first K records of epoch P's own chain come before me". The newest epoch whose `Attempt` can be
read wins. Promise: any prefix of a file that a dying writer may leave reads as the whole records in
it; everything a newer attempt cut off is ignored; a record that is damaged with valid ones after it
is a StoreError that says where, for that is a broken disk and no death.

Streaming holds one record at a time. Not covered: repair of damaged records.
"""

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from automem.errors import StoreError
from automem.trace.events import Attempt, Event

JOURNAL_FOLDER = "journal"
_CRC_KEY = b',"crc":"'
_TAIL_BYTES = len(b',"crc":"01234567"}\n')
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


class ChainHead(NamedTuple):
    """Where a chain was read up to: the parent of the next attempt."""

    epoch: int
    records: int
    """Records of the whole chain up to here."""


class Piece(NamedTuple):
    """Part of a chain: the first `take` records of a file (None: all that are whole)."""

    path: Path
    epoch: int
    take: int | None


def journal_path(directory: Path, epoch: int) -> Path:
    """Where attempt `epoch` at the episode in `directory` writes."""
    return directory / JOURNAL_FOLDER / f"{epoch:04d}.jsonl"


def journal_epochs(directory: Path) -> list[int]:
    """Epochs that have a file, oldest first (an empty or torn file counts)."""
    try:
        names = os.listdir(directory / JOURNAL_FOLDER)
    except FileNotFoundError:
        return []
    stems = (name.removesuffix(".jsonl") for name in names if name.endswith(".jsonl"))
    return sorted(int(stem) for stem in stems if stem.isdigit())


def resolve(directory: Path) -> list[Piece]:
    """The pieces that make up the episode, oldest first; empty where nothing was written yet."""
    for epoch in reversed(journal_epochs(directory)):
        if pieces := resolve_from(directory, epoch):
            return pieces
    return []


def resolve_from(directory: Path, epoch: int) -> list[Piece]:
    """The pieces that attempt `epoch` took for the episode, its own last; empty where its writer
    died before it was opened."""
    attempt = _attempt_of(journal_path(directory, epoch))
    if attempt is None:
        return []
    before = _prefix(directory, attempt.parent_epoch, attempt.parent_records)
    return [*before, Piece(journal_path(directory, epoch), epoch, None)]


def iter_lines(directory: Path) -> Iterator[bytes]:
    """The episode's records as they are on disk (newline included), in order, checked."""
    for piece in resolve(directory):
        yield from _lines_of(piece)


def iter_events(directory: Path) -> Iterator[Event]:
    """The episode's events in order, one at a time."""
    for line in iter_lines(directory):
        yield decode(line)


def read_events(directory: Path) -> list[Event]:
    """All events of the episode in `directory`, in order; empty where nothing was written yet."""
    return list(iter_events(directory))


def last_event(directory: Path) -> Event | None:
    """The newest record, read from the end of the newest file: cheap in episodes of any length."""
    pieces = resolve(directory)
    if not pieces:
        return None
    with open(pieces[-1].path, "rb") as file:
        window = 1 << 16
        size = file.seek(0, os.SEEK_END)
        while True:
            file.seek(max(0, size - window))
            lines = file.read().splitlines(keepends=True)
            whole = lines if size <= window else lines[1:]
            for line in reversed(whole):
                if is_valid(line):
                    return decode(line)
            if size <= window:
                return None
            window *= 8


def decode(line: bytes) -> Event:
    """A valid record's event; StoreError where this version does not know it."""
    try:
        return _decoder.decode(line)
    except msgspec.DecodeError as error:
        raise StoreError(
            f"a journal record is whole but not understood ({error}): it was written by another "
            "version of this program; use that one, or migrate the run"
        ) from error


def seal(line: bytearray) -> None:
    """Make a record of an event's JSON, in place: the checksum as last field, and a newline."""
    del line[-1]
    line += b',"crc":"%08x"}\n' % zlib.crc32(line)


def encode(event: Event) -> bytes:
    """An event's record."""
    line = bytearray(msgspec.json.encode(event))
    seal(line)
    return bytes(line)


def is_valid(line: bytes) -> bool:
    """Whether `line` is a whole record with the right checksum."""
    return (
        len(line) > _TAIL_BYTES
        and line[-1:] == b"\n"
        and line[-_TAIL_BYTES : 8 - _TAIL_BYTES] == _CRC_KEY
        and line[-11:-3] == b"%08x" % zlib.crc32(memoryview(line)[:-_TAIL_BYTES])
    )


def _attempt_of(path: Path) -> Attempt | None:
    """The record that opens a file; None where its writer died before it was whole."""
    try:
        with open(path, "rb") as file:
            line = file.readline()
    except OSError as error:
        raise StoreError(f"{path} is no journal: {error}") from error
    if not is_valid(line):
        return None
    event = decode(line)
    if not isinstance(event, Attempt):
        raise StoreError(f"{path}: its first record must be an attempt, not {type(event).__name__}")
    return event


def _prefix(directory: Path, epoch: int, records: int) -> list[Piece]:
    """The first `records` records of the chain that ends in `epoch`'s file."""
    pieces: list[Piece] = []
    while records > 0:
        path = journal_path(directory, epoch)
        attempt = _attempt_of(path) if path.exists() else None
        if attempt is None or not attempt.parent_epoch < epoch:
            raise StoreError(f"{path}: a newer attempt continues it, but it is missing or damaged")
        inherited = min(records, attempt.parent_records)
        if records > inherited:
            pieces.append(Piece(path, epoch, records - inherited))
        epoch, records = attempt.parent_epoch, inherited
    pieces.reverse()
    return pieces


def _lines_of(piece: Piece) -> Iterator[bytes]:
    taken = 0
    with open(piece.path, "rb") as file:
        for number, line in enumerate(file, 1):
            if piece.take is not None and taken == piece.take:
                return
            if not is_valid(line):
                _refuse_damage(piece, number, any(is_valid(later) for later in file))
                return
            taken += 1
            yield line
    if piece.take is not None and taken < piece.take:
        _refuse_damage(piece, taken + 1, True)


def _refuse_damage(piece: Piece, number: int, is_inside: bool) -> None:
    """StoreError unless the invalid record is where a dying writer leaves one."""
    if is_inside or piece.take is not None:
        raise StoreError(
            f"{piece.path}: record {number} is damaged, with valid ones after it; the disk or "
            "something else changed the file. Restore it from a copy, or delete the episode's "
            "folder and resume the run: the episode is then played again from step 0"
        )
