"""Memory as a trace tells it: the directory after any edit, and who wrote each of its lines.

Promise: folding an episode's edits gives the memory directory to the character, and every line
names the operation (or the scaffold's own change) that gave it its present content. A line that an
edit leaves as it was keeps its writer, also where it moved: rewriting a file does not claim what it
only repeats.
"""

from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from automem.memory.edits import apply_edit
from automem.memory.ops import Edit


class Writer(msgspec.Struct, frozen=True):
    """Who wrote a line: operation `index` of `turn` in `step`; `turn` -1 is the scaffold itself."""

    step: int
    turn: int = -1
    index: int = -1
    line: int = 0
    """Which of the lines that this operation wrote, from 0."""


class Change(msgspec.Struct, frozen=True):
    """What one edit did to the lines of its file."""

    file: str
    written: tuple[str, ...]
    """Lines as they now stand that were not there before, at that place."""
    removed: tuple[str, ...]
    """Lines that no longer stand there."""
    repeated: int
    """How many of `written` (blank ones aside) already stood elsewhere in the file."""
    lost: tuple[Writer, ...] = ()
    """Whose lines are gone: those of `removed` that the edit did not write again."""
    new: tuple[tuple[Writer, str], ...] = ()
    """Lines that this edit gave to the file, with their writer: those of `written` that it did not
    only repeat from `removed`."""


class Memory:
    """The memory directory of one episode at one moment; see the module's docstring."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self._lines: dict[str, list[str]] = {}
        self._writers: dict[str, list[Writer]] = {}
        self._counts: dict[str, dict[str, int]] = {}
        self.byte_count = 0

    def apply(self, edit: Edit, writer: Writer) -> Change:
        """Fold one edit."""
        file = edit.file
        old = self.files.get(file)
        new = apply_edit(old, edit)
        gone = old or "" if edit.deletes else (old or "")[edit.start : edit.start + edit.removed]
        self.byte_count += len(edit.inserted.encode()) - len(gone.encode())
        if new is None:
            removed = tuple(self._lines.pop(file, ()))
            self.files.pop(file, None)
            lost = tuple(self._writers.pop(file, ()))
            self._counts.pop(file, None)
            return Change(file, (), removed, 0, lost)
        self.files[file] = new
        lines = self._lines.setdefault(file, [])
        writers = self._writers.setdefault(file, [])
        first, last, written = _changed_lines(old or "", new, edit, lines)
        removed = tuple(lines[first:last])
        owners, lost, given = _inherit(removed, writers[first:last], written, writer)
        lines[first:last] = written
        writers[first:last] = owners
        repeated = self._recount(file, removed, written)
        return Change(file, tuple(written), removed, repeated, lost, given)

    def _recount(self, file: str, removed: Iterable[str], written: Iterable[str]) -> int:
        counts = self._counts.setdefault(file, {})
        for line in removed:
            counts[line.strip()] -= 1
        written = [line.strip() for line in written]
        repeated = sum(1 for line in written if line and counts.get(line, 0) > 0)
        for line in written:
            counts[line] = counts.get(line, 0) + 1
        return repeated

    def writer(self, file: str, line: int) -> Writer | None:
        """Who wrote line `line` (from 1) of `file`; None where there is no such line."""
        writers = self._writers.get(file, [])
        return writers[line - 1] if 1 <= line <= len(writers) else None

    def line(self, file: str, line: int) -> str:
        """Line `line` (from 1) of `file`, or an empty text."""
        lines = self._lines.get(file, [])
        return lines[line - 1] if 1 <= line <= len(lines) else ""

    def lines(self, file: str) -> list[str]:
        """The lines of a file as they stand; not to be changed."""
        return self._lines.get(file, [])

    @property
    def line_count(self) -> int:
        return sum(len(lines) for lines in self._lines.values())


def _inherit(
    removed: Sequence[str], owners: Sequence[Writer], written: Sequence[str], writer: Writer
) -> tuple[list[Writer], tuple[Writer, ...], tuple[tuple[Writer, str], ...]]:
    """Who owns the written lines; whose lines are gone; what `writer` gave to the file."""
    if not removed:
        ours = [_line_of(writer, number) for number in range(len(written))]
        return ours, (), tuple(zip(ours, written, strict=True))
    left: dict[str, deque[Writer]] = {}
    for line, owner in zip(removed, owners, strict=True):
        left.setdefault(line, deque()).append(owner)
    result: list[Writer] = []
    new: list[tuple[Writer, str]] = []
    for line in written:
        if left.get(line):
            result.append(left[line].popleft())
        else:
            result.append(_line_of(writer, len(new)))
            new.append((result[-1], line))
    kept = set(result)
    return result, tuple(owner for owner in owners if owner not in kept), tuple(new)


def _line_of(writer: Writer, number: int) -> Writer:
    return Writer(writer.step, writer.turn, writer.index, number) if number else writer


def _changed_lines(old: str, new: str, edit: Edit, lines: list[str]) -> tuple[int, int, list[str]]:
    """The old lines [first, last) that the edit replaces by the returned new ones; lines equal on
    both sides are trimmed off. Costs two searches and the change, not a comparison of the file."""
    first = old.count("\n", 0, edit.start)
    last = first + old.count("\n", edit.start, edit.start + edit.removed) + 1
    begin = old.rfind("\n", 0, edit.start) + 1
    old_end = old.find("\n", edit.start + edit.removed)
    tail = 0 if old_end < 0 else len(old) - old_end
    fragment = new[begin : len(new) - tail]
    # What a newline follows is lines, even where it is empty; at the end of a file it need not be.
    written = fragment.split("\n") if tail else split_lines(fragment)
    last = min(last, len(lines))
    while first < last and written and lines[first] == written[0]:
        first += 1
        written.pop(0)
    while first < last and written and lines[last - 1] == written[-1]:
        last -= 1
        written.pop()
    return first, last, written


def split_lines(text: str) -> list[str]:
    """The lines of a file: separated by newlines alone, a closing newline opening no further one
    (as the operations count them)."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines
