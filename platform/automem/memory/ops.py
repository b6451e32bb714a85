"""The operations: the actions by which an agent reads, searches and writes its memory.

Each is a small frozen type; `automem.memory.execute` carries them out, dialects spell them. An
operation names files by their path inside the memory directory and knows nothing of a disk.
"""

from enum import StrEnum
from typing import TypeAlias

import msgspec


class Op(msgspec.Struct, frozen=True, tag_field="op", tag=str.upper):
    """Base of all operations; in JSON, `op` names the type: `{"op": "READ", "file": "map.txt"}`."""

    @property
    def name(self) -> str:
        """The operation's name as scaffolds, dialects and traces spell it."""
        return type(self).__name__.upper()


class Read(Op, frozen=True):
    """The whole file."""

    file: str


class Search(Op, frozen=True):
    """Lines holding `keyword` (case-insensitive substring). `file="*"` searches every file."""

    file: str
    keyword: str


class Tail(Op, frozen=True):
    """The last `lines` lines; 0 gives none."""

    file: str
    lines: int


class Count(Op, frozen=True):
    """How many lines hold `keyword`."""

    file: str
    keyword: str


class List(Op, frozen=True):
    """Every file with its number of lines."""


class Append(Op, frozen=True):
    """Add `text` as new lines at the end; the file is created where it is missing."""

    file: str
    text: str


class Write(Op, frozen=True):
    """Make `text` the whole content."""

    file: str
    text: str


class Create(Op, frozen=True):
    """Make an empty file; an error where it exists."""

    file: str


class Upsert(Op, frozen=True):
    """Set the one line that starts with `key`: replaced where it exists, else appended.

    The line written is `key` + separator + `text`; the separator is the file schema's (": ")."""

    file: str
    key: str
    text: str


class Replace(Op, frozen=True):
    """Replace the only occurrence of `old` by `new`; an error where it occurs never or twice."""

    file: str
    old: str
    new: str


class Delete(Op, frozen=True):
    """Remove the file."""

    file: str


AnyOp: TypeAlias = (
    Read | Search | Tail | Count | List | Append | Write | Create | Upsert | Replace | Delete
)

OPS: dict[str, type[Op]] = {
    t.__name__.upper(): t
    for t in (Read, Search, Tail, Count, List, Append, Write, Create, Upsert, Replace, Delete)
}
"""Name to type, in the order of the documentation."""

READING = frozenset({"READ", "SEARCH", "TAIL", "COUNT", "LIST"})
"""Operations that never change memory."""


class OpStatus(StrEnum):
    """How an operation ended."""

    OK = "ok"
    """Done; for reading operations something was returned."""
    EMPTY = "empty"
    """A reading operation that found nothing: no match, an empty file, TAIL 0."""
    UNCHANGED = "unchanged"
    """A write that left memory as it was (the upserted line was already there, say)."""
    ERROR = "error"
    """Refused; nothing changed. The text says what to do."""


class Edit(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change of one file, as the journal stores it: the text at `start` of length `removed`
    (both in characters) becomes `inserted`. Growth is that of the change, not of the file.

    `file` was created by this edit where `creates`, and is gone where `deletes`."""

    file: str
    start: int = 0
    removed: int = 0
    inserted: str = ""
    creates: bool = False
    deletes: bool = False


class OpResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an operation gave.

    `text` is what the model will read, capped; `lines` are the 1-based numbers of the file lines
    it shows, per file, in order (provenance: which written lines came back)."""

    status: OpStatus
    text: str
    lines: dict[str, list[int]] = {}
    cut: int = 0
    """Lines that a cap left out of `text`; the text says so too."""
