"""An episode's journal with a fact masked: the same records, the same lengths, a chain that holds.

Every attempt's file is read with what it inherits. A fact may stand in memory though no record says
it in one piece (`17 ` was written, then `horse`): each character of a file is traced to the edit
that wrote it, and masked there. Named texts get the name of their masked content; links of the
chain of edits are computed anew. A turn whose completion is masked loses its token ids and
log-probabilities, which spell the same text: it can be trained on no more. Not covered: records
that were damaged.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import msgspec

from automem.audit.needle import MASK, Needle
from automem.audit.texts import Masker
from automem.errors import StoreError, UsageError
from automem.memory.edits import apply_edit
from automem.memory.ops import Edit
from automem.rollout.chain import (
    decode,
    encode,
    is_valid,
    journal_epochs,
    journal_path,
    resolve_from,
)
from automem.rollout.redactions import Redaction, digest
from automem.trace.blobs import CHAIN_START, blob_name, is_blob_name, next_link
from automem.trace.events import (
    Blob,
    Committed,
    EpisodeStarted,
    Event,
    MemoryChanged,
    Observed,
    OpDone,
    ToolUsed,
    Turn,
)

Place: TypeAlias = tuple[int, int]
"""Epoch of a file and index of a record in it, from 0."""
Letter: TypeAlias = tuple[int, int, int, int]
"""A character of an edit: epoch, record, which of the record's edits, offset in `inserted`."""


@dataclass(slots=True)
class MaskedJournal:
    """What came of an episode's journal; nothing is written yet."""

    files: dict[Path, bytes] = field(default_factory=dict)
    """New content of the files that change."""
    redactions: list[Redaction] = field(default_factory=list)
    occurrences: int = 0
    turns: set[tuple[int, int]] = field(default_factory=set)
    """(step, turn) of the turns whose completion was masked."""
    forgotten: dict[tuple[int, int], int] = field(default_factory=dict)
    """(epoch, step) to the first turn of it that was masked."""
    actions: list[int] = field(default_factory=list)
    """Steps whose committed action holds the fact."""


