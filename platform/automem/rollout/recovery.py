"""From a journal back to a running episode: the fold that a resumed attempt starts from.

Promise: memory text, actions and the step under way are what the last whole record says, checked by
the hash chain of edits. Streaming: what is kept grows with the size of memory and by a few bytes
per step (its action and a digest of what the world said), never with the turns. Not covered:
rebuilding the world, which `episode` does by replaying the actions against those digests.
"""

import sys
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from automem.agent.gating.keeper import found_in
from automem.agent.recorder import RECENT_STEPS, History, LastStep
from automem.errors import StoreError
from automem.memory.edits import apply_edit
from automem.memory.ops import Edit
from automem.rollout.chain import ChainHead, decode, iter_lines
from automem.rollout.journal import KnownBlobs
from automem.rollout.redactions import redacted_observations
from automem.trace.blobs import CHAIN_START, blob_name, is_blob_name, next_link
from automem.trace.events import (
    INLINE_CHARS,
    SCHEMA,
    Attempt,
    Blob,
    Committed,
    Ended,
    EpisodeStarted,
    Event,
    Failed,
    Gated,
    MemoryChanged,
    Observed,
    OpDone,
    Outcome,
    ToolUsed,
    Turn,
)

_BLOB_START = b'{"kind":"blob","digest":"'


@dataclass(slots=True)
class Recovered:
    """What a journal says."""

    head: ChainHead | None = None
    """Where the next attempt goes on; None where nothing was written."""
    started: EpisodeStarted | None = None
    history: History | None = None
    outcome: Outcome | None = None
    """The world's last recorded answer; None before the first."""
    ended: Ended | None = None
    player_failure: Failed | None = None
    """A failure of the player whose `Ended` was not written any more."""
    known: KnownBlobs = field(default_factory=KnownBlobs)
    observed: "array[int]" = field(default_factory=lambda: array("q"))
    """One `digest_of` per recorded observation, step 0 first."""
    redacted: dict[int, str] = field(default_factory=dict)
    """Steps whose observation was masked later, and the name of what the world had said."""

    @property
    def steps(self) -> int:
        """Actions that the world is known to have executed: its answer was recorded."""
        return max(0, len(self.observed) - 1)

    @property
    def reached(self) -> float:
        """Progression as last recorded; 0 where nothing was."""
        return self.outcome.progression if self.outcome is not None else 0.0

    def as_recorded(self, observation: str) -> str:
        """What the agent sees of the step under way, which the world has replayed to: the masked
        text where something was forgotten."""
        pending = self.history.pending if self.history is not None else ()
        first = pending[0] if pending else None
        if isinstance(first, Observed) and first.step in self.redacted:
            return first.observation
        return observation


def stored_name(text: str) -> str:
    """How `Recorder.text` stores a text: itself or the name of its blob."""
    return text if len(text) <= INLINE_CHARS and not is_blob_name(text) else blob_name(text)


def digest_of(observation: str, outcome: Outcome) -> int:
    """What a replayed step is compared by; `observation` as the journal has it (`stored_name`).
    Valid in this process only."""
    return hash((observation, outcome.progression, outcome.terminated, outcome.truncated))


def recover(directory: Path) -> Recovered:
    """Fold the journal of the episode in `directory`. StoreError where it is damaged."""
    fold = _Fold(redacted_observations(directory))
    records, epoch = 0, 0
    for line in iter_lines(directory):
        event = decode(line)
        records += 1
        if isinstance(event, Attempt):
            epoch = event.epoch
        fold.add(event)
    found = fold.found
    if records:
        found.head = ChainHead(epoch, records)
        found.history = _resolve_texts(fold.history(), directory)
    return found


