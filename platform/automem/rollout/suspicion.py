"""Which episode took its worker down: found without any cost per step.

The journal tells. A process in a world has written nothing since it committed the action (or since
the attempt began, while the world is built, reset and replayed), so an episode whose last record is
one of those was, perhaps, in its world when the worker was lost. Suspicion is cheap and may hit the
innocent: it only leads to a worker of the episode's own, and there a loss is proof.
"""

import time
from collections import Counter
from pathlib import Path

from automem.errors import StoreError, WorldError
from automem.rollout import lease as leases
from automem.rollout.chain import journal_epochs, last_event
from automem.rollout.journal import Journal
from automem.rollout.recovery import recover
from automem.trace.events import Attempt, Committed, EpisodeStarted, Failed, MemoryChanged

LOSSES_TO_ISOLATION = 5
"""Lost workers after which an episode plays alone even if never under suspicion."""


class Suspicion:
    """What lost workers say about the episodes that they were playing."""

    def __init__(self, strikes_to_isolation: int) -> None:
        self._strikes_to_isolation = strikes_to_isolation
        self._strikes: Counter[str] = Counter()
        self._losses: Counter[str] = Counter()

    def note_loss(self, directory: Path) -> None:
        """A worker that was playing the episode in `directory` is gone."""
        self._losses[directory.name] += 1
        if was_in_world(directory):
            self._strikes[directory.name] += 1

    def must_play_alone(self, episode: str) -> bool:
        """Whether it may not share a worker any more."""
        return (
            self._strikes[episode] >= self._strikes_to_isolation
            or self._losses[episode] >= LOSSES_TO_ISOLATION
        )


def was_in_world(directory: Path) -> bool:
    """Whether the episode's last record leaves it in (or on the way into) its world."""
    try:
        last = last_event(directory)
    except StoreError:
        return False
    if isinstance(last, MemoryChanged):
        return last.cause == "initial"
    return isinstance(last, Committed | Attempt | EpisodeStarted)


def record_conviction(directory: Path, error: str) -> None:
    """Leave in the trace why the episode is pending; its worker could not any more."""
    lease = leases.acquire(directory, max(journal_epochs(directory), default=0))
    found = recover(directory)
    journal = Journal(directory, lease, found.head, found.known)
    try:
        journal.append(Failed(found.steps, WorldError.boundary, error, True, time.time()))
    finally:
        journal.close()