class JournalRedactor:
    """Masks the journal of the episode in `directory`; `renames` collects new names of texts."""

    def __init__(self, directory: Path, needle: Needle, renames: dict[str, str]) -> None:
        self._needle = needle
        self._renames = renames
        self._masker = Masker(needle, renames)
        self._epochs = journal_epochs(directory)
        self._directory = directory
        self._lines = {
            epoch: _whole_lines(journal_path(directory, epoch)) for epoch in self._epochs
        }
        self._events = {
            epoch: [decode(line) for line in lines] for epoch, lines in self._lines.items()
        }
        self._orders = {epoch: list(self._order(epoch)) for epoch in self._epochs}
        self._letters: dict[Place, dict[int, set[int]]] = {}
        """Record to, for each of its edits, offsets to be masked."""

    def is_touched(self) -> bool:
        """Whether the journal holds the fact, in one piece or in memory."""
        for epoch in self._epochs:
            self._trace(epoch)
        events = (event for events in self._events.values() for event in events)
        return (
            bool(self._letters)
            or any(self._differs(event) for event in events)
            or any(self._needle.is_in(self._torn(epoch)) for epoch in self._epochs)
        )

    def kept(self) -> dict[Path, int]:
        """Files in which names and keys hold the fact, and in how many records: they stay."""
        found: dict[Path, int] = {}
        for epoch, lines in self._lines.items():
            for event, line in zip(self._events[epoch], lines, strict=True):
                if not self._needle.is_in(line.decode()):
                    continue
                names = Masker(self._needle)
                names.event(msgspec.to_builtins(event))
                if names.kept:
                    path = journal_path(self._directory, epoch)
                    found[path] = found.get(path, 0) + 1
        return found

    def _differs(self, event: Event) -> bool:
        plain = msgspec.to_builtins(event)
        return Masker(self._needle).event(plain) != plain

    def _torn(self, epoch: int) -> str:
        """What a dying writer left behind the last whole record."""
        data = journal_path(self._directory, epoch).read_bytes()
        return data[sum(map(len, self._lines[epoch])) :].decode(errors="replace")

    def redact(self, name: str, time: float) -> MaskedJournal:
        """The masked journal; call `is_touched` first."""
        made = MaskedJournal()
        for events in self._events.values():
            for event in events:
                if isinstance(event, Blob):
                    text = self._masker.text(event.text)
                    if text != event.text:
                        self._renames[event.digest] = blob_name(text)
        new = {
            epoch: [self._masked((epoch, i), event, made) for i, event in enumerate(events)]
            for epoch, events in self._events.items()
        }
        masked = {
            epoch: [i for i, event in enumerate(events) if event != self._events[epoch][i]]
            for epoch, events in new.items()
        }
        for epoch in self._epochs:
            self._relink(epoch, new)
        observations = self._observations(new)
        for epoch in self._epochs:
            self._finish(epoch, new[epoch], masked[epoch], observations, name, time, made)
        return made

    def _order(self, epoch: int) -> Iterator[Place]:
        """Every record that counts for an attempt, inherited ones first."""
        for piece in resolve_from(self._directory, epoch):
            count = len(self._lines[piece.epoch]) if piece.take is None else piece.take
            yield from ((piece.epoch, index) for index in range(count))

    def _trace(self, epoch: int) -> None:
        """Fold the edits of an attempt's chain, and note whose characters spell the fact."""
        files: dict[str, str] = {}
        letters: dict[str, list[Letter]] = {}
        for place in self._orders[epoch]:
            for number, edit in enumerate(edits_of(self._event(place))):
                text = apply_edit(files.get(edit.file), edit)
                if text is None:
                    files.pop(edit.file, None)
                    letters.pop(edit.file, None)
                    continue
                files[edit.file] = text
                row = letters.setdefault(edit.file, [])
                own = [(*place, number, offset) for offset in range(len(edit.inserted))]
                row[edit.start : edit.start + edit.removed] = own
                self._note(text, edit, row)

    def _note(self, text: str, edit: Edit, row: list[Letter]) -> None:
        first = text.rfind("\n", 0, edit.start) + 1
        last = text.find("\n", edit.start + len(edit.inserted))
        window = text[first : len(text) if last < 0 else last]
        for start, stop in self._needle.spans(window):
            for epoch, record, number, offset in row[first + start : first + stop]:
                at = self._letters.setdefault((epoch, record), {})
                at.setdefault(number, set()).add(offset)

    def _event(self, place: Place) -> Event:
        return self._events[place[0]][place[1]]

    def _masked(self, place: Place, event: Event, made: MaskedJournal) -> Event:
        plain = msgspec.to_builtins(event)
        new = self._masker.event(plain)
        for number, offsets in self._letters.get(place, {}).items():
            edit = new["edits"][number] if isinstance(event, ToolUsed) else new["edit"]
            edit["inserted"] = "".join(
                MASK if i in offsets and c.isalnum() else c for i, c in enumerate(edit["inserted"])
            )
        if new == plain:
            return event
        made.occurrences += 1
        if isinstance(event, Turn):
            at = (place[0], event.step)
            made.forgotten[at] = min(event.turn, made.forgotten.get(at, event.turn))
            if any(new.get(said) != plain.get(said) for said in ("completion", "tool_calls")):
                new.pop("token_ids", None)
                new.pop("logprobs", None)
                made.turns.add((event.step, event.turn))
        if isinstance(event, Committed) and new["action"] != plain["action"]:
            made.actions.append(event.step)
        if isinstance(event, EpisodeStarted) and new["fallback_action"] != plain["fallback_action"]:
            made.actions.append(0)
        try:
            changed: Event = msgspec.convert(new, type(event))
        except msgspec.ValidationError as error:
            path = journal_path(self._directory, place[0])
            raise UsageError(
                f"{path}: record {place[1] + 1} would not be understood without the fact ({error}):"
                " give more of it, or --pattern"
            ) from error
        return changed

    def _relink(self, epoch: int, new: dict[int, list[Event]]) -> None:
        """Links of the attempt's own records; those it inherits were linked before."""
        chain = CHAIN_START
        for owner, index in self._orders[epoch]:
            event = new[owner][index]
            edits = edits_of(event)
            for edit in edits:
                chain = next_link(chain, edit)
            if edits and owner == epoch:
                new[owner][index] = msgspec.structs.replace(event, chain=chain)

    def _observations(self, new: dict[int, list[Event]]) -> dict[Place, tuple[int, str]]:
        """Masked observations: the step, and the name of what stood there."""
        found: dict[Place, tuple[int, str]] = {}
        for epoch, events in self._events.items():
            for index, event in enumerate(events):
                other = new[epoch][index]
                if (
                    isinstance(event, Observed)
                    and isinstance(other, Observed)
                    and event.observation != other.observation
                ):
                    old = event.observation
                    name = old if is_blob_name(old) else blob_name(old)
                    found[epoch, index] = (event.step, name)
        return found

    def _finish(
        self,
        epoch: int,
        events: list[Event],
        masked: list[int],
        observations: dict[Place, tuple[int, str]],
        name: str,
        time: float,
        made: MaskedJournal,
    ) -> None:
        lines = [
            encode(event) if event != self._events[epoch][i] else self._lines[epoch][i]
            for i, event in enumerate(events)
        ]
        changed = [i for i, line in enumerate(lines) if line != self._lines[epoch][i]]
        path = journal_path(self._directory, epoch)
        before, after = path.read_bytes(), b"".join(lines)
        if not changed and not self._needle.is_in(self._torn(epoch)):
            return
        made.files[path] = after
        made.redactions.append(
            Redaction(
                id=name,
                time=time,
                file=path.name,
                first=changed[0] + 1 if changed else 0,
                last=changed[-1] + 1 if changed else 0,
                masked=[i + 1 for i in masked],
                old=digest(before),
                new=digest(after),
                observations={
                    step: text
                    for (owner, _), (step, text) in observations.items()
                    if owner == epoch
                },
                turns={
                    step: turn for (owner, step), turn in made.forgotten.items() if owner == epoch
                },
            )
        )


def edits_of(event: Event) -> list[Edit]:
    """The changes of memory that an event makes, in order."""
    if isinstance(event, ToolUsed):
        return list(event.edits)
    if isinstance(event, OpDone | MemoryChanged) and event.edit is not None:
        return [event.edit]
    return []


def _whole_lines(path: Path) -> list[bytes]:
    """The records of a file; a torn last one is left out. StoreError for damage inside."""
    lines = path.read_bytes().splitlines(keepends=True)
    valid = [is_valid(line) for line in lines]
    if not all(valid[:-1]):
        raise StoreError(
            f"{path}: record {valid.index(False) + 1} is damaged, with others after it: restore "
            "the file, or delete the episode's folder"
        )
    return lines if not valid or valid[-1] else lines[:-1]


__all__ = ["JournalRedactor", "MaskedJournal", "edits_of"]
