"""What was taken out of an episode's journal after it was written: `EPISODE/redactions.jsonl`.

A journal is never changed silently. Each record says which records of which file were masked, when,
and the digests of the file before and after; it names the digest of the record before it, so that a
record that is changed or left out shows. Promise: `check` tells whether the journal is what the
last redaction left. The fact is not kept, and no digest of it alone. Not covered: a forger who
writes journal and redactions anew (nothing is signed), and a guesser: the digest of a masked
observation tells whoever already knows the whole observation that he is right.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from automem.errors import StoreError

REDACTIONS = "redactions.jsonl"
PLAN = ".forget/plan.json"
"""Written below the folder in which something is being forgotten, until it is."""
START = "0" * 32
FORGOTTEN = "forgotten"
"""Why a selection leaves a turn out: see `forgotten_turns`."""


class Redaction(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a journal, redacted once."""

    id: str
    """Of the forgetting that did it: the same in every file."""
    time: float
    file: str
    first: int
    """First record that differs, from 1; `last` is the last one."""
    last: int
    masked: list[int]
    """Records in which text was masked; the others carry new names of texts or links of the chain
    of edits."""
    old: str
    """Digest of the file before (32 hex digits)."""
    new: str
    observations: dict[int, str] = {}
    """Step to the name (`b:...`) of the observation that stood there: a replay compares by it."""
    turns: dict[int, int] = {}
    """Step to the first of its turns that was masked: see `forgotten_turns`."""
    previous: str = START
    """Digest of the record before this one."""


def digest(data: bytes) -> str:
    """BLAKE2b of `data`, 32 hex digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def read_redactions(directory: Path) -> list[Redaction]:
    """The redactions of an episode, oldest first; StoreError where their chain is broken."""
    try:
        lines = (directory / REDACTIONS).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found, previous = [], START
    for number, line in enumerate(lines, 1):
        try:
            record = msgspec.json.decode(line, type=Redaction)
        except msgspec.DecodeError as error:
            raise StoreError(f"{directory / REDACTIONS}: record {number}: {error}") from error
        if record.previous != previous:
            raise StoreError(
                f"{directory / REDACTIONS}: record {number} does not follow the one before it; a "
                "record was changed or left out"
            )
        previous = digest(line)
        found.append(record)
    return found


def append_to(before: bytes, records: Sequence[Redaction]) -> bytes:
    """The file's content with `records` behind those of `before`."""
    lines = before.splitlines()
    for record in records:
        link = digest(lines[-1]) if lines else START
        lines.append(msgspec.json.encode(msgspec.structs.replace(record, previous=link)))
    return b"".join(line + b"\n" for line in lines)


def redacted_observations(directory: Path) -> dict[int, str]:
    """Step to the name of the observation as the world gave it, where the journal's is masked."""
    found: dict[int, str] = {}
    for record in read_redactions(directory):
        for step, name in record.observations.items():
            found.setdefault(step, name)
    return found


def forgotten_turns(directory: Path) -> dict[int, int]:
    """Step to its first turn that can be trained on no more: prompt or completion were masked, so
    the tokens are not known. Neither can its later turns, which continue it."""
    found: dict[int, int] = {}
    for record in read_redactions(directory):
        for step, turn in record.turns.items():
            found[step] = min(turn, found.get(step, turn))
    return found


def check(directory: Path) -> int:
    """StoreError where a redacted file is not what its last redaction left; how many are."""
    newest = {record.file: record.new for record in read_redactions(directory)}
    for file, expected in newest.items():
        path = directory / "journal" / file
        if path.exists() and digest(path.read_bytes()) != expected:
            raise StoreError(f"{path} was changed after its redaction")
    return len(newest)


def unfinished_plan(folder: Path) -> Path | None:
    """The folder, this one or one above it, in which a forgetting was cut short."""
    for place in (folder, *folder.absolute().parents[:4]):
        if (place / PLAN).exists():
            return place
    return None
