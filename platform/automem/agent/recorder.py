"""What the session needs of a journal, and what it gets back after a death.

`automem.rollout.journal` implements it on disk; tests and the model's training data use the one
in memory.
"""

from typing import Protocol

import msgspec

from automem.trace.blobs import blob_name, is_blob_name
from automem.trace.events import INLINE_CHARS, Blob, Event, Gated, Outcome


class Recorder(Protocol):
    """Appends events; each is durable (against a kill) when `append` returns."""

    def append(self, event: Event) -> None:
        """Write one event; StoreError where it cannot, LeaseLostError where it may not."""
        ...

    def text(self, text: str) -> str:
        """`text` itself where it is short, else the name of its blob, written at first use."""
        ...


class LastStep(msgspec.Struct, frozen=True):
    """The last finished step, as far as the next one needs it."""

    step: int
    observation: str
    action: str
    outcome: Outcome
    gated: Gated | None = None
    """What a memory gate decided, where there is one."""
    found: int = -1
    """Lines that its look-ups in memory gave; -1 where there were none. Kept for gates."""


class History(msgspec.Struct, frozen=True):
    """What a journal holds of an unfinished episode, folded: where to go on.

    Texts are resolved (no blob names). `pending` are the events of the step that was under way,
    its `Observed` first; empty where the last event was a `Committed`."""

    files: dict[str, str]
    """The memory directory as the edits make it."""
    chain: str
    """Hash of the chain of edits so far."""
    actions: tuple[str, ...]
    """Every committed action from step 0 on: replay them to rebuild the world."""
    recent: tuple[LastStep, ...]
    """The last finished steps (those that have a commit), oldest first; at most `RECENT_STEPS`."""
    pending: tuple[Event, ...]
    initialised: bool
    """Whether the initial files were written (all of them)."""


RECENT_STEPS = 32


class MemoryRecorder:
    """A recorder that keeps events in a list: for tests and for making training data."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._blobs: set[str] = set()

    def append(self, event: Event) -> None:
        self.events.append(event)

    def text(self, text: str) -> str:
        if len(text) <= INLINE_CHARS and not is_blob_name(text):
            return text
        name = blob_name(text)
        if name not in self._blobs:
            self._blobs.add(name)
            self.append(Blob(digest=name, text=text))
        return name

    def remember_blobs(self) -> None:
        """Take the blobs among `events` as written, after they were set from outside."""
        self._blobs = {event.digest for event in self.events if isinstance(event, Blob)}