class _Fold:
    """The events so far, as one state."""

    def __init__(self, redacted: dict[int, str]) -> None:
        self.found = Recovered(redacted=redacted)
        self._files: dict[str, str] = {}
        self._chain = CHAIN_START
        self._actions: list[str] = []
        self._recent: deque[LastStep] = deque(maxlen=RECENT_STEPS)
        self._pending: list[Event] = []
        self._is_touched = False
        """Whether a command from outside changed memory: never before the initial files."""

    def add(self, event: Event) -> None:
        match event:
            case Blob():
                self.found.known.add(event.digest)
            case OpDone():
                if event.edit is not None:
                    self._edit(event.edit, event.chain)
                self._in_step(event)
            case MemoryChanged():
                self._edit(event.edit, event.chain)
                if self.found.outcome is not None:
                    self._in_step(event)
            case ToolUsed():
                self._use_tool(event)
            case Turn() | Gated():
                self._in_step(event)
            case Observed():
                self._observe(event)
            case Committed():
                self._commit(event)
            case EpisodeStarted():
                self._start(event)
            case Failed():
                self.found.player_failure = None if event.is_infrastructure else event
            case Ended():
                self.found.ended = event
            case Attempt():
                pass

    def history(self) -> History:
        return History(
            files=self._files,
            chain=self._chain,
            actions=tuple(self._actions),
            recent=tuple(self._recent),
            pending=tuple(self._pending),
            initialised=self.found.outcome is not None or self._is_touched,
        )

    def _start(self, event: EpisodeStarted) -> None:
        if event.schema != SCHEMA:
            raise StoreError(
                f"episode {event.episode} has schema {event.schema}, this version writes {SCHEMA}"
            )
        self.found.started = event

    def _observe(self, event: Observed) -> None:
        if event.step != len(self._actions):
            raise StoreError(f"the journal observes step {event.step} at step {len(self._actions)}")
        self.found.outcome = event.outcome
        seen = self.found.redacted.get(event.step, event.observation)
        self.found.observed.append(digest_of(seen, event.outcome))
        self._pending = [event]

    def _commit(self, event: Committed) -> None:
        if not self._pending or event.step != len(self._actions):
            raise StoreError(f"the journal commits step {event.step} at step {len(self._actions)}")
        observed = self._pending[0]
        if not isinstance(observed, Observed):
            raise StoreError(f"step {event.step} of the journal begins without an observation")
        gated = next((each for each in self._pending if isinstance(each, Gated)), None)
        found = found_in(self._pending) if gated else -1
        self._recent.append(
            LastStep(event.step, observed.observation, event.action, observed.outcome, gated, found)
        )
        self._actions.append(sys.intern(event.action))
        self._pending = []

    def _use_tool(self, event: ToolUsed) -> None:
        if self._pending:
            raise StoreError(f"the journal has a command from outside in step {event.step}")
        self._is_touched = True
        for edit in event.edits:
            self._apply(edit)
        self._check_chain(event.chain, event.command)

    def _edit(self, edit: Edit, chain: str) -> None:
        self._apply(edit)
        self._check_chain(chain, edit.file)

    def _check_chain(self, chain: str, what: str) -> None:
        if self._chain != chain:
            raise StoreError(
                f"the chain of edits breaks in step {len(self._actions)} ({what}): the "
                f"journal says {chain}, its edits give {self._chain}"
            )

    def _apply(self, edit: Edit) -> None:
        self._chain = next_link(self._chain, edit)
        text = apply_edit(self._files.get(edit.file), edit)
        if text is None:
            self._files.pop(edit.file, None)
        else:
            self._files[edit.file] = text

    def _in_step(self, event: Event) -> None:
        if not self._pending:
            raise StoreError(
                f"the journal has {type(event).__name__} outside of a step, after step "
                f"{len(self._actions) - 1}"
            )
        self._pending.append(event)


def _resolve_texts(history: History, directory: Path) -> History:
    """`history` with the texts that its blob names stand for, found in a second reading."""
    names = {last.observation for last in history.recent if is_blob_name(last.observation)}
    for event in history.pending:
        names.update(name for name in _texts_of(event) if is_blob_name(name))
    texts = _find_blobs(names, directory)
    return msgspec.structs.replace(
        history,
        recent=tuple(
            msgspec.structs.replace(last, observation=texts.get(last.observation, last.observation))
            for last in history.recent
        ),
        pending=tuple(_with_texts(event, texts) for event in history.pending),
    )


def _find_blobs(names: set[str], directory: Path) -> dict[str, str]:
    """Texts by name; only the blobs asked for are decoded."""
    wanted = {name.encode() for name in names}
    found: dict[str, str] = {}
    start, length = len(_BLOB_START), 34
    if wanted:
        for line in iter_lines(directory):
            if line.startswith(_BLOB_START) and line[start : start + length] in wanted:
                event = decode(line)
                if isinstance(event, Blob):
                    found.setdefault(event.digest, event.text)
    if missing := names - found.keys():
        raise StoreError(f"{directory.name}: the journal lacks the texts {sorted(missing)}")
    return found


def _texts_of(event: Event) -> Iterator[str]:
    """The fields that a session stores by `Recorder.text`, as far as steps under way have them."""
    if isinstance(event, Observed):
        yield event.observation
    elif isinstance(event, Turn):
        yield event.completion
        yield from (text for _, text in event.prompt)


def _with_texts(event: Event, texts: dict[str, str]) -> Event:
    if isinstance(event, Observed):
        observation = texts.get(event.observation, event.observation)
        return msgspec.structs.replace(event, observation=observation)
    if isinstance(event, Turn):
        return msgspec.structs.replace(
            event,
            completion=texts.get(event.completion, event.completion),
            prompt=[(role, texts.get(text, text)) for role, text in event.prompt],
        )
    return event
